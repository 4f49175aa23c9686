//! One stay in the kernel's debugger, from what it says first to what it was asked last.

use std::collections::{BTreeMap, BTreeSet};

use crate::serial::{self, PROMPT, Sign};

use super::cards::Cards;
use super::check::{self, KERNEL_X86_64};
use super::fault::{self, Area};
use super::guilty::{self, Cause};
use super::parse;
use super::report::{Damage, Frame, Kind, Panic, Thread, Trace};
use super::title;
use super::trace::{RawTrace, Taken, is_heading, is_repetition};

/// Lines of a panic without a debugger, after which it is none: something else wrote the word.
const PATIENCE: u32 = 256;
/// Traces of the thread that are kept: its own, and the one that was asked for.
const MOST_OWN: usize = 2;
/// Traces of other threads that are kept.
const MOST_OTHERS: usize = 8;
/// Areas that are kept; a machine has some hundreds.
const MOST_AREAS: usize = 1024;
/// Bytes of a message that are kept.
const LONGEST_MESSAGE: usize = 1024;

/// The command that repeats what the kernel said of the panic.
const REPEAT: &str = "message";
/// Commands whose output is what was said before.
const QUOTES: [&str; 2] = ["syslog", REPEAT];

/// How it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// By what the kernel says of the reason.
    Message,
    /// By its welcome, without a panic.
    Welcome,
    /// In its middle.
    Middle,
}

/// What is being read.
#[derive(Debug, Default)]
enum Reading {
    /// What stands before the first trace.
    #[default]
    Head,
    Trace(RawTrace),
    /// The output of a command, of those that were asked.
    Output(String),
}

#[derive(Debug)]
pub(super) struct Session {
    begun: Begun,
    pub(super) message: Option<String>,
    has_welcome: bool,
    revision: Option<String>,
    running: Option<(Option<Thread>, u32)>,
    reading: Reading,
    pub(super) is_prompted: bool,
    /// The trace that comes without being asked, and the one that was asked for.
    own: Vec<RawTrace>,
    others: Vec<Trace>,
    areas: Vec<Area>,
    damage: BTreeSet<Damage>,
    lines: u32,
}

impl Session {
    pub(super) fn new(begun: Begun, message: Option<&str>) -> Self {
        let message = message.map(|message| cut(message.trim(), LONGEST_MESSAGE).to_owned());
        Self {
            begun,
            message: message.filter(|message| !message.is_empty()),
            has_welcome: false,
            revision: None,
            running: None,
            reading: Reading::Head,
            is_prompted: false,
            own: Vec::new(),
            others: Vec::new(),
            areas: Vec::new(),
            damage: BTreeSet::new(),
            lines: 0,
        }
    }

    /// Whether what is said now was said before, and means nothing.
    pub(super) fn quotes(&self) -> bool {
        match &self.reading {
            Reading::Output(command) => QUOTES.iter().any(|quote| command.starts_with(quote)),
            _ => false,
        }
    }

    /// Whether it was a false alarm.
    pub(super) fn is_nothing(&self) -> bool {
        self.lines > PATIENCE && !self.has_welcome && !self.is_prompted && self.own.is_empty()
    }

    /// Whether the debugger has said hello.
    pub(super) fn has_welcome(&self) -> bool {
        self.has_welcome
    }

    pub(super) fn welcome(&mut self) {
        self.has_welcome = true;
    }

    /// Another panic while this one is said, or the same again.
    pub(super) fn said_again(&mut self, message: &str) {
        // On several processors, each that does not stop is complained of.
        if message.contains("CPUs are not trapped") {
            return;
        }
        if self.message.as_deref() != Some(message.trim()) {
            self.damage.insert(Damage::Contradiction);
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        if let Some(command) = line.strip_prefix(PROMPT) {
            self.is_prompted = true;
            let command = Reading::Output(cut(command.trim(), 64).to_owned());
            return self.turn_to(command);
        }
        if let Some(thread) = parse::trace_head(line) {
            return self.turn_to(Reading::Trace(RawTrace::new(Some(thread))));
        }
        let is_trace = || is_heading(line) || parse::frame(line).is_some();
        if !matches!(self.reading, Reading::Trace(_)) && is_trace() {
            // Its head is lost, or there was no thread yet.
            self.turn_to(Reading::Trace(RawTrace::new(None)));
        }
        match &mut self.reading {
            Reading::Head => self.head(line),
            Reading::Trace(trace) => {
                if trace.take(line) == Taken::Over {
                    let command = line.split_once(": ").map_or("", |(_, command)| command.trim());
                    let command = Reading::Output(cut(command, 64).to_owned());
                    self.turn_to(command);
                }
            }
            Reading::Output(command) => {
                if command.starts_with("area")
                    && self.areas.len() < MOST_AREAS
                    && let Some((name, start, size)) = parse::area(line)
                {
                    self.areas.push(Area { name: name.to_owned(), start, size });
                } else if command == REPEAT
                    && let Some(Sign::Panic(message)) = serial::sign(line)
                {
                    let message = message.to_owned();
                    self.said_again(&message);
                }
            }
        }
    }

    fn turn_to(&mut self, next: Reading) {
        if let Reading::Trace(mut trace) = std::mem::replace(&mut self.reading, next) {
            trace.is_over = true;
            self.keep(trace);
        }
    }

    fn keep(&mut self, trace: RawTrace) {
        let running = self.running.as_ref().and_then(|(thread, _)| thread.as_ref());
        let is_other = match (&trace.thread, running) {
            (Some(thread), Some(running)) => self.is_prompted && thread.id != running.id,
            _ => false,
        };
        if !is_other {
            if self.own.len() < MOST_OWN {
                self.own.push(trace);
            }
        } else if let Some(thread) = trace.thread
            && self.others.len() < MOST_OTHERS
        {
            self.others.push(Trace { thread, frames: trace.frames });
        }
    }

    fn head(&mut self, line: &str) {
        if let Some(revision) = line.strip_prefix("revision: ") {
            self.revision = Some(cut(revision.trim(), 64).to_owned());
        } else if let Some(running) = parse::running(line) {
            self.running = Some(running);
        } else if self.has_welcome && !is_repetition(line) {
            self.damage.insert(Damage::Mixed);
        }
    }

    /// What is known so far.
    pub(super) fn panic(&self, cards: &Cards) -> Panic {
        let mut traces: Vec<&RawTrace> = self.own.iter().collect();
        if let Reading::Trace(trace) = &self.reading {
            traces.push(trace);
        }
        let kind = self.kind(&traces);
        let mut damage = self.damage(kind, &traces);
        // The first that is whole, else the first; they are compared in any case.
        let whole = traces.iter().find(|trace| check::damage(trace).is_empty());
        let trace = whole.or(traces.first()).copied().cloned().unwrap_or_default();
        let cause = Cause::of(&trace, kind);
        if cause.is_uncertain && !trace.frames.is_empty() {
            damage.insert(Damage::NoCause);
        }
        let guilty = cause.guilty(&trace.frames);
        let exception = trace.iframes.iter().find(|iframe| iframe.is_exception());
        let registers = exception.filter(|_| kind.is_exception());
        let registers = registers.map_or_else(BTreeMap::new, |iframe| iframe.registers.clone());
        let ip = self.message.as_deref().and_then(fault::instruction);
        let is_elsewhere = |ip: u64| {
            exception.and_then(|iframe| iframe.instruction()).is_some_and(|other| other != ip)
        };
        if kind.is_exception() && ip.is_some_and(is_elsewhere) {
            damage.insert(Damage::Contradiction);
        }
        let mut frames = trace.frames;
        for frame in &mut frames {
            self.place(frame);
        }
        let mut other_threads = self.others.clone();
        for frame in other_threads.iter_mut().flat_map(|trace| &mut trace.frames) {
            self.place(frame);
        }
        let guilty = guilty.and_then(|at| frames.get(at)).cloned();
        let message = self.message.as_deref();
        let thread = traces.iter().find_map(|trace| trace.thread.clone());
        let running = self.running.clone();
        Panic {
            title: title::title(message, kind, guilty.as_ref()),
            kind,
            corrupted: !damage.is_empty(),
            damage: damage.into_iter().collect(),
            message: self.message.clone(),
            explanation: fault::explain(kind, message, &registers, cards, &self.areas),
            guilty,
            frames,
            more_frames: trace.more,
            registers,
            cpu: running.as_ref().map(|(_, cpu)| *cpu),
            thread: running.and_then(|(thread, _)| thread).or(thread),
            revision: self.revision.clone(),
            other_threads,
        }
    }

    fn kind(&self, traces: &[&RawTrace]) -> Kind {
        let panics = traces.iter().any(|trace| has_panic(trace));
        match &self.message {
            Some(message) if self.begun == Begun::Message => title::kind(message),
            None if panics => Kind::Panic,
            _ => Kind::Debugger,
        }
    }

    fn damage(&self, kind: Kind, traces: &[&RawTrace]) -> BTreeSet<Damage> {
        let mut damage = self.damage.clone();
        let mut add = |is_so: bool, what| {
            if is_so {
                damage.insert(what);
            }
        };
        add(self.begun == Begun::Middle, Damage::NoBeginning);
        let has_panic = traces.iter().any(|trace| has_panic(trace));
        add(self.begun != Begun::Message && has_panic, Damage::NoMessage);
        add(!self.is_prompted, Damage::CutShort);
        let complete = self.has_welcome && self.revision.is_some() && self.running.is_some();
        // What is missing at the end has its own word.
        add(!complete && (self.is_prompted || !traces.is_empty()), Damage::MissingLines);
        // Of these nobody writes a trace unless asked.
        let comes_alone = !matches!(kind, Kind::DoubleFault | Kind::Debugger);
        add(traces.is_empty() && self.is_prompted && comes_alone, Damage::MissingLines);
        let running = self.running.as_ref().and_then(|(thread, _)| thread.as_ref());
        let lacks_head = |trace: &RawTrace| running.is_some() && trace.thread.is_none();
        add(traces.iter().any(|trace| lacks_head(trace)), Damage::MissingLines);
        let is_another = |trace: &RawTrace| {
            running.is_some() && trace.thread.is_some() && trace.thread.as_ref() != running
        };
        add(traces.iter().any(|trace| is_another(trace)), Damage::Contradiction);
        add(!check::functions_agree(traces.iter().copied()), Damage::Contradiction);
        if let [one, other] = traces {
            // The second may still be coming.
            add(other.is_over && !check::same_thread(one, other), Damage::Contradiction);
        }
        for trace in traces {
            damage.extend(check::damage(trace));
        }
        damage
    }

    /// Says where in its image a frame is, as far as the areas tell.
    fn place(&self, frame: &mut Frame) {
        let Some(name) = frame.image_name().filter(|_| frame.offset.is_none()) else { return };
        let base = if name == "kernel_x86_64" {
            Some(KERNEL_X86_64)
        } else {
            // src/system/kernel/elf.cpp, load_kernel_add_on; the names of areas have 31 characters.
            let text = format!("{name}_text");
            let text = cut(&text, 31);
            let area =
                self.areas.iter().find(|area| area.name == text && area.holds(frame.address));
            area.map(|area| area.start)
        };
        frame.offset = base.and_then(|base| frame.address.checked_sub(base));
    }
}

fn has_panic(trace: &RawTrace) -> bool {
    let within = guilty::way_in(&trace.frames).unwrap_or_default();
    trace.frames.iter().take(within).any(|frame| frame.function() == Some("panic"))
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
