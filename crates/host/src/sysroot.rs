//! The files of a host, live or captured, read below one root.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What one read of a host file may return at most, in bytes. Files of sysfs hold at most a page,
/// except for binary attributes, which are read with a limit of their own.
pub const DEFAULT_LIMIT: u64 = 1 << 20;

/// Which device a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Whether it is a block device rather than a character device: they are numbered apart.
    pub is_block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What a path is and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The number of the user who owns it.
    pub uid: u32,
    /// The number of the group that owns it.
    pub gid: u32,
    /// Its permission bits (inode(7)).
    pub mode: u32,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

/// A file of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct ReadError {
    /// The path as the host names it.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl ReadError {
    /// Whether the file is simply not there.
    pub fn is_absent(&self) -> bool {
        // ENODEV and ENXIO come from attributes of a device that has just gone.
        matches!(self.source.raw_os_error(), Some(code)
            if [Errno::NOENT, Errno::NOTDIR, Errno::NODEV, Errno::NXIO]
                .iter().any(|errno| errno.raw_os_error() == code))
    }

    /// Whether reading needs more rights than this process has.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// The root below which every file of a host is read.
///
/// Paths are written as the host knows them (`/sys/bus/pci/devices`). On a captured host, symbolic
/// links, absolute ones included, never lead out of the capture (`RESOLVE_IN_ROOT`, openat2(2)).
#[derive(Debug)]
pub struct Sysroot {
    root: PathBuf,
    dir: OwnedFd,
    live: bool,
}

impl Sysroot {
    /// Opens the running host.
    ///
    /// # Errors
    /// The root directory cannot be opened.
    pub fn host() -> Result<Self, ReadError> {
        Self::open(Path::new("/"), true)
    }

    /// Opens a captured host: a directory that holds `sys`, `proc`, `etc` and so on.
    ///
    /// # Errors
    /// `root` is not a directory or cannot be opened.
    pub fn at(root: &Path) -> Result<Self, ReadError> {
        Self::open(root, false)
    }

    fn open(root: &Path, live: bool) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(|errno| ReadError { path: root.to_owned(), source: errno.into() })?;
        Ok(Self { root: root.to_owned(), dir, live })
    }

    /// Whether this is the running host rather than a capture.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Returns where `path` of the host lies in the file system of this machine.
    pub fn locate(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative(path.as_ref()))
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
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
        Ok(Node { kind, uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 })
    }

    /// Reads a file as text, without white space at its ends; bytes that are not UTF-8 are
    /// replaced.
    ///
    /// # Errors
    /// As [`Sysroot::read`].
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, ReadError> {
        let bytes = self.read(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Reads a file as text, or returns `None` where it is absent.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn optional_text(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        match self.text(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the target of a symbolic link, as it is written.
    ///
    /// # Errors
    /// The path is absent or is not a symbolic link.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<PathBuf, ReadError> {
        let path = path.as_ref();
        let target = if self.live {
            rustix::fs::readlinkat(&self.dir, relative(path), Vec::new())
        } else {
            let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
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
        match self.link(path) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the names in a directory, sorted.
    ///
    /// # Errors
    /// The directory is absent or may not be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
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

    /// Whether a path exists, its last link followed.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open_at(path.as_ref(), OFlags::PATH).is_ok()
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

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn error(path: &Path, errno: Errno) -> ReadError {
    ReadError { path: Path::new("/").join(relative(path)), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/devices/a")).unwrap();
        std::fs::write(dir.path().join("sys/devices/a/vendor"), "0x8086\n").unwrap();
        symlink("../../../bus/drivers/e1000e", dir.path().join("sys/devices/a/driver")).unwrap();
        symlink("/sys/devices/a", dir.path().join("abs")).unwrap();
        symlink("/etc/hostname", dir.path().join("out")).unwrap();
        dir
    }

    #[test]
    fn reads_text_links_and_names() {
        let dir = tree();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(host.text("/sys/devices/a/vendor").unwrap(), "0x8086");
        assert_eq!(host.link_name("/sys/devices/a/driver").unwrap().unwrap(), "e1000e");
        assert_eq!(host.link_name("/sys/devices/a/none").unwrap(), None);
        assert_eq!(host.names("/sys/devices/a").unwrap(), ["driver", "vendor"]);
        assert!(host.names("/nothing").unwrap_err().is_absent());
    }

    #[test]
    fn renames_elsewhere_are_in_nobodys_way() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (dir, elsewhere) = (tree(), tempfile::tempdir().unwrap());
        let host = Sysroot::at(dir.path()).unwrap();
        let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
        std::fs::write(&one, "").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let path = "/sys/devices/a/../a/../a/../a/../a/../a/../a/vendor";
            let read = (0..20_000).try_for_each(|_| host.text(path).map(drop));
            done.store(true, Ordering::Relaxed);
            read.unwrap();
        });
    }

    #[test]
    fn links_stay_inside_a_capture() {
        let dir = tree();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(host.text("/abs/vendor").unwrap(), "0x8086");
        assert!(host.read("/out").unwrap_err().is_absent());
        assert!(host.read("/../../../../../../etc/hostname").unwrap_err().is_absent());
    }

    #[test]
    fn reads_within_a_file_up_to_its_end() {
        let dir = tree();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(host.read_at("/sys/devices/a/vendor", 2, 3).unwrap(), b"808");
        assert_eq!(host.read_at("/sys/devices/a/vendor", 5, 100).unwrap(), b"6\n");
        assert_eq!(host.read_at("/sys/devices/a/vendor", 1 << 40, 1).unwrap(), b"");
    }

    #[test]
    fn tells_devices_by_their_number() {
        let host = Sysroot::host().unwrap();
        // Documentation/admin-guide/devices.txt of the kernel.
        let null = DeviceNumber { is_block: false, major: 1, minor: 3 };
        assert_eq!(host.device_number("/dev/null").unwrap(), Some(null));
        assert_eq!(host.device_number("/proc/version").unwrap(), None);
    }

    #[test]
    fn a_file_larger_than_its_limit_is_an_error() {
        let dir = tree();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(host.read_limited("/sys/devices/a/vendor", 7).unwrap().len(), 7);
        let error = host.read_limited("/sys/devices/a/vendor", 6).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
    }
}
