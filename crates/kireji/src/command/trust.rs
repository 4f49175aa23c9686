//! `kireji trust`: what came with a project and reaches beyond it.

use crate::project::{FILE, Project};
use crate::{CommandError, Context, Exit};

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Shows what the project that this directory belongs to wants beyond a build and a guest, and trusts it as it is.
///
/// # Errors
/// There is no project, or the state directory cannot be written.
pub fn run(_args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let directory = std::env::current_dir()?;
    let Some(project) = Project::find(&directory, context)? else {
        let message = format!("there is no {FILE} here, nor in a directory above");
        return Err(CommandError::new(Exit::Usage, message));
    };
    let all = project.doubtful();
    if all.is_empty() {
        writeln!(context.out, "No target has anything that is to be trusted.")?;
        return Ok(Exit::Done);
    }
    for (name, doubtful) in all {
        for one in doubtful {
            writeln!(context.out, "{name}: {}", crate::shown::plain(&one.to_string()))?;
        }
    }
    project.trust(context)?;
    writeln!(context.out, "These are trusted until they change.")?;
    Ok(Exit::Done)
}
