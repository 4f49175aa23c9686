//! What kireji starts of itself.

use std::ffi::OsString;
use std::path::PathBuf;

use guest::launch::Launch;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

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
        /// Do it only while this process lives
        #[arg(long)]
        parent: Option<i32>,
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
        What::WriteSysfs { parent, path, value } => {
            if let Some(parent) = parent {
                follow(*parent)?;
            }
            match vfio::take::run_helper(path, value) {
                Ok(()) => Ok(Exit::Done),
                Err(said) => {
                    writeln!(context.out, "{said}")?;
                    Ok(Exit::No)
                }
            }
        }
        What::Launch { launch, command } => {
            let launch = Launch::from_argument(launch)?;
            let (program, arguments) = command.split_first().unwrap_or_else(|| unreachable!());
            let failure = guest::launch::exec(&launch, program, arguments);
            Err(CommandError::from_source(Exit::Internal, failure))
        }
    }
}

/// Ties this process to the life of its parent: once that is gone, somebody else may be restoring
/// what it journalled, and a late write would undo that.
fn follow(parent: i32) -> Result<(), CommandError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() != parent) {
        return Err(CommandError::new(
            Exit::Interrupted,
            "the process that asked for this is gone",
        ));
    }
    Ok(())
}
