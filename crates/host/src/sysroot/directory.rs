//! One directory of the host that is held open.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{DEFAULT_LIMIT, ReadError, Sysroot, error, last_part, optional, trimmed};

/// What is asked for at once: an attribute of sysfs holds a page at most and is given in one read
/// (Documentation/filesystems/sysfs.rst of the kernel).
const ATTRIBUTE: usize = 4096;

/// A directory of the host, held open: of many files in it, none is looked for from the root.
///
/// What it holds is named by single names, and a link among them is looked up like any other path,
/// so that it does not lead out of a capture.
#[derive(Debug)]
pub struct Directory<'a> {
    host: &'a Sysroot,
    path: PathBuf,
    fd: OwnedFd,
}

impl Sysroot {
    /// Opens a directory, to read several files in it.
    ///
    /// # Errors
    /// The directory is absent or may not be opened.
    pub fn directory(&self, path: impl AsRef<Path>) -> Result<Directory<'_>, ReadError> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Directory { host: self, path: path.to_owned(), fd })
    }
}

impl Directory<'_> {
    /// Reads an attribute as text, as [`Sysroot::text`] does.
    ///
    /// # Errors
    /// The file is absent, may not be read, or is larger than a mebibyte.
    pub fn text(&self, name: &str) -> Result<String, ReadError> {
        if !is_single(name) {
            return self.host.text(self.path.join(name));
        }
        match self.read(name) {
            Err(Errno::LOOP) => self.host.text(self.path.join(name)),
            read => {
                let read = read.map_err(|errno| error(&self.path.join(name), errno));
                self.host.note(|record| record.read(self.host, &self.path.join(name), &read));
                Ok(trimmed(&read?))
            }
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        self.host.opens.fetch_add(1, Ordering::Relaxed);
        if !self.host.manifest.unreadable.is_empty()
            && self.host.was_unreadable(&self.path.join(name))
        {
            return Err(Errno::ACCESS);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = vec![0; ATTRIBUTE];
        let mut filled = 0;
        loop {
            match rustix::io::read(&fd, &mut bytes[filled..]) {
                Ok(more) => filled += more,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            if u64::try_from(filled).unwrap_or(u64::MAX) > DEFAULT_LIMIT {
                return Err(Errno::FBIG);
            }
            if filled < bytes.len() {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            bytes.resize(2 * filled, 0);
        }
    }

    /// Reads an attribute as text, or returns `None` where it is absent.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn optional_text(&self, name: &str) -> Result<Option<String>, ReadError> {
        optional(self.text(name))
    }

    /// Returns the target of a symbolic link, as it is written.
    ///
    /// # Errors
    /// It is absent or is not a symbolic link.
    pub fn link(&self, name: &str) -> Result<PathBuf, ReadError> {
        if !is_single(name) {
            return self.host.link(self.path.join(name));
        }
        self.host.note(|record| record.link(self.host, &self.path.join(name)));
        // Links are not followed, so nothing outside can be met.
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new());
        let target = target.map_err(|errno| error(&self.path.join(name), errno))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Returns the last component of a symbolic link's target, as [`Sysroot::link_name`] does.
    ///
    /// # Errors
    /// The link is there but cannot be read.
    pub fn link_name(&self, name: &str) -> Result<Option<String>, ReadError> {
        Ok(optional(self.link(name))?.and_then(|target| last_part(&target)))
    }
}

/// Whether a name is of something in the directory itself.
fn is_single(name: &str) -> bool {
    !name.contains('/') && !matches!(name, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_holds_what_its_path_leads_to_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sys/devices/a")).unwrap();
        std::fs::create_dir_all(root.join("sys/bus")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("sys/devices/vendor"), "0x1af4\n").unwrap();
        std::fs::write(root.join("sys/devices/a/uevent"), "DRIVER=x\n").unwrap();
        let long = "x".repeat(3 * ATTRIBUTE);
        std::fs::write(root.join("sys/devices/a/long"), &long).unwrap();
        let huge = vec![b'x'; usize::try_from(DEFAULT_LIMIT).unwrap() + 1];
        std::fs::write(root.join("sys/devices/a/huge"), huge).unwrap();
        symlink("../vendor", root.join("sys/devices/a/link")).unwrap();
        symlink("../../../../secret", root.join("sys/devices/a/out")).unwrap();
        symlink(dir.path().join("secret"), root.join("sys/devices/a/absolute")).unwrap();
        symlink("../devices/a", root.join("sys/bus/a")).unwrap();
        let host = Sysroot::at(&root).unwrap();
        let a = host.directory("/sys/bus/a").unwrap();
        assert_eq!(a.text("uevent").unwrap(), "DRIVER=x");
        assert_eq!(a.text("long").unwrap(), long);
        assert!(a.text("huge").unwrap_err().to_string().contains("/sys/bus/a/huge"));
        assert_eq!(a.text("link").unwrap(), "0x1af4");
        assert_eq!(a.text("../vendor").unwrap(), "0x1af4");
        for outside in ["out", "absolute", "../../../../secret", "none"] {
            assert_eq!(a.optional_text(outside).unwrap(), None, "{outside}");
        }
        assert_eq!(a.link("link").unwrap(), Path::new("../vendor"));
        assert_eq!(a.link_name("out").unwrap().unwrap(), "secret");
        assert_eq!(a.link_name("none").unwrap(), None);
        assert!(host.directory("/sys/none").unwrap_err().is_absent());
        assert!(host.directory("/sys/devices/a/uevent").unwrap_err().is_absent());
    }

    #[test]
    fn what_is_read_in_a_directory_is_recorded_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/devices/a")).unwrap();
        std::fs::write(dir.path().join("sys/devices/a/uevent"), "DRIVER=x\n").unwrap();
        symlink("../drivers/x", dir.path().join("sys/devices/a/driver")).unwrap();
        let mut host = Sysroot::at(dir.path()).unwrap();
        host.manifest.unreadable.insert("/sys/devices/a/secret".to_owned());
        host.record();
        let before = host.opens();
        let a = host.directory("/sys/devices/a").unwrap();
        a.text("uevent").unwrap();
        a.link("driver").unwrap();
        assert!(a.text("secret").unwrap_err().is_denied());
        assert_eq!(host.opens() - before, 3);
        let record = host.recorded();
        assert_eq!(record.files[Path::new("/sys/devices/a/uevent")], b"DRIVER=x\n");
        assert_eq!(record.links[Path::new("/sys/devices/a/driver")], Path::new("../drivers/x"));
        assert!(record.manifest.unreadable.contains("/sys/devices/a/secret"));
    }
}
