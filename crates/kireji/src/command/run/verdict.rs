//! What the end of a run means.

use std::os::unix::process::ExitStatusExt;

use guest::diagnosis::{self, Cause, Kind};
use guest::guests::{Finding, Observer, Verdict};
use guest::launch::Step;
use guest::process::{Ending, Outcome};
use haiku::kdl::Panic;

use crate::shown::plain;
use crate::{CommandError, Exit};

use super::record::{Ended, Said};

/// Returns the exit code of a run with what to say, or its error. `told` is given the panic of the
/// guest's kernel, if there was one, and returns it with the names of its frames.
pub(super) fn judge(
    outcome: &Outcome,
    observer: &dyn Observer,
    told: impl FnOnce(Panic) -> Panic,
) -> Ended {
    match &outcome.ending {
        Ending::Guest(end) => of_guest(observer.judge(*end), told),
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
        Ending::Killed => Err(CommandError::new(
            Exit::QemuCrashed,
            "QEMU was ended from outside, by a signal that kireji did not send",
        )),
        Ending::Hung => Err(CommandError::new(
            Exit::QemuCrashed,
            "QEMU neither answered nor ended, and was killed",
        )),
    }
}

/// Returns what a run means that its guest has shown.
pub(super) fn of_guest(verdict: Verdict, told: impl FnOnce(Panic) -> Panic) -> Ended {
    let Verdict { finding, summary, mut reasons, panic } = verdict;
    if let Some(panic) = panic {
        let panic = told(*panic);
        reasons.push(format!("it is known as `{}`", panic.title));
        if panic.corrupted {
            reasons.push("what it said is damaged, so the frame to blame is a guess".to_owned());
        }
    }
    let exit = match finding {
        Finding::Done => Exit::Done,
        Finding::Stopped => Exit::Interrupted,
        Finding::Unproven => Exit::Unproven,
        Finding::NotDriven => Exit::DriverNotLoaded,
        Finding::NotBooted => Exit::BootFailed,
        Finding::Panicked => Exit::Panic,
        Finding::Hung => Exit::Hung,
        Finding::Reset => Exit::ResetLoop,
        Finding::Failed => Exit::TestFailed,
        Finding::ProgramCrashed => Exit::UserCrash,
        Finding::CardFault => Exit::CardFault,
    };
    let reasons = reasons.iter().map(|reason| plain(reason));
    if matches!(finding, Finding::Done | Finding::Stopped | Finding::Unproven) {
        return Ok(Said { exit, words: sentence(&summary), reasons: reasons.collect() });
    }
    let error = reasons.fold(CommandError::new(exit, summary), CommandError::reason);
    Err(error.hint("`kireji log` shows how far it came"))
}

/// Returns words as a sentence.
pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// An error with the cause that QEMU's log gives.
fn from_log(outcome: &Outcome, what: &str, otherwise: Exit) -> CommandError {
    let Some(cause) = diagnosis::reason(&outcome.log) else {
        let lines: Vec<_> = outcome.log.lines().rev().take(5).collect();
        let error = CommandError::new(otherwise, what);
        let lines = lines.into_iter().rev().map(plain);
        return lines.fold(error, CommandError::reason);
    };
    let Cause { line, kind, cause, remedy, .. } = cause;
    let exit = match kind {
        Kind::Permission => Exit::Permission,
        Kind::Busy => Exit::Busy,
        Kind::Host => Exit::HostCannot,
        Kind::Card => Exit::CardFault,
        Kind::File => Exit::Image,
        Kind::Space => Exit::NoSpace,
        Kind::Qemu => Exit::Qemu,
        Kind::Arguments => Exit::Usage,
        Kind::Harmless | Kind::Degraded => otherwise,
    };
    CommandError::new(exit, format!("{what}: {cause}")).reason(plain(line)).hint(remedy)
}
