//! `kireji recover`: the cards of processes that died go back to their drivers.

use vfio::take::{Keeper, Recovery};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::{change, outcome};

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Restores every card whose process is provably gone.
///
/// # Errors
/// A card could not be restored, or its lease not be used; those that could are.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    super::need_root(context)?;
    change::take_back_pending(context)?;
    // What is begun is brought to its end, which is near.
    let _signals = Signals::catch()?;
    let keeper = Keeper::new(context.host, context.writer);
    let recovered = keeper.recover().map_err(outcome::lease_error)?;
    let damaged = keeper.damaged().map_err(outcome::lease_error)?;
    if recovered.is_empty() && damaged.is_empty() && !args.json {
        writeln!(context.out, "Nothing to recover.")?;
    }
    let mut exit = Exit::Done;
    let mut failed = None;
    let mut all = Vec::new();
    for Recovery { outcome: became, .. } in recovered {
        let restored = match became {
            Ok(restored) => restored,
            Err(error) => {
                let error = outcome::take_error(error);
                if let Some(earlier) = failed.replace(error) {
                    earlier.report(context.err);
                }
                continue;
            }
        };
        if exit == Exit::Done {
            exit = outcome::restored_exit(&restored);
        }
        all.extend(restored);
    }
    outcome::tell(&all, args.json, context)?;
    for error in damaged.iter().map(outcome::damaged) {
        if let Some(earlier) = failed.replace(error) {
            earlier.report(context.err);
        }
    }
    failed.map_or(Ok(exit), Err)
}

/// Does the same on the way to another command that writes, and narrates it. A card that cannot be
/// restored is only in the way of a command about that very card, which its lease then refuses.
pub(super) fn first(context: &mut Context<'_>) -> Result<(), CommandError> {
    if let Err(error) = change::take_back_pending(context) {
        error.report(context.err);
    }
    let keeper = Keeper::new(context.host, context.writer);
    for Recovery { lease, outcome: became } in keeper.recover().map_err(outcome::lease_error)? {
        let (card, pid) = (lease.card, lease.owner.pid);
        match became {
            Ok(restored) => {
                writeln!(context.err, "recovered {card} from process {pid}, which died:")?;
                for one in &restored {
                    writeln!(context.err, "  {}", outcome::restored_in_words(one))?;
                }
            }
            Err(error) => {
                writeln!(context.err, "{card} could not be recovered from process {pid}:")?;
                outcome::take_error(error).report(context.err);
            }
        }
    }
    for damaged in keeper.damaged().map_err(outcome::lease_error)? {
        writeln!(context.err, "{damaged}")?;
    }
    Ok(())
}
