//! Following a guest by its serial line.

use std::fmt;
use std::time::Duration;

use haiku::loading::Place;
use serde::Serialize;

use super::Verdict;
use crate::linux::Outcome;
use crate::linux::report::FunctionReport;
use crate::process::GuestEnd;

/// Follows one run of a guest.
pub trait Observer: fmt::Debug {
    /// Takes bytes of the serial line, in whatever pieces they come, and returns what they say.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Sign>;

    /// Says what a run means that ended so.
    fn judge(&self, end: GuestEnd) -> Verdict;

    /// Is told something that the serial line does not say, and returns what it means.
    fn learn(&mut self, _fact: &Fact) -> Vec<Sign> {
        Vec::new()
    }

    /// Says what is to be done. It is asked after all that happens, and again when it wanted to
    /// be; `at` is the time since the guest started, and all it knows of time.
    fn act(&mut self, _at: Duration) -> Wish {
        Wish::default()
    }
}

/// Something that an observer is told of the machine and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Where the guest sees the functions that were asked for.
    Places(Vec<Place>),
    /// The guest reset the machine.
    Reset,
    /// The host's kernel said something about a card of the run.
    Host(String),
}

/// What an observer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// To be done, in this order.
    pub actions: Vec<Action>,
    /// When it wants to be asked again at the latest.
    pub again: Option<Duration>,
}

/// Something to be done to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the guest's serial line.
    Send(Vec<u8>),
    /// Send a non-maskable interrupt.
    Interrupt,
    /// Find out where the guest sees the functions that were asked for.
    AskPlaces,
    /// Tell what the run means so far. It goes on.
    Conclude,
    /// End the run.
    End {
        /// Whether the guest can still answer to its power button.
        orderly: bool,
    },
}

/// Something that the serial line said. Its words are the guest's: they may hold anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "sign", rename_all = "kebab-case")]
pub enum Sign {
    /// A stage of the start was reached.
    Reached {
        /// The stage, such as `boot-loader` or `kernel`.
        stage: &'static str,
    },
    /// The kernel panicked.
    Panicked {
        /// What it said.
        reason: String,
    },
    /// The kernel waits in its debugger.
    Debugger,
    /// The guest loaded a driver of the run's.
    DriverLoaded {
        /// The path that it was loaded from.
        path: String,
    },
    /// The guest would not load a driver of the run's.
    DriverRejected {
        /// The line that says so.
        line: String,
    },
    /// A line that was waited for came.
    Marked {
        /// The line.
        line: String,
    },
    /// A line came that means failure.
    Failed {
        /// The line.
        line: String,
    },
    /// A command in the guest has ended.
    Tested {
        /// Its exit code.
        code: i32,
        /// What it wrote.
        output: String,
    },
    /// A program in the guest crashed.
    ProgramCrashed {
        /// The line that says so.
        line: String,
    },
    /// The host's kernel said something about a card of the run.
    Host {
        /// What.
        line: String,
    },
    /// The report on a card's function came.
    Report {
        /// The report.
        function: Box<FunctionReport>,
        /// What it means.
        outcome: Outcome,
    },
    /// A line of the report was damaged on its way.
    Damaged,
    /// The guest gave up.
    GaveUp {
        /// Why.
        reason: String,
    },
}
