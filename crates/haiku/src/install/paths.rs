//! Paths of a volume, and small files in it.

use bfs::{Error, Kind, NodeId, Storage, Volume};

/// What is at a path, if anything is.
pub(super) fn at<S: Storage>(volume: &mut Volume<S>, path: &str) -> Result<Option<NodeId>, Error> {
    match parent(volume, path)? {
        Some(parent) => match volume.entry(parent, name(path).as_bytes()) {
            Ok(node) => Ok(Some(node)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        },
        None => Ok(None),
    }
}

/// The last part of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The directory that a path is in, if it is there.
fn parent<S: Storage>(volume: &mut Volume<S>, path: &str) -> Result<Option<NodeId>, Error> {
    match volume.lookup(above(path).as_bytes()) {
        Ok(node) if volume.metadata(node)?.kind == Kind::Directory => Ok(Some(node)),
        Ok(_) | Err(Error::NotFound(_) | Error::NotADirectory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// The directories above a path that are not there, the highest first.
pub(super) fn missing<S: Storage>(
    volume: &mut Volume<S>,
    path: &str,
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    let mut directory = above(path);
    while !directory.is_empty() && at(volume, directory)?.is_none() {
        missing.push(directory.to_owned());
        directory = above(directory);
    }
    missing.reverse();
    Ok(missing)
}

/// The directory that a path is in, made if it is not there.
pub(super) fn make_parent<S: Storage>(volume: &mut Volume<S>, path: &str) -> Result<NodeId, Error> {
    let mut directory = volume.root();
    for part in above(path).split('/').filter(|part| !part.is_empty()) {
        directory = match volume.entry(directory, part.as_bytes()) {
            Ok(node) => node,
            Err(Error::NotFound(_)) => {
                volume.create_directory(directory, part.as_bytes(), 0o755)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(directory)
}

/// Writes a small file.
pub(super) fn write<S: Storage>(
    volume: &mut Volume<S>,
    path: &str,
    permissions: u32,
    bytes: &[u8],
) -> Result<NodeId, Error> {
    let parent = make_parent(volume, path)?;
    let (mut source, size) = (bytes, bytes.len() as u64);
    volume.write_file(parent, name(path).as_bytes(), permissions, &mut source, size)
}

/// Reads a small file. `None` if it is none, or has more bytes than `most`.
pub(super) fn read<S: Storage>(
    volume: &mut Volume<S>,
    node: NodeId,
    most: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let metadata = volume.metadata(node)?;
    if metadata.kind != Kind::File || metadata.size > most {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(metadata.size).unwrap_or_default()];
    let length = volume.read(node, 0, &mut bytes)?;
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// Removes what is at a path. Returns whether something was.
pub(super) fn remove<S: Storage>(volume: &mut Volume<S>, path: &str) -> Result<bool, Error> {
    if at(volume, path)?.is_none() {
        return Ok(false);
    }
    let Some(parent) = parent(volume, path)? else { return Ok(false) };
    volume.remove(parent, name(path).as_bytes())?;
    Ok(true)
}

/// Moves what is at a path to another one.
pub(super) fn rename<S: Storage>(
    volume: &mut Volume<S>,
    from: &str,
    to: &str,
) -> Result<(), Error> {
    let new = make_parent(volume, to)?;
    let old = make_parent(volume, from)?;
    volume.rename(old, name(from).as_bytes(), new, name(to).as_bytes())
}
