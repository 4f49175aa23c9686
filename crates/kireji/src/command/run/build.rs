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
    execute(Program::new(executable).args(args), context)
}

/// Runs a program that builds something, as the user whom the run belongs to.
///
/// # Errors
/// It cannot be started, or fails; the reasons are then the end of what it said.
pub(super) fn execute(program: Program, context: &mut Context<'_>) -> Result<(), CommandError> {
    let words = program.args.iter().map(|word| word.to_string_lossy());
    let words: Vec<_> =
        std::iter::once(program.executable.to_string_lossy()).chain(words).collect();
    writeln!(context.err, "build: {}", plain(&words.join(" ")))?;
    let program = program.limit(LIMIT);
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
