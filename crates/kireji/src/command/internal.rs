//! What kireji starts of itself.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use guest::launch::Launch;
use host::{Owner, Sysroot};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use vfio::take::{BEGUN, Order};

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
        parent: u32,
        /// The file that is locked meanwhile
        #[arg(long)]
        lock: Option<PathBuf>,
        /// The attribute
        path: String,
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
        What::WriteSysfs { parent, lock, path, value } => {
            let order = Order { path, value, lock: lock.as_deref() };
            let begin = || context.out.write_all(BEGUN).and_then(|()| context.out.flush());
            let is_wanted = || follow(context.host, *parent);
            let written = vfio::take::run_helper(&order, is_wanted, begin);
            match written.map_err(|error| CommandError::from_source(Exit::Interrupted, error))? {
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

/// Ties this process to the life of its parent, and tells whether that still lives, by the same
/// proof by which others take over what it journalled.
fn follow(host: &Sysroot, parent: u32) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let is_parent =
        getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent));
    let is_gone = || Owner::of(host, parent).and_then(|owner| owner.is_gone(host));
    Ok(is_parent && !is_gone().map_err(|error| error.source)?)
}
