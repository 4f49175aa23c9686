//! The files of packages that a running system names by their paths.

use bfs::{Storage, Volume};

use super::{Hierarchy, PackagesError, find, followed};
use crate::hpkg::{Data, EntryKind};

/// Bytes of a file that is read; the largest library of Haiku has some 20 MiB.
const LARGEST: u64 = 64 << 20;
/// Files that are read at most.
const MOST: usize = 32;
/// Where packages show themselves while the system runs (src/add-ons/kernel/file_systems/packagefs).
const ROOTS: [(Hierarchy, &str); 2] =
    [(Hierarchy::System, "/boot/system/"), (Hierarchy::Home, "/boot/home/config/")];
/// Where an image of which only the name is known may be, the likeliest first: the kernel names an
/// add-on that the boot loader loaded so, and the debugger a program or a library.
const DIRECTORIES: [&str; 5] = ["add-ons/kernel/", "lib/", "servers/", "add-ons/", ""];

/// Finds the files of images that a running kernel names, and reads them: each with its name. An
/// image is named by its path, or by the last part of that. What no package has is left out, and so
/// is a package that cannot be read.
///
/// # Errors
/// The volume cannot be read.
pub fn images<S: Storage>(
    volume: &mut Volume<S>,
    names: &[&str],
) -> Result<Vec<(String, Vec<u8>)>, PackagesError> {
    let mut best: Vec<Option<(usize, Vec<u8>)>> = names.iter().map(|_| None).collect();
    let mut left = MOST;
    for found in find(volume)? {
        let mut package = match found.open(volume) {
            Ok(package) => package,
            Err(PackagesError::Volume(error)) => return Err(error.into()),
            Err(_) => continue,
        };
        let Ok(entries) = package.entries() else { continue };
        for (name, best) in names.iter().zip(&mut best) {
            let file = |path: &str| -> Option<&Data> {
                let entry = entries.iter().find(|entry| entry.path == path.as_bytes())?;
                let target = match &entry.kind {
                    EntryKind::File(data) => return Some(data),
                    EntryKind::Symlink(target) => {
                        followed(path, std::str::from_utf8(target).ok()?)?
                    }
                    EntryKind::Directory => return None,
                };
                let entry = entries.iter().find(|entry| entry.path == target.as_bytes())?;
                match &entry.kind {
                    EntryKind::File(data) => Some(data),
                    _ => None,
                }
            };
            let ranked = entries.iter().filter_map(|entry| {
                let path = std::str::from_utf8(&entry.path).ok()?;
                Some((rank(name, path, found.hierarchy)?, file(path)?))
            });
            let Some((rank, data)) = ranked.min_by_key(|(rank, _)| *rank) else { continue };
            if left == 0 || best.as_ref().is_some_and(|(known, _)| *known <= rank) {
                continue;
            }
            if let Ok(bytes) = package.read_all(data, LARGEST) {
                left -= 1;
                *best = Some((rank, bytes));
            }
        }
    }
    let named = names.iter().zip(best);
    let leaf = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    Ok(named.filter_map(|(name, best)| Some((leaf(name), best?.1))).collect())
}

/// How well an entry of a package fits the name of an image, the smaller the better.
fn rank(name: &str, path: &str, hierarchy: Hierarchy) -> Option<usize> {
    if name.contains('/') {
        let (_, root) = ROOTS.iter().find(|(known, _)| *known == hierarchy)?;
        return (name.strip_prefix(root) == Some(path)).then_some(0);
    }
    if path.rsplit('/').next() != Some(name) {
        return None;
    }
    DIRECTORIES.iter().position(|directory| path.starts_with(directory))
}
