//! `--build`: a program that makes the driver, before anything else.

use std::time::Duration;

use host::{Program, Runner};

use crate::shown::plain;
use crate::{CommandError, Context, Exit};

use super::goal::Words;
use super::qemu::with_runner;

/// How long a build may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// Lines of its output that an error quotes.
const TAIL: usize = 20;

/// Runs it as the user whom the run belongs to.
///
/// # Errors
/// It cannot be started, or fails.
pub(super) fn run(words: &Words, context: &mut Context<'_>) -> Result<(), CommandError> {
    let Some((executable, args)) = words.0.split_first() else { return Ok(()) };
    writeln!(context.err, "build: {}", words.0.join(" "))?;
    let program = Program::new(executable).args(args).limit(LIMIT);
    let finished = with_runner(context, |runner: &dyn Runner| runner.run(&program));
    let finished = finished.map_err(|error| CommandError::from_source(Exit::No, error))?;
    let said = [finished.stdout, finished.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if finished.status.success() {
        for line in said.lines().filter(|line| line.contains("warning:")) {
            writeln!(context.err, "  {}", plain(line))?;
        }
        return Ok(());
    }
    let lines: Vec<_> = said.lines().collect();
    let first = lines.len().saturating_sub(TAIL);
    let error = CommandError::new(Exit::No, format!("the build failed with {}", finished.status));
    Err(lines.into_iter().skip(first).map(plain).fold(error, CommandError::reason))
}
