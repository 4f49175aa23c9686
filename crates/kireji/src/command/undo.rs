//! `kireji undo`: what `reserve` or `release` did last is reverted.

use std::io;

use reserve::apply::{Applier, SystemDisk};
use reserve::built::Difference;
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::plan::{self, Contents, FileChange};

use crate::{CommandError, Context, Exit};

use super::change::{self, Reached, apply_error};

/// How many differences of one file are told one by one.
const MOST_DETAILS: usize = 20;

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List what can be reverted, the last at the end
    #[arg(long)]
    list: bool,
}

/// Reverts the last change of what this host boots with, proves that it is gone, and compares what
/// was built again with what there was before.
///
/// # Errors
/// There is none, somebody changed the same since, or something failed.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    super::need_root_for("changing what this host boots with", context)?;
    let applier = Applier::new(context.host, &SystemDisk, context.runner);
    if args.list {
        for record in applier.records().map_err(|error| apply_error(error, context))? {
            let paths = record.files.iter().map(|file| file.path.display().to_string());
            writeln!(context.out, "{} {}", record.number, paths.collect::<Vec<_>>().join(" "))?;
        }
        return Ok(Exit::Done);
    }
    let undone = applier.undo().map_err(|error| apply_error(error, context))?;
    let is_merged = |path| undone.merged.iter().any(|change| change.path == path);
    for file in undone.files.iter().filter(|file| !is_merged(file.path.as_path())) {
        writeln!(context.out, "{} is as it was", file.path.display())?;
    }
    for change in &undone.merged {
        let path = change.path.display();
        writeln!(context.out, "{path} keeps what somebody else changed, and is changed so:")?;
        plan::write_change(change, context.out)?;
    }
    for command in &undone.commands {
        writeln!(context.out, "`{command}` has run")?;
    }
    if let Some(failure) = &undone.failure {
        writeln!(context.err, "{failure}; what is built is as it was all the same")?;
    }
    let goal = Goal::of(context.host, change::reservations(context)?, Change::default())?;
    let reached = change::prove(&goal, context)?;
    for difference in &undone.differences {
        tell(difference, context.err)?;
    }
    // What is merged is not built as before.
    let is_ours = |difference: &Difference| !difference.is_foreign;
    if undone.merged.is_empty() && undone.differences.iter().any(is_ours) {
        writeln!(
            context.err,
            "not all that was built again is as it was: see above before you reboot"
        )?;
        return Ok(Reached::Unproven.into());
    }
    Ok(reached.into())
}

/// Says how a file that was built again differs from what it was.
fn tell(difference: &Difference, out: &mut dyn io::Write) -> io::Result<()> {
    let Difference { path, is_foreign, details, texts } = difference;
    let since = if *is_foreign { ", changed by others since" } else { "" };
    writeln!(out, "{path} is not as it was{since}:")?;
    for detail in details.iter().take(MOST_DETAILS) {
        writeln!(out, "  {detail}")?;
    }
    if details.len() > MOST_DETAILS {
        writeln!(out, "  and {} more", details.len() - MOST_DETAILS)?;
    }
    if let Some((before, after)) = texts {
        let [before, after] = [before, after].map(|text| Some(Contents::text(text.clone())));
        plan::write_change(&FileChange { path: path.into(), before, after }, out)?;
    }
    Ok(())
}
