//! `kireji image rm`, `mkdir` and `ln`.

use bfs::{Kind, NodeId};

use super::open::ImageVolume;
use super::{Writing, failed, open, paths};
use crate::{CommandError, Context, Exit};

/// Arguments of `image rm`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    writing: Writing,
    /// What to remove; `*` and `?` stand for any characters
    #[arg(required = true)]
    paths: Vec<String>,
    /// Remove directories with everything in them
    #[arg(short, long)]
    recursive: bool,
}

/// Arguments of `image mkdir`.
#[derive(Debug, clap::Args)]
pub(super) struct MkdirArgs {
    #[command(flatten)]
    writing: Writing,
    /// The directories to make
    #[arg(required = true)]
    paths: Vec<String>,
    /// Make the directories above too, and accept those that are there
    #[arg(short, long)]
    parents: bool,
}

/// Arguments of `image ln`.
#[derive(Debug, clap::Args)]
pub(super) struct LinkArgs {
    #[command(flatten)]
    writing: Writing,
    /// What the link is to lead to
    target: String,
    /// The link to make
    path: String,
}

pub(super) fn remove(args: &RemoveArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = open::write(&args.writing, context)?;
    volume.batch();
    let done = remove_all(&mut volume, args);
    // What was removed before an error is gone.
    let written = volume.sync().map_err(failed);
    done.and(written)?;
    Ok(Exit::Done)
}

fn remove_all(volume: &mut ImageVolume, args: &RemoveArgs) -> Result<(), CommandError> {
    for path in &args.paths {
        for found in paths::find(volume, path)? {
            if found.path.is_empty() {
                return Err(CommandError::new(Exit::Usage, "the root directory stays"));
            }
            if args.recursive {
                empty(volume, found.node)?;
            }
            volume.remove(found.parent, found.name()).map_err(|error| {
                let is_full = matches!(error, bfs::Error::NotEmpty(_));
                let error = failed(error);
                if is_full { error.hint("`--recursive` removes what is in it too") } else { error }
            })?;
        }
    }
    Ok(())
}

/// Removes everything below a directory.
fn empty(volume: &mut ImageVolume, directory: NodeId) -> Result<(), CommandError> {
    // The directory to work on, the name of each, and where it is.
    let mut stack = vec![(directory, None::<(NodeId, Vec<u8>)>)];
    while let Some((node, place)) = stack.pop() {
        if volume.metadata(node).map_err(failed)?.kind == Kind::Directory {
            let entries: Result<Vec<_>, _> = volume.entries(node).map_err(failed)?.collect();
            let entries = entries.map_err(failed)?;
            if !entries.is_empty() {
                stack.push((node, place));
                stack.extend(
                    entries.into_iter().map(|entry| (entry.node, Some((node, entry.name)))),
                );
                continue;
            }
        }
        if let Some((parent, name)) = place {
            volume.remove(parent, &name).map_err(failed)?;
        }
    }
    Ok(())
}

pub(super) fn mkdir(args: &MkdirArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = open::write(&args.writing, context)?;
    for path in &args.paths {
        directory(&mut volume, path, args.parents)?;
    }
    volume.sync().map_err(failed)?;
    Ok(Exit::Done)
}

/// Makes a directory, with those above where `parents` says so. Returns it.
pub(crate) fn directory(
    volume: &mut ImageVolume,
    path: &str,
    parents: bool,
) -> Result<NodeId, CommandError> {
    let mut at = volume.root();
    let mut parts = paths::parts(path).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match volume.entry(at, part.as_bytes()) {
            Ok(node) if parents || !last => at = node,
            Ok(_) => return Err(failed(bfs::Error::Exists(path.to_owned()))),
            Err(bfs::Error::NotFound(_)) if parents || last => {
                at = volume.create_directory(at, part.as_bytes(), 0o755).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(at)
}

pub(super) fn link(args: &LinkArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = open::write(&args.writing, context)?;
    let (parent, name) = split(&mut volume, &args.path)?;
    volume.create_symlink(parent, name.as_bytes(), args.target.as_bytes()).map_err(failed)?;
    volume.sync().map_err(failed)?;
    Ok(Exit::Done)
}

/// The directory of a path that need not exist, and its last part.
pub(super) fn split<'p>(
    volume: &mut ImageVolume,
    path: &'p str,
) -> Result<(NodeId, &'p str), CommandError> {
    let mut parts = paths::parts(path);
    let name = parts.next_back().ok_or_else(|| {
        CommandError::new(Exit::Usage, format!("`{path}` names no file of the volume"))
    })?;
    let above: Vec<_> = parts.collect();
    let parent = volume.lookup(above.join("/").as_bytes()).map_err(failed)?;
    Ok((parent, name))
}
