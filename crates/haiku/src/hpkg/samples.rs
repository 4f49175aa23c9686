//! Packages for tests.

use super::{About, NewContent, NewEntry, write};

/// A package of a name with these files.
pub(crate) fn package(name: &str, entries: &[(&str, NewContent)]) -> Vec<u8> {
    let text = || "x".to_owned();
    let about = About {
        name: name.to_owned(),
        version: "1".to_owned(),
        revision: 1,
        architecture: "x86_64".to_owned(),
        summary: text(),
        vendor: text(),
        packager: text(),
        copyright: text(),
        license: text(),
        requires: Vec::new(),
    };
    let entry = |(path, content): &(&str, NewContent)| NewEntry {
        path: (*path).to_owned(),
        content: content.clone(),
    };
    write(&about, &entries.iter().map(entry).collect::<Vec<_>>(), 0).unwrap()
}

pub(crate) fn file(bytes: &[u8]) -> NewContent {
    NewContent::File { bytes: bytes.to_vec(), executable: false }
}

pub(crate) fn link(target: &str) -> NewContent {
    NewContent::Symlink(target.to_owned())
}
