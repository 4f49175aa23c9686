//! The disks of a rig: files made before it starts, each for one run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::{Program, RunError, Runner};

use crate::rig::Disk;

/// The size of a card's disk in bytes.
pub const DISK_SIZE: u64 = 8 << 20;

/// The size of a sector in bytes.
pub const SECTOR: usize = 512;

/// A disk file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// mke2fs(8) could not be run.
    #[error("cannot make a file system")]
    Run(#[from] RunError),
    /// mke2fs(8) refused.
    #[error("mke2fs cannot make a file system on {}: {message}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it said.
        message: String,
    },
}

/// Makes the file `path` with what `disk` says.
///
/// # Errors
/// The file cannot be written, or there is no mke2fs(8) where a file system is asked for.
pub fn make(runner: &dyn Runner, disk: Disk, path: &Path) -> Result<(), DiskError> {
    let write = |source| DiskError::Write { path: path.to_owned(), source };
    let file = File::create(path).map_err(write)?;
    file.set_len(DISK_SIZE).map_err(write)?;
    match disk {
        Disk::Blank => Ok(()),
        Disk::Pattern => pattern(file).map_err(write),
        Disk::Ext4 => mke2fs(runner, &["-L", "somebodys-data"], path),
    }
}

/// What a sector of a disk with the pattern begins with; zeros follow.
pub fn sector_text(number: u64) -> String {
    format!("kireji sector {number}\n")
}

fn pattern(file: File) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let mut sector = [0; SECTOR];
    for number in 0..DISK_SIZE / 512 {
        let text = sector_text(number);
        sector[..text.len()].copy_from_slice(text.as_bytes());
        writer.write_all(&sector)?;
    }
    writer.flush()
}

/// Makes an ext4 file system in the file `image` with mke2fs(8) and these further arguments.
///
/// # Errors
/// There is no mke2fs(8), or it refuses.
pub fn mke2fs(runner: &dyn Runner, arguments: &[&str], image: &Path) -> Result<(), DiskError> {
    // It is not in the `PATH` of ordinary users everywhere.
    let places = ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"];
    let found = places.iter().find(|path| Path::new(path).exists());
    let program = Program::new(found.copied().unwrap_or("mke2fs"))
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0"])
        .args(arguments)
        .arg(image)
        .limit(Duration::from_secs(300));
    let done = runner.run(&program)?;
    if done.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(DiskError::Refused { path: image.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::SystemRunner;

    #[test]
    fn each_kind_of_disk_holds_what_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let bytes = |disk| {
            make(&SystemRunner, disk, &path).unwrap();
            std::fs::read(&path).unwrap()
        };
        let pattern = bytes(Disk::Pattern);
        assert_eq!(u64::try_from(pattern.len()).unwrap(), DISK_SIZE);
        assert!(pattern[5 * SECTOR..].starts_with(b"kireji sector 5\n\0"));
        assert!(pattern[16383 * SECTOR..].starts_with(b"kireji sector 16383\n\0"));
        assert!(bytes(Disk::Blank).iter().all(|byte| *byte == 0));
        // The magic number of ext4 at 0x38 of the superblock, which is at 1024.
        assert_eq!(bytes(Disk::Ext4)[1024 + 0x38..][..2], [0x53, 0xef]);
    }
}
