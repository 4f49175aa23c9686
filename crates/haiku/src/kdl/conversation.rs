//! What the kernel's debugger is asked after a panic.
//!
//! A state machine without input and output: it is told what a [`Reader`](super::Reader) found, and
//! says which bytes to send. Each command has an end: by the next prompt, by time, or by size. The
//! kernel is never left to run on: nothing that is asked changes it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::Event;
use super::report::{Kind, Panic};

/// Threads whose traces are asked for, other than the one that panicked.
const MOST_OTHERS: usize = 6;
/// Lines of the system log that are asked for.
const LOG_LINES: u32 = 40;

/// How much of everything there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time that one command may take.
    pub command: Duration,
    /// The time that all may take.
    pub total: Duration,
    /// Bytes of one command's output.
    pub output: usize,
}

impl Default for Limits {
    /// Generous: a list of areas takes seconds at 115200 baud.
    fn default() -> Self {
        Self { command: Duration::from_secs(20), total: Duration::from_secs(90), output: 1 << 20 }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// To send these bytes, with the carriage return that ends a command.
    Send(Vec<u8>),
    /// Nothing more: what there is to know has been asked, or a limit is reached.
    Done(End),
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was asked.
    Complete,
    /// A command, or all of them together, took too long.
    TimedOut,
    /// A command did not stop writing.
    TooLong,
    /// The debugger was left, or the machine started anew.
    Left,
}

/// A conversation that goes on. Times are those of any one clock.
#[derive(Debug)]
pub struct Conversation {
    limits: Limits,
    queue: VecDeque<String>,
    state: State,
    /// When it began, and when the command did that is being answered.
    began: Option<Duration>,
    asked: Duration,
    output: usize,
    /// Other threads that may have to do with it, by what the debugger lists.
    others: BTreeSet<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No prompt was seen.
    Before,
    /// A command was sent, and is being answered.
    Asked(Asked),
    Over(End),
}

/// What was asked, as far as its answer is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Running,
    Threads,
    Other,
}

impl Conversation {
    /// Makes one that has not begun.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            state: State::Before,
            began: None,
            asked: Duration::ZERO,
            output: 0,
            others: BTreeSet::new(),
        }
    }

    /// Takes what was found, with what is known of the panic then.
    pub fn event(
        &mut self,
        event: &Event<'_>,
        panic: impl FnOnce() -> Option<Panic>,
        now: Duration,
    ) -> Step {
        match (event, self.state) {
            (_, State::Over(end)) => Step::Done(end),
            (Event::Prompt, _) => self.prompt(panic, now),
            (Event::Line(line), State::Asked(asked)) => self.line(line, asked),
            (Event::Complete(_), State::Asked(_)) => self.end(End::Left),
            _ => Step::Wait,
        }
    }

    /// Says whether the time is up.
    pub fn time(&mut self, now: Duration) -> Step {
        match self.state {
            State::Over(end) => Step::Done(end),
            State::Asked(_) if self.deadline().is_some_and(|end| now >= end) => {
                self.end(End::TimedOut)
            }
            _ => Step::Wait,
        }
    }

    /// When the time will be up, while something is asked.
    pub fn deadline(&self) -> Option<Duration> {
        let State::Asked(_) = self.state else { return None };
        let command = self.asked.saturating_add(self.limits.command);
        Some(self.began?.saturating_add(self.limits.total).min(command))
    }

    fn end(&mut self, end: End) -> Step {
        self.state = State::Over(end);
        Step::Done(end)
    }

    fn prompt(&mut self, panic: impl FnOnce() -> Option<Panic>, now: Duration) -> Step {
        let panic = panic();
        if self.began.is_none() {
            self.began = Some(now);
            self.queue = first_commands(panic.as_ref());
        }
        if let Step::Done(end) = self.time(now) {
            return Step::Done(end);
        }
        if let State::Asked(Asked::Running | Asked::Threads) = self.state {
            let own = panic.and_then(|panic| panic.thread).map(|thread| thread.id);
            let others = std::mem::take(&mut self.others);
            for id in others.into_iter().filter(|id| Some(*id) != own).take(MOST_OTHERS) {
                let command = format!("bt {id}");
                if !self.queue.contains(&command) {
                    self.queue.push_back(command);
                }
            }
        }
        let Some(command) = self.queue.pop_front() else { return self.end(End::Complete) };
        self.state = State::Asked(match command.as_str() {
            "running" => Asked::Running,
            "threads" => Asked::Threads,
            _ => Asked::Other,
        });
        self.asked = now;
        self.output = 0;
        Step::Send(format!("{command}\r").into_bytes())
    }

    fn line(&mut self, line: &[u8], asked: Asked) -> Step {
        self.output += line.len() + 1;
        if self.output > self.limits.output {
            return self.end(End::TooLong);
        }
        let line = String::from_utf8_lossy(line);
        if let Some((id, waits)) = thread(&line)
            && self.others.len() < MOST_OTHERS
            && match asked {
                Asked::Running => !line.contains(" idle thread "),
                // Who waits for a lock may be the other half of a deadlock.
                Asked::Threads => waits,
                Asked::Other => false,
            }
        {
            self.others.insert(id);
        }
        Step::Wait
    }
}

/// `0xffffffff829c0e40      3  waiting   sem       6    …`: the number of a thread, and whether it
/// waits for a lock (src/system/kernel/thread.cpp, `_dump_thread_info`).
fn thread(line: &str) -> Option<(i32, bool)> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|word| word.starts_with("0x") && word.len() > 9)?;
    let id = words.next()?.parse().ok()?;
    let state = words.next()?;
    let waits = state == "waiting"
        && words.next().is_some_and(|what| matches!(what, "mutex" | "rwlock" | "rw_lock"));
    Some((id, waits))
}

fn first_commands(panic: Option<&Panic>) -> VecDeque<String> {
    // Without the first, the debugger waits for a key after each page of a screen that nobody sees.
    let mut commands: VecDeque<String> = ["paging off", "bt", "areas"].map(str::to_owned).into();
    commands.push_back("iframe".to_owned());
    // It is an add-on of the debugger, which may not be there.
    let guilty = panic.and_then(|panic| panic.guilty.as_ref());
    if let Some(guilty) = guilty.filter(|guilty| guilty.is_exact) {
        commands.push_back(format!("dis {:#x} 8", guilty.address));
    }
    commands.push_back("running".to_owned());
    let kind = panic.map(|panic| panic.kind);
    let may_be_deadlock = matches!(kind, Some(Kind::Lock | Kind::Nmi | Kind::Debugger) | None);
    commands.push_back(if may_be_deadlock { "threads" } else { "ints" }.to_owned());
    if may_be_deadlock {
        commands.push_back("ints".to_owned());
    }
    commands.push_back("image".to_owned());
    commands.push_back(format!("syslog | tail {LOG_LINES}"));
    commands
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Reader;
    use super::*;

    /// A debugger that answers as one did.
    struct Scripted {
        head: Vec<u8>,
        answers: HashMap<String, Vec<u8>>,
    }

    impl Scripted {
        /// Takes a log apart at its prompts.
        fn of(compressed: &[u8]) -> Self {
            let log = zstd::decode_all(compressed).unwrap();
            let log = String::from_utf8_lossy(&log).into_owned();
            let mut parts = log.split("kdebug> ");
            let head = parts.next().unwrap().as_bytes().to_vec();
            let mut answers = HashMap::new();
            for part in parts {
                let (command, output) = part.split_once("\r\n").unwrap_or((part, ""));
                answers.entry(command.to_owned()).or_insert_with(|| output.as_bytes().to_vec());
            }
            Self { head, answers }
        }

        fn answer(&self, command: &str) -> Vec<u8> {
            let mut bytes = format!("{command}\r\n").into_bytes();
            match self.answers.get(command) {
                Some(output) => bytes.extend_from_slice(output),
                None => bytes.extend_from_slice(b"Unknown command.\r\n\r\n"),
            }
            bytes.extend_from_slice(b"kdebug> ");
            bytes
        }
    }

    /// Talks until there is nothing more to say.
    fn talk(scripted: &Scripted, limits: Limits) -> (Vec<String>, End, Option<Panic>) {
        let mut reader = Reader::default();
        let mut conversation = Conversation::new(limits);
        let mut asked = Vec::new();
        let mut bytes = [&scripted.head[..], b"kdebug> "].concat();
        for second in 0.. {
            let now = Duration::from_secs(second);
            let mut events = Vec::new();
            reader.push(&bytes, |event| match event {
                Event::Line(line) => events.push(Some(line.to_vec())),
                Event::Prompt => events.push(None),
                _ => {}
            });
            let mut step = Step::Wait;
            for event in &events {
                let event = match event {
                    Some(line) => Event::Line(line),
                    None => Event::Prompt,
                };
                let next = conversation.event(&event, || reader.panic(), now);
                if next != Step::Wait {
                    step = next;
                }
            }
            match step {
                Step::Send(command) => {
                    let command = String::from_utf8(command).unwrap();
                    asked.push(command.strip_suffix('\r').unwrap().to_owned());
                    bytes = scripted.answer(asked.last().unwrap());
                }
                Step::Done(end) => return (asked, end, reader.panic()),
                Step::Wait => panic!("nothing to do after {asked:?}"),
            }
        }
        unreachable!()
    }

    fn session() -> Scripted {
        Scripted::of(include_bytes!("../../fixtures/serial/edu-driver-crash-kdl-session.log.zst"))
    }

    #[test]
    fn a_panic_is_asked_for_everything_that_places_it() {
        let (asked, end, panic) = talk(&session(), Limits::default());
        assert_eq!(end, End::Complete);
        let expected = [
            "paging off",
            "bt",
            "areas",
            "iframe",
            "dis 0xffffffff8209e172 8",
            "running",
            "ints",
            "image",
            "syslog | tail 40",
        ];
        assert_eq!(asked, expected);
        let panic = panic.unwrap();
        assert!(!panic.corrupted, "{:?}", panic.damage);
        assert_eq!(panic.guilty.unwrap().offset, Some(0x1172));
    }

    #[test]
    fn threads_that_may_hold_a_lock_are_asked_for_their_traces() {
        let mut scripted = Scripted::of(include_bytes!("../../fixtures/serial/kdl-spin.log.zst"));
        let threads = "thread    id  state     wait for  object    cpu pri  stack  team  name\r\n\
                       0xffffffff829c0e40     28  running   -    0 5 0 1 launch_daemon\r\n\
                       0xffffffff829c1c80      4  waiting   mutex  0xffffffff82001000 - 5 0 1 a\r\n\
                       0xffffffff829c8040     11  waiting   sem    12 - 10 0 1 b\r\n";
        scripted.answers.insert("threads".into(), threads.into());
        let bt = scripted.answers["bt"].clone();
        let bt =
            String::from_utf8(bt).unwrap().replace("thread 28 \"launch_daemon\"", "thread 4 \"a\"");
        scripted.answers.insert("bt 4".into(), bt.into_bytes());
        let (asked, end, panic) = talk(&scripted, Limits::default());
        assert_eq!(end, End::Complete);
        assert_eq!(asked.iter().filter(|command| command.starts_with("bt ")).count(), 1);
        let others = panic.unwrap().other_threads;
        assert_eq!(others.len(), 1);
        assert_eq!((others[0].thread.id, &*others[0].thread.name), (4, "a"));
    }

    #[test]
    fn it_ends_by_time_and_by_size() {
        let short = Limits { total: Duration::from_secs(3), ..Limits::default() };
        let (asked, end, _) = talk(&session(), short);
        assert_eq!((asked.len(), end), (3, End::TimedOut));
        let small = Limits { output: 4096, ..Limits::default() };
        let (asked, end, _) = talk(&session(), small);
        assert_eq!((asked.last().unwrap().as_str(), end), ("areas", End::TooLong));
        let mut silent = Conversation::new(Limits::default());
        assert_eq!(silent.time(Duration::from_secs(1000)), Step::Wait);
        let step = silent.event(&Event::Prompt, || None, Duration::from_secs(1000));
        assert_eq!(step, Step::Send(b"paging off\r".to_vec()));
        assert_eq!(silent.deadline(), Some(Duration::from_secs(1020)));
        assert_eq!(silent.time(Duration::from_secs(1019)), Step::Wait);
        assert_eq!(silent.time(Duration::from_secs(1020)), Step::Done(End::TimedOut));
        assert_eq!(silent.deadline(), None);
    }
}
