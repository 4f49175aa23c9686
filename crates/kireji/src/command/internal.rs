//! What kireji starts of itself.

use std::ffi::OsString;
use std::path::PathBuf;

use guest::launch::Launch;

use clap::Subcommand;

use crate::{CommandError, Context, Exit};

/// Arguments of `internal`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write one value to one attribute of sysfs
    WriteSysfs {
        /// The attribute
        path: PathBuf,
        /// The value
        value: String,
    },
    /// Become QEMU, tied to the life of the process that started this one
    Launch {
        /// What to do first
        launch: String,
        /// QEMU and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Does one piece of work for the process that started this one.
///
/// # Errors
/// The error number cannot be printed.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    match &args.what {
        What::WriteSysfs { path, value } => match vfio::take::run_helper(path, value) {
            Ok(()) => Ok(Exit::Done),
            Err(said) => {
                writeln!(context.out, "{said}")?;
                Ok(Exit::No)
            }
        },
        What::Launch { launch, command } => {
            let launch = Launch::from_argument(launch)?;
            let (program, arguments) = command.split_first().unwrap_or_else(|| unreachable!());
            let failure = guest::launch::exec(&launch, program, arguments);
            Err(CommandError::from_source(Exit::Internal, failure))
        }
    }
}
