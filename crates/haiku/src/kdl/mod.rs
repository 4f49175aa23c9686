//! Panics, as the kernel tells them over the serial line.
//!
//! A [`Reader`] takes the bytes of a serial line as they come, from a running guest or a file of
//! any size, in memory that does not grow, and says when a panic begins, when the kernel's debugger
//! asks for a command, and what is known of the panic. Characters are lost on such a line, and
//! others come between: what is said twice is compared, and a report that does not agree with
//! itself is marked as corrupted ([`Panic::corrupted`]).
//!
//! The formats are those of src/system/kernel/debug/debug.cpp and
//! src/system/kernel/arch/x86/arch_debug.cpp of Haiku.

mod cards;
mod check;
pub mod conversation;
mod fault;
mod guilty;
mod lines;
#[cfg(test)]
mod made;
mod parse;
mod recorded;
mod report;
mod session;
#[cfg(test)]
mod tests;
mod title;
mod trace;

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::serial::{self, PROMPT, Sign};

pub use recorded::LogReader;
pub(crate) use report::without_arguments;
pub use report::{Damage, Frame, Inlined, Kind, Panic, Place, Thread, Trace};

use cards::Cards;
use lines::{Cut, Lines};
use session::{Begun, Session};

/// Bytes that are kept of the line before.
const BEFORE: usize = 256;

/// Something that happened on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A line is whole: without its end, terminal sequences and what the system logger adds. It is
    /// never empty.
    Line(&'a [u8]),
    /// The kernel panics, or enters its debugger; with what it says of the reason. What is said
    /// again of the same panic is none.
    Begun(Option<&'a str>),
    /// The debugger asks for a command.
    Prompt,
    /// Nothing more is said of a panic: it is left, or the line has ended.
    Complete(Box<Panic>),
}

/// Reads panics from a serial line.
#[derive(Debug, Default)]
pub struct Reader {
    lines: Lines,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    cards: Cards,
    before: Vec<u8>,
    /// The last panic of this boot that was complete.
    last: Option<Box<Panic>>,
}

impl Reader {
    /// Takes bytes, and says what they tell. It does not matter in what pieces they come.
    pub fn push(&mut self, bytes: &[u8], mut show: impl FnMut(Event<'_>)) {
        let state = &mut self.state;
        self.lines.push(bytes, PROMPT.as_bytes(), |cut| state.take(cut, &mut show));
    }

    /// Ends the stream.
    pub fn finish(&mut self, mut show: impl FnMut(Event<'_>)) {
        let state = &mut self.state;
        self.lines.finish(PROMPT.as_bytes(), |cut| state.take(cut, &mut show));
        state.close(&mut show);
        *self = Self::default();
    }

    /// What is known so far of the panic that is being told.
    pub fn panic(&self) -> Option<Panic> {
        self.state.session.as_ref().map(|session| session.panic(&self.state.cards))
    }

    /// Whether the kernel is in its debugger, and asks for commands.
    pub fn is_in_debugger(&self) -> bool {
        self.state.session.as_ref().is_some_and(|session| session.is_prompted)
    }
}

impl State {
    fn take(&mut self, cut: Cut<'_>, show: &mut impl FnMut(Event<'_>)) {
        match cut {
            Cut::Prompt => {
                self.enter(show);
                show(Event::Prompt);
            }
            Cut::Line(line) => {
                self.line(line, show);
                show(Event::Line(line));
                self.before.clear();
                self.before.extend_from_slice(&line[..line.len().min(BEFORE)]);
            }
        }
    }

    /// The debugger asks, whatever was said before.
    fn enter(&mut self, show: &mut impl FnMut(Event<'_>)) {
        match &mut self.session {
            Some(session) => session.line(PROMPT),
            None => {
                self.begin(Begun::Middle, None, show);
                self.enter(show);
            }
        }
    }

    fn line(&mut self, line: &[u8], show: &mut impl FnMut(Event<'_>)) {
        if self.session.is_none() && !is_worth_reading(line) {
            return;
        }
        let may_have_sign = may_have_sign(line);
        let line = &*String::from_utf8_lossy(line);
        if line.starts_with("PCI: ") {
            self.cards.line(line);
        }
        let quotes = self.session.as_ref().is_some_and(Session::quotes);
        let sign = may_have_sign.then(|| serial::sign(line)).flatten();
        let sign = sign.filter(|_| !quotes || line.starts_with(PROMPT));
        match sign {
            Some(Sign::Loader | Sign::Kernel) => {
                self.close(show);
                self.last = None;
                // The kernel looks for cards anew.
                self.cards.clear();
            }
            Some(Sign::Panic(reason)) => self.panics(reason, show),
            Some(Sign::Debugger) if line.starts_with(PROMPT) => {
                if self.session.is_none() {
                    self.begin(Begun::Middle, None, show);
                }
                self.told(line, show);
            }
            Some(Sign::Debugger) => self.welcomed(show),
            Some(Sign::BootVolume(_)) => {}
            None if self.session.is_some() => self.told(line, show),
            None => {
                let frame = parse::frame(line).map(|found| found.frame);
                // Other programs write stack traces too.
                if frame.is_some_and(|frame| guilty::way_in(&[frame]).is_some()) {
                    self.begin(Begun::Middle, None, show);
                    self.told(line, show);
                }
            }
        }
    }

    fn told(&mut self, line: &str, show: &mut impl FnMut(Event<'_>)) {
        let Some(session) = &mut self.session else { return };
        session.line(line);
        if session.is_nothing() {
            self.close(show);
        }
    }

    fn panics(&mut self, reason: &str, show: &mut impl FnMut(Event<'_>)) {
        match &mut self.session {
            // Another processor, or what is left of the same line.
            Some(session) if !session.is_prompted => session.said_again(reason),
            _ => {
                self.close(show);
                self.begin(Begun::Message, Some(reason), show);
            }
        }
    }

    fn welcomed(&mut self, show: &mut impl FnMut(Event<'_>)) {
        match &mut self.session {
            Some(session) if !session.has_welcome() && !session.is_prompted => session.welcome(),
            _ => {
                self.close(show);
                // What `kernel_debugger` is given stands before, alone on its line.
                let before = String::from_utf8_lossy(&self.before).into_owned();
                self.begin(Begun::Welcome, Some(&before), show);
                if let Some(session) = &mut self.session {
                    session.welcome();
                }
            }
        }
    }

    fn begin(&mut self, begun: Begun, message: Option<&str>, show: &mut impl FnMut(Event<'_>)) {
        let session = Session::new(begun, message);
        let is_new = self.last.as_ref().is_none_or(|last| last.message != session.message);
        if is_new {
            show(Event::Begun(session.message.as_deref()));
        }
        self.session = Some(session);
    }

    fn close(&mut self, show: &mut impl FnMut(Event<'_>)) {
        let Some(session) = self.session.take() else { return };
        if session.is_nothing() {
            return;
        }
        let panic = Box::new(session.panic(&self.cards));
        if self.last.as_ref().is_some_and(|last| is_same(last, &panic)) {
            return;
        }
        show(Event::Complete(panic.clone()));
        self.last = Some(panic);
    }
}

/// What is looked for in every line of a log of any size, and so is made once.
static WELCOME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"Welcome to "));
static PANIC: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"PANIC: "));
static FRAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" (+"));

/// Whether a line may have a sign of [`serial`] that matters here.
fn may_have_sign(line: &[u8]) -> bool {
    line.starts_with(PROMPT.as_bytes())
        || WELCOME.find(line).is_some()
        || PANIC.find(line).is_some()
        || line.starts_with(b"Double Fault!")
}

/// Whether a line outside of the debugger may begin or explain something.
fn is_worth_reading(line: &[u8]) -> bool {
    line.starts_with(b"PCI: ") || may_have_sign(line) || FRAME.find(line).is_some()
}

/// Whether a panic is the one before, told again: the debugger repeats it when asked, and leaving
/// the debugger runs the same instruction again.
fn is_same(last: &Panic, next: &Panic) -> bool {
    let place = |panic: &Panic| panic.guilty.as_ref().map(|frame| frame.address);
    let places = place(last).zip(place(next));
    let same_place = places.is_none_or(|(last, next)| last == next);
    match (&last.message, &next.message) {
        (Some(last), Some(next)) => last == next && same_place,
        _ => places.is_some_and(|(last, next)| last == next),
    }
}
