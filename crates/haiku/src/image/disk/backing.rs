//! What a qcow2 file names as the image below it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Deserialize;

use super::super::{Container, ImageError, Source, open as open_file};
use super::{DEEPEST, Disk, lock};

/// A backing file: its name, and what is in it as far as that is said.
#[derive(Debug, PartialEq, Eq)]
struct Backing {
    file: PathBuf,
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The disk is in the file from an offset on, to its end unless a size is given.
    Raw {
        offset: u64,
        size: Option<u64>,
    },
    Qcow2,
}

/// A description after `json:` (docs/system/qemu-block-drivers of QEMU: "pseudo-protocol json"; the
/// fields are those of `BlockdevOptions` in qapi/block-core.json). Others are not understood: they
/// change what the disk is.
#[derive(Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase", deny_unknown_fields)]
enum Node {
    Raw {
        file: Protocol,
        #[serde(default)]
        offset: u64,
        size: Option<u64>,
    },
    Qcow2 {
        file: Protocol,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protocol {
    driver: Option<FileDriver>,
    filename: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileDriver {
    File,
}

impl Backing {
    /// Understands the name and the format that a header gives.
    fn parse(name: &str, format: Option<&str>) -> Result<Self, &'static str> {
        if let Some(text) = name.strip_prefix("json:") {
            let node = serde_json::from_str(text);
            let (file, format) =
                match node.map_err(|_| "is a description that is not known here")? {
                    Node::Raw { file, offset, size } => (file, Format::Raw { offset, size }),
                    Node::Qcow2 { file } => (file, Format::Qcow2),
                };
            return match file.driver {
                None | Some(FileDriver::File) => {
                    Ok(Self { file: file.filename, format: Some(format) })
                }
            };
        }
        let format = match format {
            Some("raw" | "file") => Some(Format::Raw { offset: 0, size: None }),
            Some("qcow2") => Some(Format::Qcow2),
            None => None,
            Some(_) => return Err("is neither raw nor qcow2"),
        };
        // As in QEMU (block.c, path_has_protocol), a colon before any slash ends a protocol.
        let (file, protocol) = match name.split_once(':') {
            Some(("file", file)) => (file, None),
            Some((protocol, _)) if !protocol.contains('/') => (name, Some(protocol)),
            _ => (name, None),
        };
        match protocol {
            Some(_) => Err("is not a file"),
            None => Ok(Self { file: file.into(), format }),
        }
    }
}

/// Opens what the image `above` names, as the backing file of `depth` others.
pub(super) fn open(
    above: &Path,
    name: &str,
    format: Option<&str>,
    depth: usize,
) -> Result<Disk, ImageError> {
    let refused = |what| ImageError::BackingName {
        path: above.to_owned(),
        name: name.chars().filter(|c| !c.is_control()).collect(),
        what,
    };
    if depth > DEEPEST {
        return Err(refused("is one of too many, or goes round in a circle"));
    }
    let backing = Backing::parse(name, format).map_err(refused)?;
    let directory = above.parent().unwrap_or(Path::new(""));
    disk(&directory.join(&backing.file), backing.format, depth)
        .map_err(|source| ImageError::Backing { path: above.to_owned(), source: Box::new(source) })
}

fn disk(path: &Path, format: Option<Format>, depth: usize) -> Result<Disk, ImageError> {
    let failed = |source| ImageError::Open { path: path.to_owned(), source };
    let file = open_file(path, File::options().read(true))?;
    lock(&file, path, FlockOperation::NonBlockingLockShared)?;
    if let Some(Format::Raw { offset, size }) = format {
        let end = Source::size(&file).map_err(failed)?;
        let size = size.unwrap_or(end.saturating_sub(offset));
        return Disk::flat(path, file, offset, size, false);
    }
    let disk = Disk::probe(path, file, false, depth)?;
    match (format, disk.container) {
        (None, _) | (Some(_), Container::Qcow2 { .. }) => Ok(disk),
        _ => Err(super::super::damaged(path, "it should be a qcow2 file, and is none")),
    }
}
