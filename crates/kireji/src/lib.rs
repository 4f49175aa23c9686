//! The `kireji` command: arguments in; words, tables or JSON out.
//!
//! This crate is the only one that prints and that decides an exit code. Each command is one
//! module under [`command`] with its arguments and a function; they reach the machine through the
//! [`Context`] alone, so that tests run them on a tree of files and a fake kernel. Nothing of the
//! workspace may depend on this crate.

pub mod cli;
pub mod command;
mod context;
mod error;
mod exit;
mod help;
mod project;
mod shown;
mod signals;
mod streams;
mod table;
mod trouble;
mod user;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

pub use context::{Context, Vars};
pub use error::CommandError;
pub use exit::{Code, Exit};

/// Runs the program: parses the arguments, runs the command, reports an error.
#[must_use]
pub fn main() -> ExitCode {
    if lab::init::is_inside() {
        return inside_a_rig();
    }
    if guest::linux::init::is_inside() {
        let Err(error) = guest::linux::init::run();
        CommandError::from_source(Exit::Internal, error).report(&mut std::io::stderr());
        return Code::from(Exit::Internal).into();
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return Code::from(usage(&error)).into(),
    };
    let host = match cli.sysroot() {
        Ok(host) => host,
        Err(error) => {
            error.report(&mut anstream::stderr());
            return Code::from(error.exit()).into();
        }
    };
    let writer = context::writer();
    let mut context = Context {
        host: &host,
        writable: host.is_live(),
        runner: &host::SystemRunner,
        writer: &writer,
        clock: &host::SystemClock,
        vars: Vars::from_environment(&host),
        out: &mut streams::Data::new(anstream::stdout()),
        err: &mut streams::Narration::new(anstream::stderr()),
        width: context::terminal_width(),
    };
    // A defect has an exit code of its own, whatever it is; the panic itself says what and where.
    let ended = catch_unwind(AssertUnwindSafe(|| run(cli, &mut context)));
    ended.unwrap_or_else(|_| Exit::Internal.into()).into()
}

/// Runs one command and reports its error, if it has one.
pub fn run(cli: cli::Cli, context: &mut Context<'_>) -> Code {
    match command::run(cli, context) {
        Ok(code) => code,
        Err(error) => {
            error.report(context.err);
            error.exit().into()
        }
    }
}

/// The first process of a rig has nobody to report to but the kernel's console.
fn inside_a_rig() -> ExitCode {
    let Err(error) = lab::init::run();
    CommandError::from_source(Exit::Rig, error).report(&mut std::io::stderr());
    Code::from(Exit::Rig).into()
}

fn usage(error: &clap::Error) -> Exit {
    // Help and version were asked for, and are no error.
    let asked = !error.use_stderr();
    match error.print() {
        Ok(()) if asked => Exit::Done,
        Err(failure) if asked && failure.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
        Err(failure) if asked => {
            let failure = CommandError::from(failure);
            failure.report(&mut anstream::stderr());
            failure.exit()
        }
        _ => Exit::Usage,
    }
}
