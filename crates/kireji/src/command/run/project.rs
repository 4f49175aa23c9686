//! `kireji run` in a directory with a project file.

use std::path::Path;

use clap::Parser;

use crate::project::Project;
use crate::{CommandError, Context, Exit};

use super::{Args, GuestKind};

/// A command line of `run` alone.
#[derive(Debug, Parser)]
#[command(name = "kireji run", no_binary_name = true)]
pub(super) struct Line {
    #[command(flatten)]
    pub(super) args: Args,
}

/// Returns the arguments with those of the target before them, where a target of the project that
/// this directory belongs to is meant: it is named where the image would be, or nothing is.
pub(super) fn expand(args: &Args, context: &Context<'_>) -> Result<Option<Args>, CommandError> {
    if args.guest == GuestKind::Linux || args.image.as_ref().is_some_and(|image| image.exists()) {
        return Ok(None);
    }
    let directory = std::env::current_dir()?;
    let Some(project) = Project::find(&directory, context)? else { return Ok(None) };
    let image = args.image.as_deref();
    let name = image.and_then(Path::file_name).and_then(|name| name.to_str());
    let is_here = image.is_none_or(|image| image.parent() == Some(&directory));
    if name.is_some_and(|name| !project.has(name)) || !is_here {
        return Ok(None);
    }
    let mut words = project.words(name, context)?;
    // The target's name has done its work; the first word is the command.
    let mut is_named = name.is_some();
    for word in context.vars.args.iter().skip_while(|word| *word != "run").skip(1) {
        match is_named && word.to_str() == name {
            true => is_named = false,
            false => words.push(word.clone()),
        }
    }
    let mut line = Line::try_parse_from(words).map_err(|error| {
        let error = error.render().to_string();
        let mut lines = error.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        CommandError::new(Exit::Usage, first).hint("look into kireji.toml and the command line")
    })?;
    line.args.project = Some(project.directory);
    Ok(Some(line.args))
}
