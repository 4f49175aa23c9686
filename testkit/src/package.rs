//! Packages of Haiku, made up.

use haiku::hpkg::{About, NewContent, NewEntry};

/// What a made-up package of this name says of itself.
pub fn about(name: &str) -> About {
    About {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        revision: 1,
        architecture: "x86_64".to_owned(),
        summary: "A part of the system".to_owned(),
        vendor: "somebody".to_owned(),
        packager: "somebody <none@example.org>".to_owned(),
        copyright: "2026 somebody".to_owned(),
        license: "MIT".to_owned(),
        requires: Vec::new(),
    }
}

/// A file of a package.
pub fn file(path: &str, bytes: &[u8]) -> NewEntry {
    let content = NewContent::File { bytes: bytes.to_vec(), executable: true };
    NewEntry { path: path.to_owned(), content }
}
