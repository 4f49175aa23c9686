//! What was read of a host, so that it can be captured.
//!
//! Whatever a command reads passes through [`Sysroot`]; so a record of that is exactly what the
//! command needs to see the same host again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use super::{Manifest, ReadError, Sysroot};

/// How many links one path may lead through (the kernel's MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// What was read of a host. Paths are free of links, but for the links themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Files with what they held.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Symbolic links with their text.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Directories that were listed.
    pub directories: BTreeSet<PathBuf>,
    /// What was seen to be there, and not read.
    pub present: BTreeSet<PathBuf>,
    /// Files that were opened to be read where they are: too large to be kept whole.
    pub opened: BTreeSet<PathBuf>,
    /// Permission bits of what was asked for them (inode(7)).
    pub modes: BTreeMap<PathBuf, u32>,
    /// What could not be read, and who might use which node.
    pub manifest: Manifest,
    /// How often something was read, looked at or listed.
    pub operations: usize,
    plain: BTreeSet<PathBuf>,
}

impl Record {
    pub(super) fn read(
        &mut self,
        host: &Sysroot,
        path: &Path,
        result: &Result<Vec<u8>, ReadError>,
    ) {
        match result {
            Ok(bytes) => {
                if let Some(real) = self.resolve(host, path, true) {
                    self.files.insert(real, bytes.clone());
                }
            }
            Err(error) if error.is_absent() => {}
            Err(_) => self.unreadable(host, path),
        }
    }

    pub(super) fn unreadable(&mut self, host: &Sysroot, path: &Path) {
        self.exists(host, path);
        self.manifest.unreadable.extend(path.to_str().map(str::to_owned));
    }

    pub(super) fn exists(&mut self, host: &Sysroot, path: &Path) {
        if let Some(real) = self.resolve(host, path, true) {
            self.present.insert(real);
        }
    }

    pub(super) fn opened(&mut self, host: &Sysroot, path: &Path, result: &Result<File, ReadError>) {
        match result {
            Ok(_) => {
                self.exists(host, path);
                let real = self.resolve(host, path, true);
                self.opened.extend(real);
            }
            Err(error) if error.is_absent() => {}
            Err(_) => self.unreadable(host, path),
        }
    }

    pub(super) fn mode(&mut self, host: &Sysroot, path: &Path, mode: u32) {
        self.exists(host, path);
        if let Some(real) = self.resolve(host, path, true) {
            self.modes.insert(real, mode);
        }
    }

    pub(super) fn link(&mut self, host: &Sysroot, path: &Path) {
        self.resolve(host, path, false);
    }

    pub(super) fn names(&mut self, host: &Sysroot, path: &Path, names: &[String]) {
        let Some(real) = self.resolve(host, path, true) else { return };
        self.directories.insert(real.clone());
        // Of processes only what was read of them is kept.
        if real != Path::new("/proc") {
            for name in names {
                let entry = real.join(name);
                self.look(host, &entry);
                self.present.insert(entry);
            }
        }
    }

    pub(super) fn node(&mut self, host: &Sysroot, path: &Path, may: bool) {
        self.exists(host, path);
        if let Some(path) = path.to_str() {
            self.manifest.nodes.insert(path.to_owned(), may);
        }
    }

    /// Returns where a path leads, and notes the links on the way; the last one too, but follows
    /// it only if `follow`.
    fn resolve(&mut self, host: &Sysroot, path: &Path, follow: bool) -> Option<PathBuf> {
        let parts = |path: &Path| -> Vec<OsString> {
            let parts = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some(OsString::from("..")),
                _ => None,
            });
            parts.collect()
        };
        let mut rest: VecDeque<OsString> = parts(path).into();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            let entry = real.join(&part);
            let Some(target) = self.look(host, &entry) else {
                real = entry;
                continue;
            };
            if rest.is_empty() && !follow {
                return Some(entry);
            }
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        Some(real)
    }

    /// Returns the text of a link, and notes it; `None` for what is no link.
    fn look(&mut self, host: &Sysroot, path: &Path) -> Option<PathBuf> {
        if let Some(target) = self.links.get(path) {
            return Some(target.clone());
        }
        if self.plain.contains(path) {
            return None;
        }
        match host.read_link(path) {
            Ok(target) => {
                self.links.insert(path.to_owned(), target.clone());
                Some(target)
            }
            Err(_) => {
                self.plain.insert(path.to_owned());
                None
            }
        }
    }
}
