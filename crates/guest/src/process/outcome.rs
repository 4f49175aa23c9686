//! The rules of a run, and how it ended.

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::time::Duration;

use super::{Patience, Stages};
use crate::guests::Observer;
use crate::host_log::KernelLog;
use crate::launch::Failure;
use crate::machine::Topology;
use crate::serial::Drained;

/// What limits a run from outside, and who follows it.
#[derive(Debug, Default)]
pub struct Supervision<'a> {
    /// A descriptor that becomes readable when the run is to stop; each further byte takes a
    /// harsher measure.
    pub stop: Option<BorrowedFd<'a>>,
    /// How long the run may last.
    pub limit: Option<Duration>,
    /// How patiently QEMU is stopped.
    pub patience: Patience,
    /// Who follows the guest by its serial line.
    pub observer: Option<&'a mut dyn Observer>,
    /// Where the functions that were asked for are planned to be, for an observer who asks.
    pub topology: Option<&'a Topology>,
    /// The log of the host's kernel, for an observer of cards.
    pub host_log: Option<KernelLog>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Why.
    pub ending: Ending,
    /// QEMU's exit status.
    pub status: ExitStatus,
    /// When each stage was reached.
    pub stages: Stages,
    /// The end of QEMU's log.
    pub log: String,
    /// What can be said of the serial line.
    pub serial: Drained,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The launcher could not become QEMU.
    NotLaunched(Failure),
    /// QEMU ended before it answered; its log says why.
    NotStarted,
    /// The guest came to an end that its observer can judge.
    Guest(GuestEnd),
    /// The disk that holds the guest's writes is full.
    NoSpace,
    /// QEMU ended by itself, with an error or a signal.
    Crashed,
    /// QEMU ended as it was told to, by a signal that somebody else sent.
    Killed,
    /// QEMU was lost track of: it neither answered nor ended, and was killed.
    Hung,
}

/// How a guest came to its end, with QEMU and the host doing what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It shut the machine down.
    ShutDown,
    /// It reset a machine that may not reboot.
    Reset,
    /// It told of a panic of its kernel.
    Panicked,
    /// A person closed the window, or ended QEMU by a command.
    Closed,
    /// It was to stop.
    Stopped,
    /// It lasted longer than it may.
    TimedOut,
    /// Its observer had it ended.
    Decided,
}

impl GuestEnd {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ShutDown,
        Self::Reset,
        Self::Panicked,
        Self::Closed,
        Self::Stopped,
        Self::TimedOut,
        Self::Decided,
    ];
}
