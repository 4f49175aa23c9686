//! `kireji image cat`, `get` and `put`.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bfs::{Kind, NodeId, Time};

use super::attributes::{self, Lost};
use super::change::split;
use super::open::ImageVolume;
use super::progress::{Counted, OFTEN, Progress};
use super::{Reading, Writing, failed, host_failed, open, paths, raw};
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Arguments of `image cat`.
#[derive(Debug, clap::Args)]
pub(super) struct CatArgs {
    #[command(flatten)]
    reading: Reading,
    /// The files; `*` and `?` stand for any characters
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Arguments of `image get`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
    /// Files of the volume, and at last where to copy them: a name, or a directory that is there
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "DESTINATION"])]
    paths: Vec<String>,
    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,
}

/// Arguments of `image put`.
#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    #[command(flatten)]
    writing: Writing,
    /// Files of this machine, and at last where to copy them in the volume
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "DESTINATION"])]
    paths: Vec<PathBuf>,
    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Keep the times of change
    #[arg(short, long)]
    preserve: bool,
}

pub(super) fn cat(args: &CatArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = open::read(&args.reading, context)?;
    for path in &args.paths {
        for found in paths::find(&mut volume, path)? {
            if volume.metadata(found.node).map_err(failed)?.kind == Kind::Directory {
                let text = format!("`{}` is a directory", super::shown(&found.path));
                return Err(CommandError::new(Exit::No, text));
            }
            pour(&mut volume, found.node, |piece| raw(context, piece))?;
        }
    }
    Ok(Exit::Done)
}

/// Gives the content of a file piece by piece.
fn pour(
    volume: &mut ImageVolume,
    node: NodeId,
    mut to: impl FnMut(&[u8]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut reader = volume.reader(node).map_err(failed)?;
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let length = volume.read_on(&mut reader, offset, &mut buffer).map_err(failed)?;
        if length == 0 {
            return Ok(());
        }
        to(&buffer[..length])?;
        offset += length as u64;
    }
}

pub(super) fn get(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let owner = Owner::of(&context.vars);
    let mut volume = open::read(&args.reading, context)?;
    let Some((to, sources)) = args.paths.split_last() else { return Ok(Exit::Usage) };
    let to = Path::new(to);
    let mut found = Vec::new();
    for source in sources {
        found.extend(paths::find(&mut volume, source)?);
    }
    let into = to.is_dir();
    if found.len() > 1 && !into {
        let text = format!("{} is not a directory for {} files", to.display(), found.len());
        return Err(CommandError::new(Exit::Usage, text));
    }
    let mut lost = Lost::default();
    let mut progress = Progress::new(&mut *context.err, OFTEN);
    for found in found {
        let target = if into { to.join(host_name(found.name())?) } else { to.to_owned() };
        // A directory that is in the way is not what is to be replaced.
        let mut stack = vec![(found.node, target)];
        while let Some((node, target)) = stack.pop() {
            let metadata = volume.metadata(node).map_err(failed)?;
            match metadata.kind {
                Kind::Directory if !args.recursive => {
                    let text = format!("{} is a directory", super::shown(&found.path));
                    return Err(CommandError::new(Exit::Usage, text)
                        .hint("`--recursive` copies what is in it"));
                }
                Kind::Directory => {
                    real_directory(&target, owner)?;
                    let entries: Result<Vec<_>, _> =
                        volume.entries(node).map_err(failed)?.collect();
                    for entry in entries.map_err(failed)? {
                        stack.push((entry.node, target.join(host_name(&entry.name)?)));
                    }
                    attributes::save(
                        &mut volume,
                        node,
                        &File::open(&target)
                            .map_err(|source| host_failed("open", &target, source))?,
                        &mut lost,
                    )?;
                }
                Kind::Symlink => {
                    clear(&target)?;
                    let link = volume.read_link(node).map_err(failed)?;
                    symlink(std::ffi::OsStr::from_bytes(&link), &target)
                        .map_err(|source| host_failed("make the link", &target, source))?;
                    owner.give(&target);
                }
                Kind::File => {
                    clear(&target)?;
                    save(&mut volume, node, &metadata, &target, (&mut lost, &mut progress))?;
                    owner.give(&target);
                }
            }
        }
    }
    lost.tell(context)?;
    Ok(Exit::Done)
}

/// The name of an entry as one of this machine. A damaged volume may hold any bytes.
fn host_name(name: &[u8]) -> Result<std::ffi::OsString, CommandError> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
    {
        let text = format!("`{}` is no name for a file", super::shown(name));
        return Err(CommandError::new(Exit::Image, text));
    }
    Ok(std::ffi::OsString::from_vec(name.to_vec()))
}

/// Makes a directory unless it is there; a link to one does not count.
fn real_directory(path: &Path, owner: Owner) -> Result<(), CommandError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(host_failed("make the directory", path, ErrorKind::AlreadyExists.into())),
        Err(_) => {
            std::fs::create_dir(path)
                .map_err(|source| host_failed("make the directory", path, source))?;
            owner.give(path);
            Ok(())
        }
    }
}

/// Removes what is in the way of a file, so that nothing is written through a link.
fn clear(path: &Path) -> Result<(), CommandError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(host_failed("replace", path, error))
        }
        _ => Ok(()),
    }
}

fn save(
    volume: &mut ImageVolume,
    node: NodeId,
    metadata: &bfs::Metadata,
    path: &Path,
    (lost, progress): (&mut Lost, &mut Progress<'_>),
) -> Result<(), CommandError> {
    progress.file();
    let failed = |source| host_failed("write", path, source);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(metadata.permissions & 0o777)
        .open(path)
        .map_err(failed)?;
    pour(volume, node, |piece| {
        progress.bytes(piece.len());
        file.write_all(piece).map_err(failed)
    })?;
    attributes::save(volume, node, &file, lost)?;
    let since = Duration::from_secs(u64::try_from(metadata.modified.seconds()).unwrap_or_default());
    file.set_modified(SystemTime::UNIX_EPOCH + since).map_err(failed)
}

pub(super) fn put(args: &PutArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let Some((to, sources)) = args.paths.split_last() else { return Ok(Exit::Usage) };
    let Some(to) = to.to_str() else {
        return Err(CommandError::new(Exit::Usage, "the destination is not UTF-8"));
    };
    let mut volume = open::write(&args.writing, context)?;
    volume.batch();
    let mut lost = Lost::default();
    let mut progress = Progress::new(&mut *context.err, OFTEN);
    let done = put_all(&mut volume, (sources, to), args, &mut lost, &mut progress);
    // What was copied before an error stays.
    let written = volume.sync().map_err(failed);
    done.and(written)?;
    lost.tell(context)?;
    Ok(Exit::Done)
}

fn put_all(
    volume: &mut ImageVolume,
    (sources, to): (&[PathBuf], &str),
    args: &PutArgs,
    lost: &mut Lost,
    progress: &mut Progress<'_>,
) -> Result<(), CommandError> {
    let into = match volume.lookup(to.as_bytes()) {
        Ok(node) if volume.metadata(node).map_err(failed)?.kind == Kind::Directory => Some(node),
        Ok(_) | Err(bfs::Error::NotFound(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    if into.is_none() && (sources.len() > 1 || to.ends_with('/')) {
        return Err(
            failed(bfs::Error::NotADirectory(to.to_owned())).hint("`kireji image mkdir` makes one")
        );
    }
    for source in sources {
        let (parent, name) = match into {
            Some(directory) => {
                let name = source.file_name().ok_or_else(|| {
                    CommandError::new(Exit::Usage, format!("{} has no name", source.display()))
                })?;
                (directory, name.as_bytes().to_vec())
            }
            None => {
                let (parent, name) = split(volume, to)?;
                (parent, name.as_bytes().to_vec())
            }
        };
        let mut stack = vec![(source.clone(), parent, name, true)];
        while let Some((path, parent, name, named)) = stack.pop() {
            // A link that is named is followed; one within a directory is copied.
            let metadata = if named { path.metadata() } else { path.symlink_metadata() };
            let metadata = metadata.map_err(|source| host_failed("read", &path, source))?;
            let node = put_one(volume, (&path, &metadata), (parent, &name), args, progress)?;
            if metadata.is_dir() {
                let entries =
                    std::fs::read_dir(&path).map_err(|error| host_failed("read", &path, error))?;
                for entry in entries {
                    let entry = entry.map_err(|error| host_failed("read", &path, error))?;
                    let name = entry.file_name().as_bytes().to_vec();
                    stack.push((entry.path(), node, name, false));
                }
            }
            if !metadata.is_symlink() {
                attributes::load(volume, node, &path, lost)?;
            }
            if args.preserve {
                let fraction = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
                let time = Time::new(metadata.mtime(), fraction);
                volume.set_times(node, None, Some(time)).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Copies one file, link or directory without what is in it.
fn put_one(
    volume: &mut ImageVolume,
    (path, metadata): (&Path, &Metadata),
    (parent, name): (NodeId, &[u8]),
    args: &PutArgs,
    progress: &mut Progress<'_>,
) -> Result<NodeId, CommandError> {
    let permissions = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        if !args.recursive {
            return Err(CommandError::new(
                Exit::Usage,
                format!("{} is a directory", path.display()),
            )
            .hint("`--recursive` copies what is in it"));
        }
        return match volume.entry(parent, name) {
            Ok(node) if volume.metadata(node).map_err(failed)?.kind == Kind::Directory => Ok(node),
            Ok(_) => Err(failed(bfs::Error::NotADirectory(super::shown(name)))),
            Err(bfs::Error::NotFound(_)) => {
                volume.create_directory(parent, name, permissions).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        };
    }
    let there = match volume.entry(parent, name) {
        Ok(node) => Some(volume.metadata(node).map_err(failed)?.kind),
        Err(bfs::Error::NotFound(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    let is_link = metadata.is_symlink();
    // What is of another kind gives way; a directory does not.
    if there == Some(Kind::Symlink) || is_link && there == Some(Kind::File) {
        volume.remove(parent, name).map_err(failed)?;
    }
    if is_link {
        let target =
            std::fs::read_link(path).map_err(|source| host_failed("read", path, source))?;
        return volume.create_symlink(parent, name, target.as_os_str().as_bytes()).map_err(failed);
    }
    if !metadata.is_file() {
        let text = format!("{} is neither a file nor a directory", path.display());
        return Err(CommandError::new(Exit::Usage, text));
    }
    let file = File::open(path).map_err(|source| host_failed("read", path, source))?;
    progress.file();
    let mut file = Counted { inner: file, progress };
    volume.write_file(parent, name, permissions, &mut file, metadata.len()).map_err(failed)
}
