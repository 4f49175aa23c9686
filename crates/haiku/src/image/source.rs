//! Bounded reads at a position.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Something that can be read at any position.
pub(super) trait Source {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads `length` bytes from `start` on; fewer only where the end comes first.
    fn read_up_to(&self, start: u64, length: u64) -> io::Result<Vec<u8>>;
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_up_to(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        // The kernel takes offsets as signed numbers and refuses the rest.
        if i64::try_from(start.saturating_add(length)).is_err() {
            return Ok(Vec::new());
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let at = start + u64::try_from(filled).map_err(|_| io::ErrorKind::InvalidInput)?;
            match self.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A part of a source, seen as one of its own.
pub(super) struct Window<'a> {
    inner: &'a dyn Source,
    start: u64,
    size: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(inner: &'a dyn Source, start: u64, size: u64) -> Self {
        Self { inner, start, size }
    }
}

impl Source for Window<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_up_to(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(start));
        self.inner.read_up_to(self.start.saturating_add(start), length)
    }
}
