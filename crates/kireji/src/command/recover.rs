//! `kireji recover`: the cards of processes that died go back to their drivers.

use vfio::take::Keeper;

use crate::{CommandError, Context, Exit};

use super::outcome;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Restores every card whose process is provably gone.
///
/// # Errors
/// A card could not be restored.
pub fn run(_: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    super::need_root(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    let recovered = keeper.recover().map_err(outcome::take_error)?;
    if recovered.is_empty() {
        writeln!(context.out, "Nothing to recover.")?;
    }
    let mut exit = Exit::Done;
    for (_, restored) in &recovered {
        for one in restored {
            writeln!(context.out, "{}", outcome::restored_in_words(one))?;
        }
        if exit == Exit::Done {
            exit = outcome::restored_exit(restored);
        }
    }
    Ok(exit)
}

/// Does the same on the way to another command that writes, and narrates it.
pub(super) fn first(context: &mut Context<'_>) -> Result<(), CommandError> {
    let keeper = Keeper::new(context.host, context.writer);
    for (lease, restored) in keeper.recover().map_err(outcome::take_error)? {
        writeln!(
            context.err,
            "recovered {} from process {}, which died:",
            lease.card, lease.owner.pid
        )?;
        for one in &restored {
            writeln!(context.err, "  {}", outcome::restored_in_words(one))?;
        }
    }
    Ok(())
}
