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

/// Removes from a record what identifies its owner. `names` are those of the host and its users;
/// `key` is random, and is not kept.
///
/// # Errors
/// Something secret would be left.
pub fn scrub(record: &Record, names: &[String], key: &[u8; 32]) -> Result<Record, Leak> {
    let mask = Mask::new(secrets::find(record, names), key);
    let mut clean = Record::default();
    clean.manifest = manifest(&record.manifest, &mask);
    for (path, bytes) in &record.files {
        clean.files.insert(mask.path(path), files::clean(path, bytes, &mask));
    }
    for (path, target) in &record.links {
        clean.links.insert(mask.path(path), mask.path(target));
    }
    clean.directories = record.directories.iter().map(|path| mask.path(path)).collect();
    clean.present = record.present.iter().map(|path| mask.path(path)).collect();
    check(&clean, &mask)?;
    Ok(clean)
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
