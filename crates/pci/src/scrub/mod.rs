//! A captured host without what identifies its owner.
//!
//! Serial numbers, hardware addresses, host and user names, UUIDs and world-wide names become
//! others of the same form, everywhere the same, so that what hangs together still does; what the
//! tool does not need of a file is left out. At the end everything that was found to be secret is
//! looked for once more, and if it is still there, nothing is written.

mod binary;
mod files;
mod mask;
mod secrets;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ::host::{Manifest, Record};

use mask::Mask;

/// Something secret that would still be in the captured host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the captured host would still hold a secret, in {}", path.display())]
pub struct Leak {
    /// The file, or the path that holds it.
    pub path: PathBuf,
}

/// Takes out of captured hosts what identifies their owner.
#[derive(Debug)]
pub struct Scrub {
    mask: Mask,
}

impl Scrub {
    /// Finds what is secret in a record. `names` are those of the host and its users; `key` is
    /// random, and is not kept.
    pub fn new(record: &Record, names: &[String], key: &[u8; 32]) -> Self {
        Self { mask: Mask::new(secrets::find(record, names), key) }
    }

    /// Returns the record without what is secret. What was only opened is not in it.
    pub fn record(&self, record: &Record) -> Record {
        let mut clean = Record::default();
        clean.manifest = manifest(&record.manifest, &self.mask);
        for (path, bytes) in &record.files {
            clean.files.insert(self.path(path), self.file(path, bytes));
        }
        for (path, target) in &record.links {
            clean.links.insert(self.path(path), self.path(target));
        }
        clean.directories = record.directories.iter().map(|path| self.path(path)).collect();
        clean.present = record.present.iter().map(|path| self.path(path)).collect();
        clean.modes = record.modes.iter().map(|(path, mode)| (self.path(path), *mode)).collect();
        clean
    }

    /// Returns a path without what is secret.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.mask.path(path)
    }

    /// Returns what is kept of the contents of a file.
    pub fn file(&self, path: &Path, bytes: &[u8]) -> Vec<u8> {
        files::clean(path, bytes, &self.mask)
    }

    /// Looks for everything that is secret once more, in what shall be given away.
    ///
    /// # Errors
    /// Something secret is left.
    pub fn check(&self, clean: &Record) -> Result<(), Leak> {
        check(clean, &self.mask)
    }
}

fn manifest(manifest: &Manifest, mask: &Mask) -> Manifest {
    let path = |text: &String| mask.path(Path::new(text)).to_string_lossy().into_owned();
    Manifest {
        schema: Manifest::SCHEMA,
        source: "captured by kireji snapshot".to_owned(),
        unreadable: manifest.unreadable.iter().map(path).collect(),
        nodes: manifest.nodes.iter().map(|(node, may)| (path(node), *may)).collect(),
    }
}

/// Looks for every secret once more.
fn check(record: &Record, mask: &Mask) -> Result<(), Leak> {
    let paths = record.directories.iter().chain(&record.present).chain(record.links.keys());
    for path in paths.chain(record.links.values()) {
        if mask.is_in(path.as_os_str().as_encoded_bytes()) {
            return Err(Leak { path: path.clone() });
        }
    }
    for (path, bytes) in &record.files {
        let named = mask.is_in(path.as_os_str().as_encoded_bytes());
        if named || !files::is_public(path) && mask.is_in(bytes) {
            return Err(Leak { path: path.clone() });
        }
    }
    Ok(())
}
