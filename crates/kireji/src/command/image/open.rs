//! Opening the volume of an image, so that nobody else writes it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bfs::{Access, Options, Volume, Window};
use haiku::image::{Extent, ImageError, find_volume};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::{Reading, Writing, failed, host_failed};
use crate::{CommandError, Context, Exit};

/// A volume in a file.
pub(crate) type ImageVolume = Volume<Window<File>>;

/// An image on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArg {
    /// The file.
    pub(crate) path: PathBuf,
    /// The number of the partition.
    pub(crate) partition: Option<usize>,
}

impl FromStr for ImageArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = Self { path: text.into(), partition: None };
        let Some((path, number)) = text.rsplit_once(':') else { return Ok(whole) };
        // A file whose name ends so is meant itself.
        match number.parse() {
            Ok(number) if !path.is_empty() && !whole.path.exists() => {
                Ok(Self { path: path.into(), partition: Some(number) })
            }
            _ => Ok(whole),
        }
    }
}

impl ImageArg {
    /// Finds the place of the volume.
    pub(super) fn place(&self) -> Result<Extent, CommandError> {
        find_volume(&self.path, self.partition).map_err(not_an_image)
    }
}

pub(super) fn not_an_image(error: ImageError) -> CommandError {
    let hint = error.hint();
    CommandError::from_source(Exit::Image, error).hint(hint)
}

/// Opens a volume for reading.
pub(super) fn read(args: &Reading, context: &mut Context<'_>) -> Result<ImageVolume, CommandError> {
    let access = if args.no_replay { Access::ReadAsIs } else { Access::Read };
    let volume = volume(shared(&args.image)?, access)?;
    if !volume.info().clean {
        let how = if args.no_replay { "as it is" } else { "as its log leaves it" };
        writeln!(context.err, "The volume was not unmounted cleanly; it is read {how}.")?;
    }
    Ok(volume)
}

/// Opens a volume for writing. Its log is carried out if there is something in it.
pub(crate) fn write(
    args: &Writing,
    context: &mut Context<'_>,
) -> Result<ImageVolume, CommandError> {
    let (file, place) = exclusive(&args.image)?;
    let volume = volume(window(file, place)?, Access::Write)?;
    if !volume.info().clean {
        writeln!(context.err, "The volume was not unmounted cleanly; its log was carried out.")?;
    }
    Ok(volume)
}

/// Opens an image for writing, with nobody else writing it.
pub(super) fn exclusive(image: &ImageArg) -> Result<(File, Extent), CommandError> {
    let place = image.place()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image.path)
        .map_err(|source| host_failed("write", &image.path, source))?;
    lock(&file, &image.path, FlockOperation::NonBlockingLockExclusive)?;
    Ok((file, place))
}

/// Opens an image for reading, with nobody of ours writing it.
pub(super) fn shared(image: &ImageArg) -> Result<Window<File>, CommandError> {
    let place = image.place()?;
    let file =
        File::open(&image.path).map_err(|source| host_failed("open", &image.path, source))?;
    lock(&file, &image.path, FlockOperation::NonBlockingLockShared)?;
    window(file, place)
}

/// The place of a volume in an open image.
pub(super) fn window(file: File, place: Extent) -> Result<Window<File>, CommandError> {
    Window::new(file, place.start, place.size)
        .map_err(|error| CommandError::from_source(Exit::Image, error))
}

fn volume(window: Window<File>, access: Access) -> Result<ImageVolume, CommandError> {
    Volume::open(window, &Options { access, ..Options::default() }).map_err(failed)
}

/// Locks all of a file.
///
/// QEMU locks bytes from 100 and 200 on of every image that it has open (block/file-posix.c,
/// RAW_LOCK_PERM_BASE), by locks of the same kind: one of them excludes the other, whoever comes
/// first. Such a lock is lost when this process closes any descriptor of the file, so that there is
/// to be only one.
fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<(), CommandError> {
    match fcntl_lock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            let message = format!("{} is in use by another process", path.display());
            Err(CommandError::new(Exit::Refused, message)
                .hint("end the QEMU or the other kireji that has it open"))
        }
        // Some network file systems have no locks; there is nobody to be warned of then.
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(host_failed("lock", path, error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_told_from_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("odd:2");
        std::fs::write(&odd, b"").unwrap();
        let odd = odd.to_str().unwrap();
        for (text, path, partition) in [
            ("haiku.iso", "haiku.iso", None),
            ("haiku.iso:1", "haiku.iso", Some(1)),
            ("a:b", "a:b", None),
            (":1", ":1", None),
            (odd, odd, None),
        ] {
            let arg: ImageArg = text.parse().unwrap();
            assert_eq!(arg, ImageArg { path: path.into(), partition });
        }
    }
}
