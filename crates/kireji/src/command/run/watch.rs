//! `--watch`: the guest runs again whenever what it is made of has changed.
//!
//! The cards are taken once, before the first round, and given back once, after the last; between
//! rounds QEMU has closed them, and the kernel resets them, if it can, when QEMU opens them again. A
//! change while the guest runs ends it as Ctrl-C would, and Ctrl-C ends the whole.

mod changes;
mod resets;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::command::{give_back, take};
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::files::own_paths;
use super::tree::Made;
use super::{Args, guarded, leased, once, tree};
use changes::{Matter, Watched};

/// How often a thread that waits looks whether it is still wanted.
const TURN: Duration = Duration::from_millis(100);

/// Runs round after round until a signal comes.
///
/// # Errors
/// The cards cannot be taken or given back, or the kernel watches no files.
pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let signals = Signals::catch()?;
    let watched = Watched::new(matter(args, context)?).map_err(|error| {
        CommandError::from_source(Exit::HostCannot, error).hint("`--watch` needs inotify(7)")
    })?;
    let (_, named) = leased::split(args, context)?;
    let held = match named.is_empty() || !context.vars.is_root {
        true => Vec::new(),
        false => take::hold(named, args.allowed.clone(), context)?,
    };
    let ended = match signals.is_real() {
        true => Ok(Exit::Interrupted),
        false => guarded(|| {
            resets::limit(args, &held, context)?;
            resets::warn(args, context)?;
            rounds(args, context, &signals, &watched)
        }),
    };
    let cards: Vec<_> = held.iter().map(|held| held.lease.card).collect();
    match (ended, give_back::cards(&cards, context)) {
        (ended, Ok(Exit::Done)) => ended,
        (Ok(_), returned) => returned,
        (Err(error), Ok(_)) => Err(error),
        (Err(first), Err(error)) => {
            first.report(context.err);
            Err(error)
        }
    }
}

/// The files that a run is made of.
fn matter(args: &Args, context: &Context<'_>) -> std::io::Result<Matter> {
    let goal = &args.goal;
    let named = goal.driver.iter().chain(goal.put.iter().map(|put| &put.source));
    let files = named.map(std::path::absolute).collect::<Result<_, _>>()?;
    let mut sources = tree::sources(args);
    if goal.build.is_some() {
        sources.push(args.project.clone().map_or_else(std::env::current_dir, Ok)?);
    }
    let mut own: Vec<PathBuf> = own_paths(args).collect();
    own.extend([&context.vars.state, &context.vars.cache].map(PathBuf::clone));
    let own = own.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
    Ok(Matter { files, sources, own })
}

fn rounds(
    args: &Args,
    context: &mut Context<'_>,
    signals: &Signals,
    watched: &Watched,
) -> Result<Exit, CommandError> {
    loop {
        let (is_over, has_changed) = (AtomicBool::new(false), AtomicBool::new(false));
        let ended = std::thread::scope(|scope| {
            let ended = once(args, context, signals, &|build| {
                let made = build_until_clear(build, signals, watched)?;
                scope.spawn(|| ring(watched, signals, &is_over, &has_changed));
                Ok(made)
            });
            is_over.store(true, Ordering::Release);
            ended
        });
        if let Err(error) = ended {
            error.report(context.err);
        }
        if signals.is_real() {
            return Ok(Exit::Interrupted);
        }
        signals.forget();
        if has_changed.into_inner() {
            continue;
        }
        writeln!(context.err, "Waiting for a change; Ctrl-C ends this.")?;
        while !watched.has_changed(TURN) {
            if signals.is_real() {
                return Ok(Exit::Interrupted);
            }
        }
    }
}

/// Builds, and again where somebody may have saved a file meanwhile.
fn build_until_clear(
    build: &mut dyn FnMut() -> Result<Made, CommandError>,
    signals: &Signals,
    watched: &Watched,
) -> Result<Made, CommandError> {
    loop {
        let made = build();
        if !watched.was_built() || signals.is_real() {
            return made;
        }
    }
}

/// Ends the guest when something changes, as a signal would, until `is_over`.
fn ring(watched: &Watched, signals: &Signals, is_over: &AtomicBool, has_changed: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        if watched.has_changed(TURN) {
            has_changed.store(true, Ordering::Release);
            signals.ring();
            return;
        }
    }
}
