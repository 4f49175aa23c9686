//! The changes that are made to a disk, each one that a crash can come before or after.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{XattrFlags, fsetxattr, lgetxattr};
use rustix::io::Errno;

/// Who a file belongs to, and its permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Access {
    /// The permission bits.
    pub mode: u32,
    /// The number of its user, and of its group; those of this process where it is `None`.
    pub owner: Option<(u32, u32)>,
}

/// Changes a disk.
pub trait Disk: std::fmt::Debug {
    /// Makes a file that survives a crash; one of its name is replaced, and may then be a part. It
    /// gets the SELinux label that is given, if one is.
    ///
    /// # Errors
    /// The operating system refuses.
    fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        access: Access,
        label: Option<&[u8]>,
    ) -> io::Result<()>;

    /// Gives a file or directory another name, in place of what has it.
    ///
    /// # Errors
    /// The operating system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a crash.
    ///
    /// # Errors
    /// The operating system refuses.
    fn sync(&self, directory: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory.
    ///
    /// # Errors
    /// The operating system refuses.
    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The operating system refuses.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}

/// Where SELinux keeps a file's label (xattr(7)).
const LABEL: &str = "security.selinux";

/// The label of a file; `None` where there is no such file, or labels are not kept.
pub(super) fn label(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Labels are some dozen bytes long.
    let mut label = vec![0; 4096];
    match lgetxattr(path, LABEL, &mut label[..]) {
        Ok(length) => {
            label.truncate(length);
            Ok(Some(label))
        }
        Err(Errno::NOENT | Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        access: Access,
        label: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        if let Some((user, group)) = access.owner {
            chown(path, Some(user), Some(group))?;
        }
        // Behind the change of owner, which clears bits.
        file.set_permissions(Permissions::from_mode(access.mode))?;
        if let Some(label) = label {
            fsetxattr(&file, LABEL, label, XattrFlags::empty())?;
        }
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(mode).create(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_label_that_it_is_given() {
        if !testkit::only_root::is_root() {
            // Only root can give a label.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let access = Access { mode: 0o640, owner: None };
        assert_eq!(label(&path).unwrap(), None);
        SystemDisk.write(&path, b"old", access, None).unwrap();
        // Without SELinux any text will do.
        let text = b"system_u:object_r:etc_t:s0\0";
        SystemDisk.write(&path, b"new", access, Some(text)).unwrap();
        assert_eq!(label(&path).unwrap().as_deref(), Some(&text[..]));
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
