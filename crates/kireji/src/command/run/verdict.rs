//! What the end of a run means.

use std::os::unix::process::ExitStatusExt;

use guest::diagnosis::{self, Cause, Kind};
use guest::launch::Step;
use guest::process::{Ending, Outcome};

use crate::{CommandError, Exit};

/// Returns the exit code of a run with what to say, or its error.
pub(super) fn judge(outcome: &Outcome) -> Result<(Exit, String), CommandError> {
    let said = |exit, words: &str| Ok((exit, words.to_owned()));
    match &outcome.ending {
        Ending::ShutDown => said(Exit::Done, "The guest shut down."),
        Ending::Closed => said(Exit::Done, "QEMU was closed."),
        Ending::Reset => said(Exit::ResetLoop, "The guest reset the machine."),
        Ending::Stopped => said(Exit::Interrupted, "The guest was stopped."),
        Ending::TimedOut => said(Exit::Hung, "The guest was stopped: its time was up."),
        Ending::Panicked => said(Exit::Panic, "The guest's kernel panicked."),
        Ending::NoSpace => Err(CommandError::new(
            Exit::NoSpace,
            "the disk that holds what the guest writes is full",
        )),
        Ending::NotLaunched(failure) => {
            let exit = match &failure.step {
                Step::RaiseLockedMemory(_) | Step::ChangeUser(_) => Exit::Permission,
                Step::Open(_) => Exit::HostCannot,
                Step::Execute(_) => Exit::Qemu,
                Step::FollowParent => Exit::Internal,
            };
            let error = CommandError::from_source(exit, failure.clone());
            Err(match &failure.step {
                Step::RaiseLockedMemory(bytes) => error.hint(format!(
                    "QEMU locks all of the guest's memory, {} MiB: raise `memlock` in \
                     /etc/security/limits.conf, or run as root",
                    bytes.div_ceil(1 << 20)
                )),
                _ => error,
            })
        }
        Ending::NotStarted if outcome.status.signal().is_none() => {
            Err(from_log(outcome, "QEMU did not start", Exit::Qemu))
        }
        Ending::NotStarted | Ending::Crashed => {
            let what = format!("QEMU ended by itself with {}", outcome.status);
            Err(from_log(outcome, &what, Exit::QemuCrashed))
        }
        Ending::Hung => Err(CommandError::new(
            Exit::QemuCrashed,
            "QEMU neither answered nor ended, and was killed",
        )),
    }
}

/// An error with the cause that QEMU's log gives.
fn from_log(outcome: &Outcome, what: &str, otherwise: Exit) -> CommandError {
    let Some(cause) = diagnosis::reason(&outcome.log) else {
        let lines: Vec<_> = outcome.log.lines().rev().take(5).collect();
        let error = CommandError::new(otherwise, what);
        return lines.into_iter().rev().fold(error, CommandError::reason);
    };
    let Cause { line, kind, cause, remedy, .. } = cause;
    let exit = match kind {
        Kind::Permission => Exit::Permission,
        Kind::Busy => Exit::Busy,
        Kind::Host => Exit::HostCannot,
        Kind::Card => Exit::CardFault,
        Kind::File => Exit::Image,
        Kind::Qemu => Exit::Qemu,
        Kind::Arguments => Exit::Usage,
        Kind::Harmless | Kind::Degraded => otherwise,
    };
    CommandError::new(exit, format!("{what}: {cause}")).reason(line).hint(remedy)
}
