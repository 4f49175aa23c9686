//! The disk in an image file, to be read and written.

mod backing;
mod layer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bfs::Storage;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::source::Source;
use super::{Container, Format, HEAD, Image, ImageError, content, open, whole};
use layer::Layer;

/// More backing files under one another than anybody has; a circle of them has more.
const DEEPEST: usize = 32;

/// The disk in an image file: the file itself, what follows a header in it, or what the tables of
/// a qcow2 file and its backing files make of it. Backing files are only read.
///
/// A disk that is read keeps other processes from writing the image, one that is written keeps
/// them from opening it: kireji, and QEMU, which locks bytes from 100 and 200 on of every image
/// that it has open (block/file-posix.c, RAW_LOCK_PERM_BASE). The locks are POSIX's: they are lost
/// when this process closes any other descriptor of the file, so there is to be only one.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    container: Container,
    writable: bool,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Flat(bfs::Window<File>),
    Qcow2(Box<Layer>),
}

impl Disk {
    /// Opens the disk in the image file `path` for reading.
    ///
    /// # Errors
    /// It is no image, or one that is not read here; another process writes it.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let file = open(path, File::options().read(true))?;
        lock(&file, path, FlockOperation::NonBlockingLockShared)?;
        Self::probe(path, file, false, 0)
    }

    /// Opens the disk in the image file `path` for reading and writing.
    ///
    /// # Errors
    /// It is no image, or one that is not written here; another process has it open.
    pub fn open_to_write(path: &Path) -> Result<Self, ImageError> {
        let file = open(path, File::options().read(true).write(true));
        let file = file.map_err(|error| match error {
            ImageError::Open { path, source } => ImageError::Write { path, source },
            other => other,
        })?;
        lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
        Self::probe(path, file, true, 0)
    }

    /// Makes the image file `path`, which must not be there, with a disk of `size` bytes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path, size: u64) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Write { path: path.to_owned(), source };
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(failed)?;
        file.set_len(size).map_err(failed)?;
        lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
        Self::flat(path, file, 0, size, true)
    }

    /// The file that the disk is in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what the image is; of a qcow2 file also what is on its disk.
    ///
    /// # Errors
    /// Its disk is none that Haiku could boot from, or it is damaged.
    pub fn image(&self) -> Result<Image, ImageError> {
        let read = |source| ImageError::Open { path: self.path.clone(), source };
        let disk_size = Storage::size(self).map_err(read)?;
        let content = content(&self.path, self, disk_size)?;
        Ok(Image { container: self.container, content: Some(content), disk_size })
    }

    fn probe(path: &Path, file: File, writable: bool, depth: usize) -> Result<Self, ImageError> {
        let read = |source| ImageError::Open { path: path.to_owned(), source };
        let size = Source::size(&file).map_err(read)?;
        let head = file.read_up_to(0, HEAD).map_err(read)?;
        match Format::of(path, &head)? {
            Format::Raw => Self::flat(path, file, 0, size, writable),
            Format::Vmdk { header } => {
                let disk = Self::flat(path, file, header, size.saturating_sub(header), writable)?;
                Ok(Self { container: Container::Vmdk { header }, ..disk })
            }
            Format::Qcow2(header) => {
                if let Some(what) = header.unreadable() {
                    return Err(ImageError::UnsupportedQcow2 { path: path.to_owned(), what });
                }
                whole(
                    path,
                    "the table of its clusters",
                    header.end(&file, size).map_err(read)?,
                    size,
                )?;
                let layer = Layer::open(path, file, &header, writable, depth)?;
                Ok(Self {
                    path: path.to_owned(),
                    container: Container::Qcow2 { version: header.version },
                    writable,
                    data: Data::Qcow2(Box::new(layer)),
                })
            }
        }
    }

    fn flat(
        path: &Path,
        file: File,
        start: u64,
        size: u64,
        writable: bool,
    ) -> Result<Self, ImageError> {
        let window = bfs::Window::new(file, start, size)
            .map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
        let data = Data::Flat(window);
        Ok(Self { path: path.to_owned(), container: Container::Raw, writable, data })
    }
}

impl Storage for Disk {
    fn size(&self) -> io::Result<u64> {
        match &self.data {
            Data::Flat(window) => window.size(),
            Data::Qcow2(layer) => Ok(layer.size()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.data {
            Data::Flat(window) => window.read_at(buffer, offset),
            Data::Qcow2(layer) => layer.read_at(buffer, offset),
        }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &mut self.data {
            _ if !self.writable => Err(io::ErrorKind::PermissionDenied.into()),
            Data::Flat(window) => window.write_at(bytes, offset),
            Data::Qcow2(layer) => layer.write_at(bytes, offset),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.data {
            Data::Flat(window) => window.flush(),
            Data::Qcow2(layer) => layer.flush(),
        }
    }
}

impl Source for Disk {
    fn size(&self) -> io::Result<u64> {
        Storage::size(self)
    }

    fn read_up_to(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let size = Storage::size(self)?;
        let start = start.min(size);
        let length = length.min(size - start);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, start)?;
        Ok(bytes)
    }
}

/// Locks all of a file; see [`Disk`].
fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<(), ImageError> {
    match fcntl_lock(file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(ImageError::Busy { path: path.to_owned() }),
        // Some network file systems have no locks; there is nobody to be warned of then.
        Err(Errno::NOLCK | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(ImageError::Open { path: path.to_owned(), source: error.into() }),
    }
}
