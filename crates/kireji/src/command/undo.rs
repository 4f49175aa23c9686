//! `kireji undo`: what `reserve` or `release` did last is reverted.

use reserve::apply::{Applier, SystemDisk};
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::plan::Command;

use crate::{CommandError, Context, Exit};

use super::change::{self, apply_error};

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List what can be reverted, the last at the end
    #[arg(long)]
    list: bool,
}

/// Reverts the last change of what this host boots with, and proves that it is gone.
///
/// # Errors
/// There is none, somebody changed a file since, or something failed.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    super::need_root_for("changing what this host boots with", context)?;
    let applier = Applier::new(context.host, &SystemDisk, context.runner);
    if args.list {
        for record in applier.records().map_err(apply_error)? {
            let paths = record.files.iter().map(|file| file.path.display().to_string());
            writeln!(context.out, "{} {}", record.number, paths.collect::<Vec<_>>().join(" "))?;
        }
        return Ok(Exit::Done);
    }
    let record = applier.undo().map_err(apply_error)?;
    for file in &record.files {
        writeln!(context.out, "{} is as it was", file.path.display())?;
    }
    for command in record.commands.iter().map(Command::to_take_back) {
        writeln!(context.out, "`{command}` has run")?;
    }
    let goal = Goal::of(context.host, change::reservations(context)?, Change::default())?;
    Ok(change::prove(&goal, context)?.into())
}
