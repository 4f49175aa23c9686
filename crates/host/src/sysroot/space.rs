//! How much files take, and how much more there may be.

use std::path::Path;

use rustix::fs::OFlags;

use super::{ReadError, Sysroot, error};
use crate::Measured;

impl Sysroot {
    /// Returns the length of a file in bytes.
    ///
    /// # Errors
    /// The path is absent or may not be looked at.
    pub fn size(&self, path: impl AsRef<Path>) -> Result<u64, ReadError> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(fd).map_err(|errno| error(path, errno))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Returns how much root can still write to the file system of a path, in bytes.
    ///
    /// # Errors
    /// The path is absent or may not be looked at.
    pub fn free_space(&self, path: impl AsRef<Path>) -> Result<Measured<u64>, ReadError> {
        if !self.live {
            return Ok(Measured::unmeasured("the captured host does not tell what is free"));
        }
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH)?;
        let stat = rustix::fs::fstatvfs(fd).map_err(|errno| error(path, errno))?;
        Ok(Measured::Known(stat.f_bfree.saturating_mul(stat.f_frsize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_host_tells_sizes_and_not_what_is_free() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("five"), "12345").unwrap();
        let host = Sysroot::at(directory.path()).unwrap();
        assert_eq!(host.size("/five").unwrap(), 5);
        assert!(host.size("/six").unwrap_err().is_absent());
        assert!(host.free_space("/").unwrap().known().is_none());
        let running = Sysroot::host().unwrap();
        assert!(running.free_space("/").unwrap().known().is_some());
    }
}
