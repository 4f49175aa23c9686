//! `kireji driver`: a driver for Haiku, before it is in a guest.

mod check;
mod install;

pub(crate) use check::read;

use crate::{CommandError, Context, Exit};

pub(crate) use install::{not_installed, not_planned};

/// Arguments of `driver`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with the driver
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether Haiku's kernel would load a driver
    Check(check::Args),
    /// Put a driver into an image, where Haiku looks for it
    Install(install::Args),
    /// Take a driver out of an image again
    Remove(install::RemoveArgs),
}

/// Does something with a driver.
///
/// # Errors
/// The driver or the image cannot be read or written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    match &args.command {
        Command::Check(args) => check::run(args, context),
        Command::Install(args) => install::run(args, context),
        Command::Remove(args) => install::remove(args, context),
    }
}
