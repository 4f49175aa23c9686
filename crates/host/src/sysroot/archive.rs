//! A captured host as one file: a tar archive (POSIX.1-2001, pax), compressed with zstd.
//!
//! Archives come from strangers. They are unpacked below a directory that nobody else can enter,
//! within bounds, regular files and directories first; links are made last, and nothing is written
//! through one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::{MANIFEST, Record};

/// What an archive may hold at most: compressed and unpacked, in bytes, and entries.
const MOST_PACKED: u64 = 256 << 20;
const MOST_BYTES: u64 = 512 << 20;
const MOST_ENTRIES: usize = 500_000;
/// How deep its directories may lie: sysfs nests a few for each bus, of which there are 256.
const DEEPEST: usize = 600;

/// A file that is no captured host.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read or unpacked.
    #[error("cannot unpack the captured host")]
    Io(#[from] io::Error),
    /// It is larger than a captured host may be.
    #[error("the captured host is too large: {0}")]
    TooLarge(&'static str),
    /// An entry would lie outside, or where another one does.
    #[error("the captured host holds an entry that cannot be: {0}")]
    Entry(String),
}

/// Writes a record as an archive.
///
/// # Errors
/// The writer fails.
pub fn pack(record: &Record, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(out, 9)?);
    let mut put = |path: &Path, kind: tar::EntryType, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_size(u64::try_from(bytes.len()).unwrap_or_default());
        archive.append_data(&mut header, path.strip_prefix("/").unwrap_or(path), bytes)
    };
    let manifest = serde_json::to_vec_pretty(&record.manifest)?;
    put(Path::new(MANIFEST), tar::EntryType::Regular, &manifest, 0o644)?;
    for path in &record.directories {
        if path != Path::new("/") {
            put(path, tar::EntryType::Directory, &[], 0o755)?;
        }
    }
    for (path, bytes) in &record.files {
        let mode = record.modes.get(path).copied().unwrap_or(0o644);
        put(path, tar::EntryType::Regular, bytes, mode)?;
    }
    let known = |path: &PathBuf| {
        record.files.contains_key(path)
            || record.links.contains_key(path)
            || record.directories.contains(path)
    };
    // What was only seen may be a directory that other entries lie in.
    let all: BTreeSet<&PathBuf> = record
        .files
        .keys()
        .chain(record.links.keys())
        .chain(&record.directories)
        .chain(&record.present)
        .collect();
    let holds_others = |path: &PathBuf| {
        // What lies in a directory is sorted directly behind it.
        let mut after = all.range::<PathBuf, _>((Bound::Excluded(path), Bound::Unbounded));
        after.next().is_some_and(|other| other.starts_with(path))
    };
    for path in record.present.iter().filter(|path| !known(path)) {
        if !holds_others(path) && path != Path::new("/") {
            put(path, tar::EntryType::Regular, &[], 0o644)?;
        }
    }
    for (path, target) in &record.links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_mtime(0);
        header.set_size(0);
        archive.append_link(&mut header, path.strip_prefix("/").unwrap_or(path), target)?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}

/// Unpacks an archive below `root`, which is empty.
///
/// # Errors
/// It is no archive, is larger than one may be, or holds what could lead outside.
pub fn unpack(packed: impl Read, root: &Path) -> Result<(), ArchiveError> {
    let unpacked = zstd::Decoder::new(packed.take(MOST_PACKED))?.take(MOST_BYTES + 1);
    let mut archive = tar::Archive::new(unpacked);
    let mut links = BTreeMap::new();
    let mut bytes = 0;
    for (number, entry) in archive.entries()?.enumerate() {
        if number >= MOST_ENTRIES {
            return Err(ArchiveError::TooLarge("it has too many entries"));
        }
        let mut entry = entry?;
        bytes += entry.size();
        if bytes > MOST_BYTES {
            return Err(ArchiveError::TooLarge("it unpacks to more than half a gibibyte"));
        }
        let path = safe(&entry.path()?)?;
        let place = root.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => std::fs::create_dir_all(place)?,
            tar::EntryType::Regular => {
                if let Some(above) = place.parent() {
                    std::fs::create_dir_all(above)?;
                }
                let mut file = std::fs::File::options().write(true).create_new(true).open(place)?;
                io::copy(&mut entry, &mut file)?;
                // A file that only root could read was read, and is to be read again.
                let mode = entry.header().mode()? & 0o777 | 0o400;
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                links.insert(path, target);
            }
            kind => return Err(ArchiveError::Entry(format!("{} ({kind:?})", path.display()))),
        }
    }
    for (path, target) in links {
        let place = root.join(&path);
        // No directory of the way may be a link that was just made.
        let through = path.ancestors().skip(1).any(|above| root.join(above).is_symlink());
        if through {
            return Err(ArchiveError::Entry(path.display().to_string()));
        }
        if let Some(above) = place.parent() {
            std::fs::create_dir_all(above)?;
        }
        symlink(target, place)?;
    }
    Ok(())
}

/// Returns a path that lies below the root and is not too deep.
fn safe(path: &Path) -> Result<PathBuf, ArchiveError> {
    let wrong = || ArchiveError::Entry(path.display().to_string());
    let mut safe = PathBuf::new();
    for (depth, part) in path.components().enumerate() {
        match part {
            Component::Normal(name) if depth < DEEPEST => safe.push(name),
            Component::CurDir => {}
            _ => return Err(wrong()),
        }
    }
    if safe.as_os_str().is_empty() { Err(wrong()) } else { Ok(safe) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sysroot;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // The name is put in as it is: `append_data` would refuse some of them.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            let is_file = *kind == tar::EntryType::Regular;
            header.set_size(if is_file { u64::try_from(text.len()).unwrap() } else { 0 });
            if !is_file {
                header.set_link_name_literal(text).unwrap();
            }
            header.set_cksum();
            archive.append(&header, if is_file { text.as_bytes() } else { &[] }).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn hostile_archives_write_nothing_outside() {
        use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
        for entries in [
            &[("../out", Regular, "x")][..],
            &[("/etc/out", Regular, "x")],
            &[("a/../../out", Regular, "x")],
            &[("dev", Char, "")],
            &[("hard", Link, "/etc/passwd")],
            &[("a", Symlink, "/tmp"), ("a/b", Symlink, "x")],
            &[("a", Regular, "1"), ("a", Regular, "2")],
            &[("a", Regular, "1"), ("a/b", Regular, "2")],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("root");
            std::fs::create_dir(&root).unwrap();
            assert!(unpack(&archive(entries)[..], &root).is_err(), "{entries:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{entries:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let fine = archive(&[
            ("a", Symlink, "/etc"),
            ("sys", Directory, ""),
            ("sys/file", Regular, "text"),
        ]);
        unpack(&fine[..], dir.path()).unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(host.text("/sys/file").unwrap(), "text");
        assert_eq!(host.node("/sys/file").unwrap().mode, 0o755);
        assert!(unpack(&b"no archive"[..], dir.path()).is_err());
    }

    #[test]
    fn what_is_read_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/devices/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("sys/bus")).unwrap();
        std::fs::write(dir.path().join("sys/devices/a/id"), "7\n").unwrap();
        std::fs::write(dir.path().join("sys/devices/a/unread"), "secret\n").unwrap();
        symlink("../devices/a", dir.path().join("sys/bus/a")).unwrap();
        let mut host = Sysroot::at(dir.path()).unwrap();
        host.record();
        let look = |host: &Sysroot| {
            (
                host.text("/sys/bus/a/id").ok(),
                host.names("/sys/bus").ok(),
                host.names("/sys/bus/a").ok(),
                host.link_name("/sys/bus/a").ok(),
                host.exists("/sys/devices/a/unread"),
                host.exists("/sys/none"),
            )
        };
        let before = look(&host);
        let mut packed = Vec::new();
        pack(&host.recorded(), &mut packed).unwrap();
        let again = Sysroot::unpack(&packed[..]).unwrap();
        assert_eq!(look(&again), before);
        assert_eq!(again.text("/sys/devices/a/unread").unwrap(), "");
    }
}
