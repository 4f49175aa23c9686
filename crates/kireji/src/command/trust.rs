//! `kireji trust`: arguments for QEMU that came with a project.

use crate::project::{FILE, Project};
use crate::{CommandError, Context, Exit};

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Shows the arguments for QEMU of the project in this directory, and trusts them as they are.
///
/// # Errors
/// There is no project, or the state directory cannot be written.
pub fn run(_args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let directory = std::env::current_dir()?;
    let Some(project) = Project::of(&directory)? else {
        return Err(CommandError::new(Exit::Usage, format!("there is no {FILE} here")));
    };
    let all = project.qemu_args();
    if all.is_empty() {
        writeln!(context.out, "No target has arguments for QEMU.")?;
        return Ok(Exit::Done);
    }
    for (name, args) in all {
        for arg in args {
            writeln!(context.out, "{name}: {}", crate::shown::plain(arg))?;
        }
    }
    project.trust(&directory, context)?;
    writeln!(context.out, "These are trusted until they change.")?;
    Ok(Exit::Done)
}
