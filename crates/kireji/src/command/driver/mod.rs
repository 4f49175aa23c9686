//! `kireji driver`: a driver for Haiku, before it is in a guest.

mod check;
mod files;
mod install;
mod new;
mod output;
mod pack;
mod sdk;

use crate::{CommandError, Context, Exit};

pub(crate) use check::{is_stripped, read};
pub(crate) use files::Files;
pub(crate) use install::not_installed;

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
    /// Make a package of a driver, which Haiku installs
    Pack(pack::Args),
    /// Begin a driver: a small project that builds on this machine
    New(new::Args),
    /// Unpack what a driver is built against, and print the compiler's options
    Sdk(sdk::Args),
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
        Command::Pack(args) => pack::run(args, context),
        Command::New(args) => new::run(args, context),
        Command::Sdk(args) => sdk::run(args, context),
    }
}
