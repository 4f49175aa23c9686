//! `kireji control`: what a person wants of a guest that runs.

use guest::door::{self, DoorError, Order};

use super::runs;
use crate::{CommandError, Context, Exit};

/// What is to be done with the guest.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Wanted {
    /// Reset the machine
    Reset,
    /// Send a non-maskable interrupt: a kernel that hangs enters its debugger
    Nmi,
    /// Press the power button
    Shutdown,
    /// End QEMU at once
    Quit,
}

/// Arguments of `control`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    order: Wanted,
    /// The run, by its name or the beginning of it; without it, the last one
    run: Option<String>,
}

/// Has QEMU do something with the guest of a run that goes on.
///
/// # Errors
/// There is no such run, it is over, or QEMU does not do it.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let run = runs::find(args.run.as_deref(), context)?;
    let (order, done) = match args.order {
        Wanted::Reset => (Order::Reset, "was reset"),
        Wanted::Nmi => (Order::Nmi, "got a non-maskable interrupt"),
        Wanted::Shutdown => (Order::Shutdown, "had its power button pressed"),
        Wanted::Quit => (Order::Quit, "was ended"),
    };
    door::order(&run.path, order).map_err(|error| {
        let exit = match &error {
            DoorError::Over { .. } => Exit::HostCannot,
            DoorError::Unreachable { source, .. } => Exit::of_io(source),
            DoorError::Refused(_) => Exit::Qemu,
        };
        let hint = match &error {
            DoorError::Refused(_) => "`kireji log --qemu` shows what QEMU said",
            _ => "`kireji runs` lists them",
        };
        CommandError::from_source(exit, error).hint(hint)
    })?;
    writeln!(context.err, "the guest of run {} {done}", run.id)?;
    Ok(Exit::Done)
}
