//! The commands, one module each.

pub mod backtrace;
pub mod bind;
mod change;
pub mod control;
pub mod cp;
pub mod doctor;
pub mod driver;
pub mod explain;
pub mod generate;
pub mod give_back;
pub mod image;
pub mod internal;
pub mod lab;
pub mod list;
mod outcome;
mod owner;
mod pending;
mod reach;
pub mod recover;
mod refuse;
pub mod release;
pub mod report;
pub mod reserve;
mod rom;
pub mod run;
pub mod runs;
mod save;
pub mod selftest;
pub mod show;
pub mod snapshot;
pub mod ssh;
pub mod status;
pub mod take;
mod target;
pub mod trust;
pub mod undo;
pub mod verify;

use std::io::{BufWriter, Write};

use crate::cli::{Cli, Command};
use crate::{Code, CommandError, Context, Exit};

/// The longest time limit that can be set, in seconds.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// How much of a document is written at once, in bytes.
const OUTPUT_PIECE: usize = 64 << 10;

/// Runs a command.
///
/// # Errors
/// Whatever the command could not do.
pub fn run(cli: Cli, context: &mut Context<'_>) -> Result<Code, CommandError> {
    let exit = match cli.command {
        Command::Doctor(args) => doctor::run(&args, context)?,
        Command::List(args) => list::run(&args, context)?,
        Command::Show(args) => show::run(&args, context)?,
        Command::Reserve(args) => reserve::run(&args, context)?,
        Command::Verify(args) => verify::run(&args, context)?,
        Command::Release(args) => release::run(&args, context)?,
        Command::Trust(args) => trust::run(&args, context)?,
        Command::Undo(args) => undo::run(&args, context)?,
        Command::Take(args) => take::run(&args, context)?,
        Command::Return(args) => give_back::run(&args, context)?,
        Command::Status(args) => status::run(&args, context)?,
        Command::Selftest(args) => selftest::run(&args, context)?,
        Command::Snapshot(args) => snapshot::run(&args, context)?,
        Command::Explain(args) => explain::run(&args, context)?,
        Command::Run(args) => run::run(&args, context)?,
        Command::Runs(args) => runs::run(&args, context)?,
        Command::Report(args) => report::run(&args, context)?,
        Command::Control(args) => control::run(&args, context)?,
        Command::Log(args) => runs::log(&args, context)?,
        Command::Backtrace(args) => backtrace::run(&args, context)?,
        Command::Driver(args) => driver::run(&args, context)?,
        Command::Image(args) => image::run(&args, context)?,
        Command::Recover(args) => recover::run(&args, context)?,
        // These pass the code of the inner command on.
        Command::Lab(args) => return lab::run(&args, context),
        Command::Ssh(args) => return ssh::run(&args, context),
        Command::Cp(args) => return cp::run(&args, context),
        Command::Bind(args) => bind::run(&args, true)?,
        Command::Unbind(args) => bind::run(&args, false)?,
        Command::Completions(args) => generate::completions(&args, context)?,
        Command::Man(args) => generate::man(&args, context)?,
        Command::Internal(args) => internal::run(&args, context)?,
    };
    Ok(exit.into())
}

/// Writes one JSON document, with its version.
fn print_json(context: &mut Context<'_>, value: impl serde::Serialize) -> Result<(), CommandError> {
    #[derive(serde::Serialize)]
    struct Document<T> {
        schema: u32,
        #[serde(flatten)]
        value: T,
    }
    // Standard output is written by the line, of which there are a score for each function.
    let mut out = BufWriter::with_capacity(OUTPUT_PIECE, &mut *context.out);
    serde_json::to_writer_pretty(&mut out, &Document { schema: 1, value })?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Refuses a command that writes to the host, unless this process may.
fn need_root(context: &Context<'_>) -> Result<(), CommandError> {
    need_root_for("changing who drives a card", context)
}

/// Refuses something else that writes to the host, likewise.
fn need_root_for(what: &str, context: &Context<'_>) -> Result<(), CommandError> {
    if !context.writable {
        return Err(CommandError::new(Exit::Usage, "a captured host is only looked at")
            .hint("leave out `--sysroot` to change the running one"));
    }
    if !context.vars.is_root {
        return Err(CommandError::new(Exit::Permission, format!("{what} needs root's rights"))
            .hint(format!("run `{}`", context.vars.sudo_line())));
    }
    Ok(())
}
