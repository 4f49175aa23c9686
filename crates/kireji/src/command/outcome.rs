//! How what the keeper says becomes words and exit codes.

use host::journal::JournalError;
use pci::Address;
use serde::Serialize;
use vfio::take::{
    Damaged, LeaseError, RestoreError, Restored, State, TakeError, Unwell, Work, WriteFailure,
};

use crate::{CommandError, Context, Exit};

/// What can still become of a write that hangs.
const ENDED_AFTER_ALL: &str = "should it end after all, `kireji recover` restores the card";

/// An error of the leases themselves.
pub(super) fn lease_error(error: LeaseError) -> CommandError {
    let exit = match &error {
        LeaseError::Locked => Exit::Busy,
        LeaseError::Io { source, .. } | LeaseError::Journal(JournalError::Io { source, .. }) => {
            Exit::of_io(source)
        }
        LeaseError::Journal(_) => Exit::HostCannot,
        LeaseError::Read(error) if error.is_denied() => Exit::Permission,
        LeaseError::Read(_) => Exit::HostCannot,
    };
    CommandError::from_source(exit, error)
}

/// An error of taking, returning or recovering.
pub(super) fn take_error(error: TakeError) -> CommandError {
    if error.is_hung() {
        return CommandError::from_source(Exit::HostCannot, error)
            .code("E-HUNG")
            .hint("the driver does not let go of the device and holds its lock in the kernel")
            .hint("do not retry: save your work and reboot; until then leave this card alone")
            .hint(ENDED_AFTER_ALL);
    }
    match error {
        TakeError::Lease(error) => lease_error(error),
        TakeError::Taken { address, state } => taken(address, &state),
        TakeError::Nothing | TakeError::NoSuchReset { .. } => {
            CommandError::from_source(Exit::Usage, error)
        }
        TakeError::Damaged(ref damaged) => self::damaged(damaged),
        TakeError::Gone { .. } => CommandError::from_source(Exit::Busy, error).code("E-BUSY"),
        TakeError::Read(error) => error.into(),
        TakeError::NotBound { .. } => CommandError::from_source(Exit::HostCannot, error)
            .code("E-NOT-BOUND")
            .hint("the kernel log says why: look for `vfio-pci` in `dmesg`")
            .hint("error -22 means that no IOMMU isolates the function"),
        TakeError::Step { source: RestoreError::Write(ref failure), .. } => {
            let exit = refused_exit(failure);
            CommandError::from_source(exit, error)
        }
        TakeError::Step { .. } => CommandError::from_source(Exit::HostCannot, error),
        TakeError::NotRolledBack { .. } => CommandError::from_source(Exit::HostCannot, error)
            .code("E-NOT-ROLLED-BACK")
            .hint("`kireji status` shows how it stands, `kireji recover` tries again"),
    }
}

fn refused_exit(failure: &WriteFailure) -> Exit {
    match failure {
        WriteFailure::Refused { source, .. } | WriteFailure::Helper { source, .. } => {
            Exit::of_io(source)
        }
        WriteFailure::Hung { .. } => Exit::HostCannot,
    }
}

pub(super) fn taken(address: Address, state: &State) -> CommandError {
    let busy = |message| CommandError::new(Exit::Busy, message).code("E-BUSY");
    match state {
        State::Busy { pid } => busy(format!("{address} is held by process {pid}")),
        State::Held | State::Unwell { .. } => {
            busy(format!("{address} is taken already")).hint("`kireji status` shows how it is held")
        }
        State::Abandoned => busy(format!("{address} was left behind by a process that died"))
            .hint("`kireji recover` restores it"),
        State::HelperAtWork { work } => {
            let message = format!(
                "{address} was left behind by a process that died, whose helper still writes"
            );
            work.iter()
                .fold(busy(message), |error, work| error.reason(work_in_words(work)))
                .hint("`kireji recover` restores it once that has ended")
                .hint("if it does not end, the driver does not let go: reboot, do not retry")
        }
        State::Hung { pid } => CommandError::new(
            Exit::HostCannot,
            format!("a write to {address} hangs in the kernel (pid {pid})"),
        )
        .code("E-HUNG")
        .hint("reboot; until then leave this card alone")
        .hint(ENDED_AFTER_ALL),
    }
}

/// The error of a card whose lease cannot be used.
pub(super) fn damaged(damaged: &Damaged) -> CommandError {
    let error = CommandError::new(Exit::HostCannot, damaged.to_string()).code("E-LEASE-DAMAGED");
    let remove = format!("`sudo rm '{}'`", damaged.path.display());
    match damaged.card {
        Some(card) => error
            .hint(format!("`kireji show {card}` shows which driver it has now"))
            .hint(format!("once it is as it should be, {remove}; a reboot does all of that")),
        None => error.hint(format!("it names no card: {remove}")),
    }
}

/// Says what a helper does.
pub(super) fn work_in_words(work: &Work) -> String {
    format!("process {} writes `{}` to {}", work.pid, work.value, work.path)
}

/// What became of one function, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Returned {
    function: Address,
    outcome: &'static str,
    driver: Option<String>,
    words: String,
}

impl From<&Restored> for Returned {
    fn from(one: &Restored) -> Self {
        let (function, outcome, driver) = match one {
            Restored::Back(function, binding) => (*function, "back", binding.driver.clone()),
            Restored::Foreign(function, driver) => (*function, "foreign", Some(driver.clone())),
            Restored::Gone(function) => (*function, "gone", None),
            Restored::Unwell(
                Unwell::AllOnes(function)
                | Unwell::StuckInD3(function)
                | Unwell::ResetFailed(function, _),
            ) => (*function, "unwell", None),
        };
        Self { function, outcome, driver, words: restored_in_words(one) }
    }
}

/// Says what became of each function: in words, or as a document.
pub(super) fn tell(
    restored: &[Restored],
    is_json: bool,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Document {
        returned: Vec<Returned>,
    }
    if is_json {
        let returned = restored.iter().map(Returned::from).collect();
        return super::print_json(context, Document { returned });
    }
    for one in restored {
        writeln!(context.out, "{}", restored_in_words(one))?;
    }
    Ok(())
}

/// Says what became of one function.
pub(super) fn restored_in_words(restored: &Restored) -> String {
    match restored {
        Restored::Back(address, binding) => match &binding.driver {
            Some(driver) => format!("{address} is back on {driver}"),
            None => format!("{address} has no driver again"),
        },
        Restored::Foreign(address, driver) => {
            format!("{address} was bound to {driver} by somebody else and was left alone")
        }
        Restored::Gone(address) => format!("{address} is gone from the bus"),
        Restored::Unwell(unwell) => format!("{unwell}: it stays on vfio-pci"),
    }
}

/// The exit code for what became of the functions of a card.
pub(super) fn restored_exit(restored: &[Restored]) -> Exit {
    let fault = |one: &Restored| matches!(one, Restored::Unwell(_) | Restored::Gone(_));
    if restored.iter().any(fault) { Exit::CardFault } else { Exit::Done }
}
