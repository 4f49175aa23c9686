//! Builds an initramfs: the file tree that a kernel unpacks into its first root.
//!
//! The format is a cpio archive of the `newc` kind (the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst). The same tree always gives the
//! same bytes: entries are sorted, owned by root and dated zero.

mod program;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use cpio::NewcBuilder;
use cpio::newc::ModeFileType;
use host::modules::{Modules, ModulesError};
use host::{ReadError, Sysroot};

/// What the files of one initramfs may hold together, in bytes: a limit against mistakes, since
/// all of it must fit into the memory of a small guest.
pub const SIZE_LIMIT: u64 = 1 << 30;

/// The size of a page in bytes.
const PAGE: usize = 4096;

/// Where [`Initramfs::modules`] puts modules, and their list.
pub const MODULES_DIR: &str = "lib/kireji-modules";

/// The file that names the modules in [`MODULES_DIR`], one a line, in load order.
pub const MODULES_LIST: &str = "lib/kireji-modules/list";

/// An initramfs could not be built.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file to put into it could not be read.
    #[error("a file for the initramfs cannot be read")]
    Read(#[from] ReadError),
    /// A kernel module could not be found or unpacked.
    #[error("a kernel module for the initramfs is missing")]
    Modules(#[from] ModulesError),
    /// A program is not an ELF file that can be followed to its libraries.
    #[error("{} is not a program for this machine: {reason}", path.display())]
    NotProgram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A library that a program needs is in none of the places where its loader would look.
    #[error("{} needs {library}, which is in none of the usual directories", path.display())]
    NoLibrary {
        /// The program or library that needs it.
        path: PathBuf,
        /// The name of the missing library.
        library: String,
    },
    /// A path is empty, absolute in the wrong way, or climbs.
    #[error("{path:?} cannot be a path in an initramfs")]
    BadPath {
        /// The path as given.
        path: String,
    },
    /// One path was given to two different things.
    #[error("{path} is in the initramfs twice, as different things")]
    Conflict {
        /// The path.
        path: String,
    },
    /// The files together are too large.
    #[error("the initramfs would be larger than {SIZE_LIMIT} bytes")]
    TooLarge,
}

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Symlink { target: String },
}

/// A file tree for a kernel's first root, under construction.
///
/// Paths are relative to that root; a leading slash is accepted. Directories above a path are
/// made as needed.
#[derive(Debug, Default)]
pub struct Initramfs {
    nodes: BTreeMap<String, Node>,
    size: u64,
}

impl Initramfs {
    /// Returns an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// The path is bad, or something else is there.
    pub fn directory(&mut self, path: &str) -> Result<(), InitramfsError> {
        self.insert(path, Node::Directory)
    }

    /// Adds a file with the permission bits `mode`.
    ///
    /// # Errors
    /// The path is bad, something else is there, or the tree becomes too large.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), InitramfsError> {
        self.insert(path, Node::File { mode: mode & 0o7777, bytes: bytes.into() })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The path is bad, or something else is there.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), InitramfsError> {
        self.insert(path, Node::Symlink { target: target.to_owned() })
    }

    /// Whether something is at `path`.
    pub fn contains(&self, path: &str) -> bool {
        clean(path).is_ok_and(|path| self.nodes.contains_key(&path))
    }

    /// Adds kernel modules by name, with all that they need, unpacked, and the list in load order
    /// ([`MODULES_LIST`]). To be called once.
    ///
    /// # Errors
    /// The kernel has no such module, or a module cannot be read or unpacked.
    pub fn modules<S: AsRef<str>>(
        &mut self,
        host: &Sysroot,
        modules: &Modules,
        names: impl IntoIterator<Item = S>,
    ) -> Result<(), InitramfsError> {
        let mut images = Vec::new();
        for module in modules.closure(names)? {
            images.push((modules.image(host, &module)?, module.name));
        }
        self.module_images(images.into_iter().map(|(image, name)| (name, image)))
    }

    /// Adds kernel modules that are read already, in load order. To be called once, instead of
    /// [`Initramfs::modules`].
    ///
    /// # Errors
    /// The tree becomes too large.
    pub fn module_images(
        &mut self,
        images: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<(), InitramfsError> {
        let mut list = String::new();
        for (name, image) in images {
            let file = format!("{name}.ko");
            self.file(&format!("{MODULES_DIR}/{file}"), 0o644, image)?;
            list.push_str(&file);
            list.push('\n');
        }
        self.file(MODULES_LIST, 0o644, list)
    }

    /// Returns what the files hold together, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the archive, in whole pages: QEMU puts it at the end of the memory that it means to be
    /// usable, and if the firmware takes the rest of the last page, Linux moves the archive first
    /// (arch/x86/kernel/setup.c, reserve_initrd), which takes an emulated processor seconds.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, writer: impl Write) -> io::Result<()> {
        let mut writer = Counted { writer, written: 0 };
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let (kind, mode, bytes) = match node {
                Node::Directory => (ModeFileType::Directory, 0o755, &[][..]),
                Node::File { mode, bytes } => (ModeFileType::Regular, *mode, &bytes[..]),
                Node::Symlink { target } => (ModeFileType::Symlink, 0o777, target.as_bytes()),
            };
            let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let entry = NewcBuilder::new(path).ino(number).mode(mode).set_mode_file_type(kind);
            let mut entry = entry.write(&mut writer, size);
            entry.write_all(bytes)?;
            entry.finish()?;
        }
        cpio::newc::trailer(&mut writer)?;
        let rest = writer.written.next_multiple_of(PAGE) - writer.written;
        writer.write_all(&[0; PAGE][..rest])?;
        writer.flush()
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<(), InitramfsError> {
        let path = clean(path)?;
        let above: Vec<String> =
            path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect();
        for directory in above {
            self.put(directory, Node::Directory)?;
        }
        self.put(path, node)
    }

    // The same thing put twice is put once: two programs share a library.
    fn put(&mut self, path: String, node: Node) -> Result<(), InitramfsError> {
        match self.nodes.get(&path) {
            Some(there) if *there == node => return Ok(()),
            Some(_) => return Err(InitramfsError::Conflict { path }),
            None => {}
        }
        if let Node::File { bytes, .. } = &node {
            let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.size = self.size.saturating_add(bytes);
            if self.size > SIZE_LIMIT {
                return Err(InitramfsError::TooLarge);
            }
        }
        self.nodes.insert(path, node);
        Ok(())
    }
}

/// Counts what is written.
struct Counted<W> {
    writer: W,
    written: usize,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.written += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn clean(path: &str) -> Result<String, InitramfsError> {
    let bad = || InitramfsError::BadPath { path: path.to_owned() };
    let relative = path.strip_prefix('/').unwrap_or(path);
    let good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    // The name of the archive's last entry cannot be a file's.
    if !relative.split('/').all(good) || relative == "TRAILER!!!" {
        return Err(bad());
    }
    Ok(relative.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut rest = archive;
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            assert_eq!((reader.entry().mtime(), reader.entry().uid()), (0, 0));
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            found.push((name, mode, bytes));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn the_archive_is_sorted_and_complete() {
        let mut tree = Initramfs::new();
        tree.file("/init", 0o755, "program").unwrap();
        tree.symlink("bin/sh", "busybox").unwrap();
        tree.directory("proc").unwrap();
        let mut archive = Vec::new();
        tree.write(&mut archive).unwrap();
        assert_eq!(archive.len() % PAGE, 0);
        assert_eq!(
            entries(&archive),
            [
                ("bin".into(), 0o040_755, Vec::new()),
                ("bin/sh".into(), 0o120_777, b"busybox".to_vec()),
                ("init".into(), 0o100_755, b"program".to_vec()),
                ("proc".into(), 0o040_755, Vec::new()),
            ]
        );
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let build = |paths: [&str; 3]| {
            let mut tree = Initramfs::new();
            for path in paths {
                tree.file(path, 0o644, path.trim_start_matches('/')).unwrap();
            }
            let mut archive = Vec::new();
            tree.write(&mut archive).unwrap();
            archive
        };
        assert_eq!(build(["a/b", "c", "d"]), build(["/d", "/a/b", "/c"]));
    }

    #[test]
    fn bad_paths_and_conflicts_are_refused() {
        let mut tree = Initramfs::new();
        for path in ["", "/", "a//b", "a/../b", ".", "//a", "TRAILER!!!"] {
            let error = tree.file(path, 0o644, "").unwrap_err();
            assert!(matches!(error, InitramfsError::BadPath { .. }), "{path}");
        }
        tree.file("a", 0o644, "x").unwrap();
        tree.file("a", 0o644, "x").unwrap();
        assert!(matches!(tree.file("a", 0o644, "y"), Err(InitramfsError::Conflict { .. })));
        assert!(matches!(tree.file("a/b", 0o644, ""), Err(InitramfsError::Conflict { .. })));
    }
}
