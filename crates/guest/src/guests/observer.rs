//! Following a guest by its serial line.

use std::fmt;

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
