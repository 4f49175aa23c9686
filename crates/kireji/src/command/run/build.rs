//! `--build`: a program that makes the driver, before anything else.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use host::{Program, RunError, Runner};

use crate::shown::{Filter, plain};
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::Args;
use super::goal::Words;
use super::qemu::with_runner;

/// How long a build may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// Lines of its output that an error quotes, and bytes that are kept for that.
const TAIL: usize = 20;
const KEPT: usize = 64 << 10;

/// Runs it as the user whom the run belongs to, in the project's directory if there is one.
///
/// # Errors
/// It cannot be started, or fails.
pub(super) fn run(
    words: &Words,
    args: &Args,
    signals: &Signals,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let Some((executable, words)) = words.0.split_first() else { return Ok(()) };
    let program = Program { directory: args.project.clone(), ..Program::new(executable) };
    execute(program.args(words), args.quiet, &mut Vec::new(), signals, context)
}

/// Runs a program that builds something, as the user whom the run belongs to. What it says is shown
/// meanwhile, unless that is not wanted; the last lines of it are left in `tail`.
///
/// # Errors
/// It cannot be started, is interrupted, or fails; the reasons are then the last lines, if nothing was shown.
pub(super) fn execute(
    program: Program,
    is_quiet: bool,
    tail: &mut Vec<String>,
    signals: &Signals,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let words = program.args.iter().map(|word| word.to_string_lossy());
    let words: Vec<_> =
        std::iter::once(program.executable.to_string_lossy()).chain(words).collect();
    writeln!(context.err, "build: {}", plain(&words.join(" ")))?;
    // Its end is the affair of this process, whether a signal came from the terminal or not.
    let program = program.limit(LIMIT).apart();
    let (mut filter, mut said) = (Filter::default(), Vec::new());
    let mut err = anstream::stderr();
    let mut each = |piece: &[u8]| {
        said.extend_from_slice(piece);
        said.drain(..said.len().saturating_sub(KEPT));
        if !is_quiet {
            // Nobody reading is no reason to end the build.
            drop(err.write_all(&filter.feed(piece)));
        }
    };
    let stop = Some(signals.as_fd());
    let status =
        with_runner(context, |runner: &dyn Runner| runner.follow(&program, stop, &mut each));
    drop(err.write_all(filter.reset()));
    let status = status.map_err(|error| match error {
        RunError::Interrupted { .. } => {
            CommandError::new(Exit::Interrupted, "the build was interrupted")
        }
        error => CommandError::from_source(Exit::No, error),
    })?;
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().map(plain).collect();
    tail.extend(lines.into_iter().rev().take(TAIL).rev());
    if status.success() {
        return Ok(());
    }
    let error = CommandError::new(Exit::No, format!("the build failed with {status}"));
    let reasons = tail.iter().filter(|_| is_quiet).cloned();
    Err(reasons.fold(error, CommandError::reason))
}
