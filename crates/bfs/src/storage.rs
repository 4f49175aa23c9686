//! What a volume lies on.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes at fixed places: a file, a partition inside it, memory.
///
/// Offsets and sizes are in bytes. Reads and writes are whole or fail.
pub trait Storage {
    /// Returns the number of bytes.
    ///
    /// # Errors
    /// The operating system does not tell.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be read, or there are fewer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all `bytes` from `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be written, or do not lie within the storage.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// What was written may be lost.
    fn flush(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn size(&self) -> io::Result<u64> {
        // The metadata of a block device say 0; its end can be sought.
        (&mut &*self).seek(SeekFrom::End(0))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

fn range(offset: u64, length: usize, size: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    match start.checked_add(length) {
        Some(end) if end <= size => Ok(start..end),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Storage for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.copy_from_slice(&self[range(offset, buffer.len(), self.len())?]);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let range = range(offset, bytes.len(), self.len())?;
        self[range].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Memory that can only be read.
impl Storage for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.copy_from_slice(&self[range(offset, buffer.len(), self.len())?]);
        Ok(())
    }

    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Storage + ?Sized> Storage for &mut S {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

impl<S: Storage + ?Sized> Storage for Box<S> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

/// A part of another storage, such as a partition of a disk.
#[derive(Clone, Debug)]
pub struct Window<S> {
    inner: S,
    start: u64,
    size: u64,
}

impl<S: Storage> Window<S> {
    /// Makes a window of `size` bytes from byte `start` of `inner` on.
    ///
    /// # Errors
    /// The window does not lie within `inner`, or the size of that is not known.
    pub fn new(inner: S, start: u64, size: u64) -> io::Result<Self> {
        match start.checked_add(size) {
            Some(end) if end <= inner.size()? => Ok(Self { inner, start, size }),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Gives back what the window looked into.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn place(&self, offset: u64, length: usize) -> io::Result<u64> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.size => Ok(self.start + offset),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<S: Storage> Storage for Window<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buffer, self.place(offset, buffer.len())?)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let place = self.place(offset, bytes.len())?;
        self.inner.write_at(bytes, place)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_to_its_bounds() {
        let mut disk = vec![0_u8; 64];
        assert!(Window::new(&mut disk, 60, 5).is_err());
        assert!(Window::new(&mut disk, u64::MAX, 2).is_err());
        let mut window = Window::new(&mut disk, 16, 8).unwrap();
        assert_eq!(window.size().unwrap(), 8);
        window.write_at(b"abcd", 4).unwrap();
        assert!(window.write_at(b"abcd", 5).is_err());
        assert!(window.read_at(&mut [0; 1], u64::MAX).is_err());
        let mut bytes = [0; 8];
        window.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0abcd");
        assert_eq!(&disk[16..25], b"\0\0\0\0abcd\0");
    }

    #[test]
    fn a_slice_is_never_written() {
        let mut bytes: &[u8] = b"kireji";
        assert!(bytes.write_at(b"x", 0).is_err());
        let mut read = [0; 3];
        Storage::read_at(&bytes, &mut read, 3).unwrap();
        assert_eq!(&read, b"eji");
        assert!(Storage::read_at(&bytes, &mut read, 4).is_err());
    }

    #[test]
    fn a_file_is_a_storage() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(32).unwrap();
        assert_eq!(Storage::size(&file).unwrap(), 32);
        Storage::write_at(&mut file, b"xyz", 29).unwrap();
        Storage::flush(&mut file).unwrap();
        let mut read = [0; 3];
        Storage::read_at(&file, &mut read, 29).unwrap();
        assert_eq!(&read, b"xyz");
        assert!(Storage::read_at(&file, &mut read, 30).is_err());
    }
}
