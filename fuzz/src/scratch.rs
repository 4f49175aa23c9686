//! Files for readers that take a path, without a file system.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::MemfdFlags;

/// A file in memory, which is gone with the process that made it.
pub(crate) struct Scratch(File);

impl Scratch {
    /// Makes an empty file.
    pub(crate) fn new() -> Self {
        let fd: OwnedFd = rustix::fs::memfd_create(c"fuzz", MemfdFlags::CLOEXEC)
            .expect("a file in memory can be made");
        Self(fd.into())
    }

    /// Makes a file with these bytes.
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let mut scratch = Self::new();
        scratch.0.write_all(bytes).expect("a file in memory can be written");
        scratch
    }

    /// Where it is, while it is not dropped.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// Writes what `data` describes into a file of at most `limit` bytes, and returns its content.
///
/// A disk keeps its marks far apart, and a fuzzer should not have to invent the zeros between:
/// `data` is the size in pages (two bytes, little-endian), then pieces, each of them an offset
/// (four bytes), a length (one byte) and that many bytes.
pub(crate) fn write_pieces(file: &File, data: &[u8], limit: u64) -> Vec<u8> {
    let pages = data.get(..2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let size = (u64::from(pages) * 4096).min(limit);
    file.set_len(0).and_then(|()| file.set_len(size)).expect("a sparse file");
    let mut content = vec![0; usize::try_from(size).expect("a small file")];
    let mut rest = data.get(2..).unwrap_or_default();
    while let [a, b, c, d, length, after @ ..] = rest {
        let piece = &after[..usize::from(*length).min(after.len())];
        rest = &after[piece.len()..];
        let offset = u32::from_le_bytes([*a, *b, *c, *d]);
        let start = usize::try_from(offset).expect("a 64-bit machine");
        if let Some(place) = content.get_mut(start..start + piece.len()) {
            place.copy_from_slice(piece);
            file.write_all_at(piece, offset.into()).expect("the file can be written");
        }
    }
    content
}
