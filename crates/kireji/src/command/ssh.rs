//! `kireji ssh`: a shell in the guest of a run that goes on.

use std::ffi::OsString;

use guest::login::ALIAS;

use super::reach;
use crate::{Code, CommandError, Context};

/// Arguments of `ssh`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, by its name or the beginning of it; without it, the last one that goes on
    run: Option<String>,
    #[command(flatten)]
    wait: reach::Wait,
    /// A command for the guest's shell, in the place of a shell: its words are joined by blanks
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Logs in to the guest, or runs a command there; the exit code is ssh's.
///
/// # Errors
/// There is no such run, nobody can log in to its guest, or the guest does not answer.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Code, CommandError> {
    let run = reach::find(args.run.as_deref(), context)?;
    let configuration = reach::open(&run, args.wait, context)?;
    let mut words: Vec<OsString> = vec!["-F".into(), configuration.into(), ALIAS.into()];
    if !args.command.is_empty() {
        words.push("--".into());
        words.extend_from_slice(&args.command);
    }
    reach::attach("ssh", words, context)
}
