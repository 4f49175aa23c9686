//! Why a file of the host could not be read.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

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
