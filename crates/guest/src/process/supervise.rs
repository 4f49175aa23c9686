//! Looking after QEMU until it has ended.

mod forwards;
mod observe;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};

use self::forwards::forwards;
use super::follow::Follow;
use super::{Ending, Event, GuestEnd, Outcome, Qemu, Stage, Supervision};
use crate::guests::Fact;
use crate::launch::Report;
use crate::qmp::{Message, QmpError};
use crate::serial::Drained;

/// How long QEMU may take to make its machine; locking much memory takes long.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How much of QEMU's log is looked at, in bytes from its end.
const LOG_TAIL: u64 = 64 << 10;
/// How long showing the serial line's last bytes may take.
const SHOW_LIMIT: Duration = Duration::from_secs(2);

/// What an answer is waited for.
enum Waiting {
    Capabilities,
    Forwards,
    Start,
    Places,
    Other { command: String, reply: Option<Sender<Result<Value, QmpError>>> },
}

/// The steps to make QEMU end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    None,
    PowerDown,
    Quit,
    Terminate,
    Kill,
}

struct Loop<'r, 'n> {
    qemu: Qemu,
    rules: Supervision<'r>,
    follow: Option<Follow<'r>>,
    notice: &'n mut dyn FnMut(Event),
    waiting: BTreeMap<u64, Waiting>,
    measure: Measure,
    /// When the next measure is due.
    next_measure: Option<Instant>,
    /// What was found out of the reason for the end, the first finding counting.
    ending: Option<Ending>,
    is_connected: bool,
    /// When the observer wants to be asked again.
    next_act: Option<Instant>,
}

impl Qemu {
    /// Looks after QEMU until it has ended; `notice` is told what happens.
    ///
    /// # Errors
    /// The operating system cannot tell any more what becomes of QEMU, which is killed.
    pub fn supervise(
        self,
        mut rules: Supervision<'_>,
        notice: &mut dyn FnMut(Event),
    ) -> io::Result<Outcome> {
        let follow = rules.observer.take().map(|observer| Follow::new(&self.serial_log, observer));
        let mut state = Loop {
            qemu: self,
            rules,
            follow: follow.transpose()?,
            notice,
            waiting: BTreeMap::new(),
            measure: Measure::None,
            next_measure: None,
            ending: None,
            is_connected: true,
            next_act: None,
        };
        state.run()?;
        state.finish()
    }
}

/// What was ready in one turn of the loop.
struct Ready {
    ended: bool,
    control: bool,
    wishes: bool,
    bell: bool,
    stop: bool,
    host_log: bool,
}

impl Loop<'_, '_> {
    fn run(&mut self) -> io::Result<()> {
        self.tell_stage(Stage::Spawned);
        let started = Instant::now();
        loop {
            let ready = self.wait(started)?;
            if ready.bell {
                empty(&self.qemu.bell);
            }
            if ready.bell || self.follow.as_ref().is_some_and(Follow::is_behind) {
                self.look_at_serial();
            }
            if ready.control {
                self.receive();
            }
            if ready.wishes {
                empty(&self.qemu.wishes.bell);
                self.pass_on_wishes();
            }
            if ready.ended {
                return Ok(());
            }
            if ready.host_log {
                self.read_host_log();
            }
            if ready.stop && self.take_stop()? {
                self.ending.get_or_insert(Ending::Guest(GuestEnd::Stopped));
                self.escalate();
            }
            self.look_at_clock(started);
            self.act();
        }
    }

    fn wait(&self, started: Instant) -> io::Result<Ready> {
        // A closed channel is readable for ever, so it is not polled any more.
        let control = if self.is_connected { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(&self.qemu.pidfd, PollFlags::IN),
            PollFd::new(&self.qemu.connection, control),
            PollFd::new(&self.qemu.wishes.bell, PollFlags::IN),
            PollFd::new(&self.qemu.bell, PollFlags::IN),
        ];
        let mut add = |fd| {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            fds.len() - 1
        };
        let stop = self.rules.stop.map(&mut add);
        let host_log = self.rules.host_log.as_ref().map(|log| add(log.as_fd()));
        let timeout = match &self.follow {
            Some(follow) if follow.is_behind() => Some(Duration::ZERO),
            _ => [self.deadline(started), self.next_act]
                .into_iter()
                .flatten()
                .min()
                .map(|at| at.saturating_duration_since(Instant::now())),
        };
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            ended: ready(0),
            control: self.is_connected && ready(1),
            wishes: ready(2),
            bell: ready(3),
            stop: stop.is_some_and(&ready),
            host_log: host_log.is_some_and(&ready),
        })
    }

    fn deadline(&self, started: Instant) -> Option<Instant> {
        if self.measure != Measure::None {
            return self.next_measure;
        }
        let start = self.qemu.stages.at(Stage::Up).is_none().then_some(START_LIMIT);
        let start = start.and_then(|limit| started.checked_add(limit));
        // A time beyond what the clock can count never comes.
        let limit = self.rules.limit.and_then(|limit| started.checked_add(limit));
        [start, limit].into_iter().flatten().min()
    }

    fn look_at_clock(&mut self, started: Instant) {
        let now = Instant::now();
        if self.deadline(started).is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.measure == Measure::None {
            let over = self.rules.limit.is_some_and(|limit| now - started >= limit);
            self.ending.get_or_insert(if over {
                Ending::Guest(GuestEnd::TimedOut)
            } else {
                Ending::Hung
            });
        }
        self.escalate();
    }

    /// Reads one byte of the stop channel; false if there was none.
    fn take_stop(&self) -> io::Result<bool> {
        let Some(stop) = self.rules.stop else { return Ok(false) };
        match rustix::io::read(stop, &mut [0]) {
            // The end of the channel means that nobody can ask any more: stop for good.
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the next harsher measure to make QEMU end.
    fn escalate(&mut self) {
        let patience = self.rules.patience;
        let is_up = self.qemu.stages.at(Stage::Up).is_some() && self.is_connected;
        self.measure = match self.measure {
            Measure::None if is_up && patience.power_down.is_some() => Measure::PowerDown,
            Measure::None | Measure::PowerDown if is_up => Measure::Quit,
            Measure::None | Measure::PowerDown | Measure::Quit => Measure::Terminate,
            Measure::Terminate | Measure::Kill => Measure::Kill,
        };
        let (how, patience) = match self.measure {
            Measure::PowerDown => {
                self.send("system_powerdown", None, None);
                ("power-down", patience.power_down)
            }
            Measure::Quit => {
                self.send("quit", None, None);
                ("quit", Some(patience.quit))
            }
            Measure::Terminate => {
                self.signal(Signal::TERM);
                ("SIGTERM", Some(patience.quit))
            }
            Measure::Kill => {
                self.signal(Signal::KILL);
                ("SIGKILL", None)
            }
            Measure::None => return,
        };
        self.next_measure = patience.and_then(|patience| Instant::now().checked_add(patience));
        let ms = self.ms(Instant::now());
        (self.notice)(Event::Stopping { how, ms });
    }

    fn signal(&self, signal: Signal) {
        // It can only fail for a process that has ended, which the pidfd will tell.
        let _ = pidfd_send_signal(&self.qemu.pidfd, signal);
    }

    fn receive(&mut self) {
        match self.qemu.connection.receive() {
            Ok(messages) => {
                for message in messages {
                    self.take(message);
                }
            }
            // QEMU closes the channel as it ends; if it does not end, the clock decides.
            Err(QmpError::Lost(_)) => self.disconnect(),
            Err(_) => self.give_up(),
        }
    }

    /// Ends a QEMU that cannot be spoken to.
    fn give_up(&mut self) {
        self.ending.get_or_insert(Ending::Hung);
        self.disconnect();
        self.escalate();
    }

    fn disconnect(&mut self) {
        self.is_connected = false;
        self.waiting.clear();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Launch(Report::Started) => self.reach(Stage::Executed, Instant::now()),
            Message::Launch(Report::Failed(failure)) => {
                self.ending.get_or_insert(Ending::NotLaunched(failure));
            }
            Message::Greeting => self.ask("qmp_capabilities", None, Waiting::Capabilities),
            Message::Answer { id, result } => self.answer(id, result),
            Message::Event { name, data } => self.event(name, data),
        }
    }

    fn answer(&mut self, id: u64, result: Result<Value, String>) {
        match self.waiting.remove(&id) {
            Some(Waiting::Capabilities) => {
                let monitor = json!({"command-line": "info usernet"});
                self.ask("human-monitor-command", Some(&monitor), Waiting::Forwards);
                self.ask("cont", None, Waiting::Start);
            }
            Some(Waiting::Start) => {
                if result.is_err() {
                    self.give_up();
                    return;
                }
                self.reach(Stage::Up, Instant::now());
                self.pass_on_wishes();
            }
            Some(Waiting::Forwards) => {
                let text = result.ok();
                let text = text.as_ref().and_then(Value::as_str).unwrap_or_default();
                for (host, guest) in forwards(text) {
                    (self.notice)(Event::Forward { host, guest });
                }
            }
            Some(Waiting::Places) => {
                let places = self.rules.topology.zip(result.ok());
                let places = places.map(|(topology, answer)| topology.places(&answer));
                let places = places.unwrap_or_default();
                let ms = self.ms(Instant::now());
                (self.notice)(Event::Places { places: places.clone(), ms });
                self.learn(&Fact::Places(places));
            }
            Some(Waiting::Other { command, reply: Some(reply) }) => {
                let result =
                    result.map_err(|description| QmpError::Refused { command, description });
                // Whoever asked may have lost patience.
                drop(reply.send(result));
            }
            Some(Waiting::Other { reply: None, .. }) | None => {}
        }
    }

    fn event(&mut self, name: String, data: Value) {
        let reason = data.get("reason").and_then(Value::as_str).unwrap_or_default();
        let ending = match (name.as_str(), reason) {
            ("SHUTDOWN", "guest-shutdown") => Some(Ending::Guest(GuestEnd::ShutDown)),
            ("SHUTDOWN", "guest-reset") => Some(Ending::Guest(GuestEnd::Reset)),
            ("SHUTDOWN", "guest-panic") | ("GUEST_PANICKED", _) => {
                Some(Ending::Guest(GuestEnd::Panicked))
            }
            ("SHUTDOWN", "host-error") => Some(Ending::Crashed),
            ("SHUTDOWN", "host-signal") => Some(Ending::Killed),
            ("SHUTDOWN", _) => Some(Ending::Guest(GuestEnd::Closed)),
            ("BLOCK_IO_ERROR", _) if data.get("nospace") == Some(&Value::Bool(true)) => {
                Some(Ending::NoSpace)
            }
            _ => None,
        };
        if name == "RESET" && data.get("guest") == Some(&Value::Bool(true)) {
            self.learn(&Fact::Reset);
        }
        let is_full = ending == Some(Ending::NoSpace) && self.measure == Measure::None;
        if let Some(ending) = ending {
            self.ending.get_or_insert(ending);
        }
        let ms = self.ms(Instant::now());
        (self.notice)(Event::Qemu { name, data, ms });
        // QEMU has stopped the guest, which cannot go on.
        if is_full {
            self.measure = Measure::PowerDown;
            self.escalate();
        }
    }

    /// Passes on what other threads want. QEMU takes no command before it is up; until then the
    /// wishes wait.
    fn pass_on_wishes(&mut self) {
        if self.is_connected && self.qemu.stages.at(Stage::Up).is_none() {
            return;
        }
        while let Ok(wish) = self.qemu.wishes.queue.try_recv() {
            if self.is_connected {
                self.send(&wish.command, wish.arguments.as_ref(), Some(wish.reply));
            } else {
                drop(wish.reply.send(Err(QmpError::Ended)));
            }
        }
    }

    fn send(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        reply: Option<Sender<Result<Value, QmpError>>>,
    ) {
        let waiting = Waiting::Other { command: command.to_owned(), reply };
        self.ask(command, arguments, waiting);
    }

    fn ask(&mut self, command: &str, arguments: Option<&Value>, waiting: Waiting) {
        if !self.is_connected {
            return;
        }
        match self.qemu.connection.send(command, arguments) {
            Ok(id) => {
                self.waiting.insert(id, waiting);
            }
            Err(_) => {
                // It has ended; what it said before that counts, the reason for its end most of
                // all.
                self.disconnect();
                for message in self.qemu.connection.receive().unwrap_or_default() {
                    self.take(message);
                }
            }
        }
    }

    fn look_at_serial(&mut self) {
        self.follow();
        if let Some(at) = self.qemu.serial.as_ref().and_then(|serial| serial.first()) {
            self.reach(Stage::FirstByte, at);
        }
    }

    fn reach(&mut self, stage: Stage, at: Instant) {
        if self.qemu.stages.reach(stage, at) {
            self.tell_stage(stage);
        }
    }

    fn tell_stage(&mut self, stage: Stage) {
        let Some(at) = self.qemu.stages.at(stage) else { return };
        (self.notice)(Event::Stage { stage, ms: millis(at) });
    }

    fn ms(&self, at: Instant) -> u64 {
        millis(self.qemu.stages.since_request(at))
    }

    fn finish(mut self) -> io::Result<Outcome> {
        let status = self.qemu.child.wait()?;
        let ended = Instant::now();
        // What QEMU said last, and a byte of the guest's that nobody has heard yet.
        if self.is_connected {
            self.receive();
        }
        self.look_at_serial();
        let serial = self.qemu.serial.take().map(|serial| serial.finish(SHOW_LIMIT));
        let serial = serial.unwrap_or(Drained { first: None, error: None, left_out: 0 });
        self.follow();
        while self.follow.as_ref().is_some_and(Follow::is_behind) {
            self.follow();
        }
        if let Some(at) = serial.first {
            self.reach(Stage::FirstByte, at);
        }
        self.reach(Stage::Ended, ended);
        self.disconnect();
        self.pass_on_wishes();
        let is_up = self.qemu.stages.at(Stage::Up).is_some();
        let ending = match self.ending.take() {
            Some(ending) => ending,
            None if !is_up => Ending::NotStarted,
            None => Ending::Crashed,
        };
        // A guest can be shut down by a QEMU that then fails, and that is what counts.
        let ending = match ending {
            Ending::Guest(GuestEnd::ShutDown | GuestEnd::Reset | GuestEnd::Closed)
                if !status.success() =>
            {
                Ending::Crashed
            }
            other => other,
        };
        let log = tail(&self.qemu.log).unwrap_or_default();
        Ok(Outcome { ending, status, stages: self.qemu.stages.clone(), log, serial })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn empty(bell: &UnixStream) {
    let mut bell = bell;
    while matches!(bell.read(&mut [0; 64]), Ok(count) if count > 0) {}
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
