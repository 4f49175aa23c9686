//! `kireji trust`: arguments for QEMU that came with a project.

use crate::project::{FILE, Project};
use crate::{CommandError, Context, Exit};

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Shows the arguments for QEMU of the project that this directory belongs to, and trusts them as they are.
///
/// # Errors
/// There is no project, or the state directory cannot be written.
pub fn run(_args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let directory = std::env::current_dir()?;
    let Some(project) = Project::find(&directory, context)? else {
        let message = format!("there is no {FILE} here, nor in a directory above");
        return Err(CommandError::new(Exit::Usage, message));
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
    project.trust(context)?;
    writeln!(context.out, "These are trusted until they change.")?;
    Ok(Exit::Done)
}
