//! The files of a host, live or captured, read below one root.

mod archive;
mod directory;
mod manifest;
mod node;
mod read_error;
mod record;
mod space;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Measured;

pub use archive::{ArchiveError, pack};
pub use directory::Directory;
pub use manifest::{MANIFEST, Manifest};
pub use node::{DeviceNumber, Node, NodeKind};
pub use read_error::ReadError;
pub use record::Record;

/// What one read of a host file may return at most, in bytes. Files of sysfs hold at most a page,
/// except for binary attributes, which are read with a limit of their own.
pub const DEFAULT_LIMIT: u64 = 1 << 20;

/// The root below which every file of a host is read.
///
/// Paths are written as the host knows them (`/sys/bus/pci/devices`). On a captured host, symbolic
/// links, absolute ones included, never lead out of the capture (`RESOLVE_IN_ROOT`, openat2(2)).
#[derive(Debug)]
pub struct Sysroot {
    root: PathBuf,
    dir: OwnedFd,
    live: bool,
    manifest: Manifest,
    /// Where an archive was unpacked to; removed with this.
    unpacked: Option<tempfile::TempDir>,
    record: Option<Mutex<Record>>,
    opens: AtomicUsize,
}

impl Sysroot {
    /// Opens the running host.
    ///
    /// # Errors
    /// The root directory cannot be opened.
    pub fn host() -> Result<Self, ReadError> {
        Self::open(Path::new("/"), true)
    }

    /// Opens a captured host: a directory that holds `sys`, `proc`, `etc` and so on, and may hold
    /// a [`Manifest`].
    ///
    /// # Errors
    /// `root` is not a directory or cannot be opened, or its manifest is damaged.
    pub fn at(root: &Path) -> Result<Self, ReadError> {
        let mut sysroot = Self::open(root, false)?;
        sysroot.manifest = match sysroot.read_limited(MANIFEST, manifest::LIMIT) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| ReadError { path: root.join(MANIFEST), source: error.into() })?,
            Err(error) if error.is_absent() => Manifest::default(),
            Err(error) => return Err(error),
        };
        Ok(sysroot)
    }

    /// Opens a captured host that is one file, as `kireji snapshot` writes it.
    ///
    /// # Errors
    /// It cannot be unpacked, or is not what it should be.
    pub fn unpack(packed: impl Read) -> Result<Self, ArchiveError> {
        // Nobody else can enter it (mkdtemp(3)).
        let directory = tempfile::tempdir()?;
        archive::unpack(packed, directory.path())?;
        let mut sysroot = Self::at(directory.path()).map_err(|error| error.source)?;
        sysroot.unpacked = Some(directory);
        Ok(sysroot)
    }

    /// Records from now on what is read.
    pub fn record(&mut self) {
        self.record = Some(Mutex::default());
    }

    /// Opens the same host once more, to record what is read of it.
    ///
    /// # Errors
    /// The root directory cannot be opened.
    pub fn recording(&self) -> Result<Self, ReadError> {
        let mut again = Self::open(&self.root, self.live)?;
        again.manifest = self.manifest.clone();
        again.record();
        Ok(again)
    }

    /// Returns what was read since [`Sysroot::record`].
    pub fn recorded(&self) -> Record {
        let record = self.record.as_ref();
        record.map_or_else(Record::default, |record| {
            record.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    fn note(&self, what: impl FnOnce(&mut Record)) {
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.operations += 1;
            what(&mut record);
        }
    }

    /// What the captured host says beside its files; of the running one, nothing.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(root: &Path, live: bool) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(|errno| ReadError { path: root.to_owned(), source: errno.into() })?;
        Ok(Self {
            root: root.to_owned(),
            dir,
            live,
            manifest: Manifest::default(),
            unpacked: None,
            record: None,
            opens: AtomicUsize::new(0),
        })
    }

    /// Whether this is the running host rather than a capture.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Returns where `path` of the host lies in the file system of this machine.
    pub fn locate(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative(path.as_ref()))
    }

    /// How often something was opened so far: most of what looking costs. What is opened for a
    /// record alone is not counted.
    pub fn opens(&self) -> usize {
        self.opens.load(Ordering::Relaxed)
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        if !flags.contains(OFlags::PATH) && self.was_unreadable(path) {
            return Err(error(path, Errno::ACCESS));
        }
        self.open_uncounted(path, flags)
    }

    /// Whether who captured the host could not read a file of it.
    fn was_unreadable(&self, path: &Path) -> bool {
        !self.manifest.unreadable.is_empty()
            && path.to_str().is_some_and(|path| self.manifest.unreadable.contains(path))
    }

    fn open_uncounted(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
        let below = relative(path);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = flags | OFlags::CLOEXEC;
        let opened = if self.live {
            rustix::fs::openat(&self.dir, below, flags, Mode::empty())
        } else {
            open_inside(&self.dir, below, flags)
        };
        opened.map_err(|errno| error(path, errno))
    }

    /// Reads a file of at most one mebibyte.
    ///
    /// # Errors
    /// The file is absent, may not be read, or is larger.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, ReadError> {
        self.read_limited(path, DEFAULT_LIMIT)
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// The file is absent, may not be read, is not a regular file, or is larger.
    pub fn read_limited(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, ReadError> {
        let path = path.as_ref();
        let result = self.read_whole(path, limit);
        self.note(|record| record.read(self, path, &result));
        result
    }

    fn read_whole(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        // NONBLOCK: a fifo in a hostile capture must not stop us.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let mut bytes = Vec::new();
        let mut file = std::fs::File::from(fd).take(limit.saturating_add(1));
        file.read_to_end(&mut bytes)
            .map_err(|source| ReadError { path: path.to_owned(), source })?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            let source = io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("larger than the {limit} bytes that it may hold"),
            );
            return Err(ReadError { path: path.to_owned(), source });
        }
        Ok(bytes)
    }

    /// Opens a regular file, to be read where it is.
    ///
    /// # Errors
    /// The file is absent, may not be read, or is not a regular file.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File, ReadError> {
        let path = path.as_ref();
        let opened = self.open_regular(path);
        self.note(|record| record.opened(self, path, &opened));
        opened
    }

    fn open_regular(&self, path: &Path) -> Result<File, ReadError> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| error(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(error(path, Errno::INVAL));
        }
        Ok(fd.into())
    }

    /// Reads `length` bytes at `offset` of a file or block device; fewer where it ends.
    ///
    /// # Errors
    /// The file is absent, or may not or cannot be read.
    pub fn read_at(
        &self,
        path: impl AsRef<Path>,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let path = path.as_ref();
        // What is on disks is not captured.
        self.note(|record| record.unreadable(self, path));
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            let at = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            match rustix::io::pread(&fd, &mut bytes[read..], at) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(path, errno)),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Returns which device a node stands for, its last link followed; `None` for what is no
    /// device node.
    ///
    /// # Errors
    /// The path is absent or may not be looked at.
    pub fn device_number(&self, path: impl AsRef<Path>) -> Result<Option<DeviceNumber>, ReadError> {
        let path = path.as_ref();
        self.note(|record| record.exists(self, path));
        let fd = self.open_at(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(fd).map_err(|errno| error(path, errno))?;
        let is_block = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            _ => return Ok(None),
        };
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Ok(Some(DeviceNumber { is_block, major, minor }))
    }

    /// Returns what a path is and whose, its last link followed.
    ///
    /// # Errors
    /// The path is absent or may not be looked at.
    pub fn node(&self, path: impl AsRef<Path>) -> Result<Node, ReadError> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(fd).map_err(|errno| error(path, errno))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => NodeKind::Directory,
            FileType::RegularFile => NodeKind::File,
            FileType::Socket => NodeKind::Socket,
            _ => NodeKind::Other,
        };
        let mode = stat.st_mode & 0o7777;
        self.note(|record| record.mode(self, path, mode));
        Ok(Node { kind, uid: stat.st_uid, gid: stat.st_gid, mode, modified: stat.st_mtime })
    }

    /// Reads a file as text, without white space at its ends; bytes that are not UTF-8 are
    /// replaced.
    ///
    /// # Errors
    /// As [`Sysroot::read`].
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, ReadError> {
        let bytes = self.read(path)?;
        Ok(trimmed(&bytes))
    }

    /// Reads a file as text, or returns `None` where it is absent.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn optional_text(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        optional(self.text(path))
    }

    /// Returns the target of a symbolic link, as it is written.
    ///
    /// # Errors
    /// The path is absent or is not a symbolic link.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<PathBuf, ReadError> {
        let path = path.as_ref();
        self.note(|record| record.link(self, path));
        self.opens.fetch_add(usize::from(!self.live), Ordering::Relaxed);
        self.read_link(path)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, ReadError> {
        let target = if self.live {
            rustix::fs::readlinkat(&self.dir, relative(path), Vec::new())
        } else {
            let fd = self.open_uncounted(path, OFlags::PATH | OFlags::NOFOLLOW)?;
            rustix::fs::readlinkat(fd, "", Vec::new())
        };
        let target = target.map_err(|errno| error(path, errno))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Returns the last component of a symbolic link's target, or `None` where there is no link.
    ///
    /// This is how sysfs names a device's driver, group, subsystem and so on.
    ///
    /// # Errors
    /// The link is there but cannot be read.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        Ok(optional(self.link(path))?.and_then(|target| last_part(&target)))
    }

    /// Returns the names in a directory, sorted.
    ///
    /// # Errors
    /// The directory is absent or may not be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        let path = path.as_ref();
        let fd = match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if !error.is_absent() => {
                self.note(|record| record.unreadable(self, path));
                return Err(error);
            }
            other => other?,
        };
        let entries = rustix::fs::Dir::new(fd).map_err(|errno| error(path, errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| error(path, errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        self.note(|record| record.names(self, path, &names));
        Ok(names)
    }

    /// Returns the names in a directory, sorted; none where it is absent.
    ///
    /// # Errors
    /// The directory is there but may not be read.
    pub fn optional_names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        match self.names(path) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Whether this process may read and write a device node, or who captured the host might.
    ///
    /// Nothing is opened: opening a node of VFIO would take the group. The kernel asks the device
    /// rules of the control group, and access control lists, here too (fs/namei.c,
    /// inode_permission).
    ///
    /// # Errors
    /// There is no such node.
    pub fn may_use(&self, path: impl AsRef<Path>) -> Result<Measured<bool>, ReadError> {
        let path = path.as_ref();
        let result = self.ask_use(path);
        match &result {
            Ok(Measured::Known(may)) => self.note(|record| record.node(self, path, *may)),
            Ok(Measured::Unmeasured { .. }) => self.note(|record| record.exists(self, path)),
            Err(_) => {}
        }
        result
    }

    fn ask_use(&self, path: &Path) -> Result<Measured<bool>, ReadError> {
        if !self.live {
            let told = path.to_str().and_then(|path| self.manifest.nodes.get(path));
            if let Some(may) = told {
                return Ok(Measured::Known(*may));
            }
            self.open_at(path, OFlags::PATH)?;
            return Ok(Measured::unmeasured("the captured host does not tell who may use it"));
        }
        let access = Access::READ_OK | Access::WRITE_OK;
        match rustix::fs::accessat(&self.dir, relative(path), access, AtFlags::EACCESS) {
            Ok(()) => Ok(Measured::Known(true)),
            Err(Errno::ACCESS | Errno::PERM) => Ok(Measured::Known(false)),
            Err(errno) => Err(error(path, errno)),
        }
    }

    /// Whether a path exists, its last link followed.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let exists = self.open_at(path.as_ref(), OFlags::PATH).is_ok();
        if exists {
            self.note(|record| record.exists(self, path.as_ref()));
        }
        exists
    }
}

/// How often a path inside a capture is tried, while something on this machine is renamed each time.
const TRIES: u32 = 10_000;

/// Opens what is below `dir`, and nothing outside of it.
///
/// The kernel gives up with EAGAIN where anything at all was renamed or mounted while it followed a
/// `..`, since it cannot tell then whether that led outside, and wants to be asked again (openat2(2)).
fn open_inside(dir: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    for _ in 1..TRIES {
        match rustix::fs::openat2(dir, below, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            opened => return opened,
        }
    }
    rustix::fs::openat2(dir, below, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// What is absent is nothing.
fn optional<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn last_part(target: &Path) -> Option<String> {
    target.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn error(path: &Path, errno: Errno) -> ReadError {
    ReadError { path: Path::new("/").join(relative(path)), source: errno.into() }
}

#[cfg(test)]
mod tests;
