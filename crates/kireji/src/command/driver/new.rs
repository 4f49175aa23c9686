//! `kireji driver new`.

use std::path::PathBuf;

use haiku::project::{Style, files};

use super::output;
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Arguments of `driver new`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The driver's name: small letters, digits and `_`
    name: String,
    /// Which of Haiku's interfaces it has
    #[arg(long, value_enum, default_value_t = Interface::Legacy)]
    style: Interface,
    /// Where to put the project (default: a directory of the driver's name)
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// The interface of a new driver.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Interface {
    /// The old one, which any class of card can have
    Legacy,
    /// That of the device manager
    Module,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let style = match args.style {
        Interface::Legacy => Style::Legacy,
        Interface::Module => Style::Module,
    };
    let files = files(&args.name, style)
        .map_err(|error| CommandError::new(Exit::Usage, error.to_string()))?;
    let directory = args.output.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let owner = Owner::of(&context.vars);
    output::directory(&directory, owner)?;
    for (name, text) in files {
        output::file(&directory.join(name), text.as_bytes(), owner)?;
    }
    writeln!(
        context.err,
        "{} is a driver for one PCI card: put its ids into {}.c, then\n  \
         kireji driver sdk IMAGE --output {}/sdk\n  make -C {}",
        directory.display(),
        args.name,
        directory.display(),
        directory.display()
    )?;
    Ok(Exit::Done)
}
