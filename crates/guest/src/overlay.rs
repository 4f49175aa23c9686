//! Where a guest's writes go: into an overlay that is thrown away, into one that lasts, or into the
//! image itself.
//!
//! Overlays are qcow2 files with the image as their backing file, which is then never written. An
//! empty one is little more than a header, so it is written here, in a fraction of the time that
//! starting `qemu-img` takes. A backing file that changes under its overlay gives a damaged disk,
//! so a lasting overlay remembers which state of the image it was made for.

mod qcow2;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use host::atomic;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::qemu::DiskFormat;

/// The longest name of a lasting overlay, in bytes, so that it fits a file name with its suffixes.
const LONGEST_NAME: usize = 100;

/// A disk image, as it is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Where the disk begins in a raw file, in bytes.
    pub offset: u64,
}

/// An overlay could not be made, or an image not be used.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The image cannot be under an overlay.
    #[error("cannot make an overlay over {}: {what}", path.display())]
    Unfit {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk is full.
    #[error("no space for the overlay {}", path.display())]
    Full {
        /// The overlay, of which nothing is left.
        path: PathBuf,
    },
    /// Another process has the image open.
    #[error("the image {} is in use by another process", path.display())]
    Busy {
        /// The image.
        path: PathBuf,
    },
    /// The image is not what it was when the overlay was made.
    #[error("the image {} has changed since the overlay {name} was made", image.display())]
    Changed {
        /// The image.
        image: PathBuf,
        /// Name of the overlay.
        name: String,
    },
    /// The overlay belongs to another image.
    #[error("the overlay {name} was made for the image {}", image.display())]
    OtherImage {
        /// The image that it was made for.
        image: PathBuf,
        /// Name of the overlay.
        name: String,
    },
    /// A name that cannot be a file's.
    #[error("`{name}` is no name for an overlay: use letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// `read`, `write` and so on.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl OverlayError {
    fn at(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// Makes an empty overlay over `image`.
///
/// # Errors
/// It cannot be made; nothing is left of it then.
pub fn create(image: &Source, overlay: &Path) -> Result<(), OverlayError> {
    let size = disk_size(image)?;
    let format = image.format.driver();
    let Some(bytes) = qcow2::overlay(size, &backing(image), format) else {
        return Err(unfit(image, "its path is longer than qcow2 can hold"));
    };
    let file = File::options().write(true).create_new(true).open(overlay);
    let mut file = file.map_err(OverlayError::at("create", overlay))?;
    whole(io::Write::write_all(&mut file, &bytes), overlay)
}

/// Leaves nothing of an overlay that could not be written to its end.
fn whole(written: io::Result<()>, overlay: &Path) -> Result<(), OverlayError> {
    written.map_err(|error| {
        // The error that matters is the one being returned.
        drop(std::fs::remove_file(overlay));
        match error.kind() {
            io::ErrorKind::StorageFull => OverlayError::Full { path: overlay.to_owned() },
            _ => OverlayError::at("write", overlay)(error),
        }
    })
}

/// Returns where the lasting overlay `name` below `directory` is, or would be.
pub fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.qcow2"))
}

/// Finds out whether the lasting overlay `name` below `directory` can be used, or made, for `image`;
/// nothing is changed.
///
/// # Errors
/// The name is none, another process has the overlay open, or it was made for another image or
/// another state of this one.
pub fn check(directory: &Path, name: &str, image: &Source) -> Result<(), OverlayError> {
    known(directory, name, image)?;
    let overlay = self::path(directory, name);
    if overlay.exists() { check_free(&overlay) } else { Ok(()) }
}

/// Returns the state of the image, and whether the overlay's description tells of that state.
fn known(directory: &Path, name: &str, image: &Source) -> Result<(State, bool), OverlayError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.');
    if !fits || !name.bytes().all(is_plain) {
        return Err(OverlayError::Name { name: name.to_owned() });
    }
    let state = State::of(&image.path)?;
    match State::load(&about(directory, name))? {
        Some(known) if known.path != state.path => {
            Err(OverlayError::OtherImage { image: known.path, name: name.to_owned() })
        }
        Some(known) if known != state => {
            Err(OverlayError::Changed { image: state.path, name: name.to_owned() })
        }
        described => Ok((state, described.is_some())),
    }
}

/// Whether the lasting overlay `name` below `directory` is there and was made for `image` in the state
/// that it has now.
pub fn is_made_for(directory: &Path, name: &str, image: &Source) -> bool {
    known(directory, name, image).is_ok_and(|(_, is_described)| is_described)
        && path(directory, name).exists()
}

/// Gives a lasting overlay another name, in the place of the overlay that may have it. Whoever is
/// killed meanwhile leaves one or the other, or neither.
///
/// # Errors
/// A file cannot be renamed, removed or made durable.
pub fn rename(directory: &Path, from: &str, to: &str) -> Result<(), OverlayError> {
    let disk = path(directory, from);
    let synced = File::open(&disk).and_then(|file| file.sync_all());
    synced.map_err(OverlayError::at("sync", &disk))?;
    // Without its description an overlay is none.
    remove(directory, to)?;
    for (from, to) in [(disk, path(directory, to)), (about(directory, from), about(directory, to))]
    {
        std::fs::rename(&from, &to).map_err(OverlayError::at("rename", &from))?;
        atomic::sync_dir(directory).map_err(OverlayError::at("sync", directory))?;
    }
    Ok(())
}

/// Removes a lasting overlay, if it is there; returns whether it was.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn remove(directory: &Path, name: &str) -> Result<bool, OverlayError> {
    let mut was_there = false;
    for file in [about(directory, name), path(directory, name)] {
        match std::fs::remove_file(&file) {
            Ok(()) => was_there = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OverlayError::at("remove", &file)(error)),
        }
    }
    Ok(was_there)
}

/// Where it is written down which image a lasting overlay was made for.
fn about(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

/// Returns the lasting overlay `name` below `directory`, made if it is not there yet.
///
/// # Errors
/// It was made for another image or another state of this one, or cannot be made.
pub fn lasting(directory: &Path, name: &str, image: &Source) -> Result<PathBuf, OverlayError> {
    let (state, is_described) = known(directory, name, image)?;
    let overlay = self::path(directory, name);
    if is_described && overlay.exists() {
        return Ok(overlay);
    }
    std::fs::create_dir_all(directory).map_err(OverlayError::at("create", directory))?;
    // The description is written last, so an overlay without one was never finished.
    match std::fs::remove_file(&overlay) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OverlayError::at("remove", &overlay)(error));
        }
        _ => {}
    }
    create(image, &overlay)?;
    state.save(&about(directory, name))?;
    Ok(overlay)
}

/// Checks that no other QEMU has the image open, be it only under an overlay, so that it may be
/// written. QEMU looks again when it starts.
///
/// # Errors
/// Another process has it open, or this user may not write it.
pub fn check_free(image: &Path) -> Result<(), OverlayError> {
    let file = File::options().read(true).write(true).open(image);
    let file = file.map_err(OverlayError::at("write", image))?;
    // QEMU holds locks on bytes of a file that it has open, for reading or writing
    // (block/file-posix.c, RAW_LOCK_PERM_BASE); the lock taken here ends with the descriptor.
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(OverlayError::Busy { path: image.to_owned() }),
        Err(errno) => Err(OverlayError::at("lock", image)(errno.into())),
    }
}

/// Size in bytes of the disk that an image holds, in whole sectors.
fn disk_size(image: &Source) -> Result<u64, OverlayError> {
    let read = || OverlayError::at("read", &image.path);
    let mut file = File::open(&image.path).map_err(read())?;
    let size = match image.format {
        DiskFormat::Raw => file.metadata().map_err(read())?.len().saturating_sub(image.offset),
        DiskFormat::Qcow2 => {
            let mut head = [0; 32];
            io::Read::read_exact(&mut file, &mut head).map_err(read())?;
            qcow2::virtual_size(&head).ok_or_else(|| unfit(image, "it is not a qcow2 file"))?
        }
    };
    match size.checked_next_multiple_of(512) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(unfit(image, "it holds no disk")),
    }
}

fn unfit(image: &Source, what: &'static str) -> OverlayError {
    OverlayError::Unfit { path: image.path.clone(), what }
}

/// The backing file as QEMU takes it: a path, or a description where a path does not do.
fn backing(image: &Source) -> OsString {
    if image.offset == 0 {
        return image.path.clone().into_os_string();
    }
    let node = serde_json::json!({
        "driver": image.format.driver(),
        "offset": image.offset,
        "file": {"driver": "file", "filename": image.path.to_string_lossy()},
    });
    format!("json:{node}").into()
}

/// A state of an image: the file may not be another, nor have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    path: PathBuf,
    size: u64,
    /// Seconds and nanoseconds of the last change.
    modified: (i64, i64),
}

impl State {
    fn of(path: &Path) -> Result<Self, OverlayError> {
        let metadata = std::fs::metadata(path).map_err(OverlayError::at("read", path))?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { path: path.to_owned(), size: metadata.len(), modified })
    }

    fn load(path: &Path) -> Result<Option<Self>, OverlayError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(OverlayError::at("read", path))?,
        };
        let state = serde_json::from_reader(io::Read::take(file, 1 << 16));
        state.map(Some).map_err(|error| OverlayError::at("read", path)(error.into()))
    }

    fn save(&self, path: &Path) -> Result<(), OverlayError> {
        let written = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        let written = written
            .and_then(|bytes| atomic::write(path, &bytes, 0o600).map_err(|error| error.source));
        written.map_err(OverlayError::at("write", path))
    }
}

#[cfg(test)]
mod tests;
