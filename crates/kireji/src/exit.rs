//! Exit codes, one documented set for all commands.

use std::io;
use std::process::ExitCode;

macro_rules! exits {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// How a command ended. The guide's page on exit codes lists exactly these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Exit {
            /// All exit codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns what the code means, in one line.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

exits! {
    /// Done, or the answer is yes.
    Done = 0,
    /// The answer is no: not ready, damaged, not verified, or unknown for want of a measurement.
    No = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// Refused, because something would be lost.
    Refused = 10,
    /// The host cannot do it.
    HostCannot = 11,
    /// The card is in use.
    Busy = 12,
    /// More rights are needed.
    Permission = 13,
    /// QEMU or firmware is missing or unfit.
    Qemu = 14,
    /// The image is unreadable or damaged.
    Image = 15,
    /// There is no space left.
    NoSpace = 16,
    /// The test in the guest failed.
    TestFailed = 20,
    /// The guest panicked.
    Panic = 21,
    /// The guest hung.
    Hung = 22,
    /// The guest reset itself in a loop, or took a triple fault.
    ResetLoop = 23,
    /// The guest did not boot.
    BootFailed = 24,
    /// The driver was rejected or not loaded.
    DriverNotLoaded = 25,
    /// A program in the guest crashed.
    UserCrash = 26,
    /// The card faulted: a DMA fault, or it fell off the bus.
    CardFault = 27,
    /// The run ended well, but what it was to show is unproven.
    Unproven = 28,
    /// QEMU crashed.
    QemuCrashed = 29,
    /// The driver did not do what the recording says.
    ReplayMismatch = 30,
    /// A defect in kireji itself.
    Internal = 70,
    /// The rig itself failed, not the command in it.
    Rig = 90,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// Returns the exit code of an operation on a file that the operating system refused.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::StorageFull => Self::NoSpace,
            _ => Self::HostCannot,
        }
    }
}

/// What the process ends with: one of ours, or the code of a command that ran in a rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

impl Code {
    /// Returns the exit code of an inner command, passed on.
    pub fn inner(code: i32) -> Self {
        // The kernel keeps the lowest eight bits of what a process exits with.
        Self(code.to_le_bytes()[0])
    }
}

impl From<Exit> for Code {
    fn from(exit: Exit) -> Self {
        Self(exit as u8)
    }
}

impl PartialEq<Exit> for Code {
    fn eq(&self, exit: &Exit) -> bool {
        *self == Self::from(*exit)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}
