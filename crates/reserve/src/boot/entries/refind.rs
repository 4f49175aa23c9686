//! `refind_linux.conf`, the list of options that rEFInd offers for the kernels beside it: a title
//! and a command line a line, each between quotes, the first the one that is started by default
//! (rEFInd's documentation, "Using EFI stub loaders"; mkrlconf(8)).

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use super::{Entry, EntryKind};

/// Where the list is: beside the kernels.
pub(crate) const LIST: &str = "/boot/refind_linux.conf";

pub(super) fn read(host: &Sysroot) -> Result<Vec<Entry>, ReadError> {
    let text = super::optional(host, LIST)?.unwrap_or_default();
    // One line stands for every kernel of the directory, each with the initramfs of its release.
    let entry = |line: &str| {
        let (title, options) = parts(line)?;
        Some(Entry {
            kind: EntryKind::Refind,
            title: title.to_owned(),
            source: Path::new(LIST).to_owned(),
            kernel: PathBuf::new(),
            images: Vec::new(),
            options: options.to_owned(),
            release: None,
        })
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// The title and the options of a line.
pub(crate) fn parts(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let rest = line.strip_prefix('"')?;
    let (title, rest) = rest.split_once('"')?;
    let options = rest.trim_start().strip_prefix('"')?;
    // A quote that is doubled stands for one.
    Some((title, options.strip_suffix('"')?))
}
