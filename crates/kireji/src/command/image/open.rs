//! Opening the volume of an image, so that nobody else writes it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;

use bfs::{Access, Options, Volume, Window};
use haiku::image::{Disk, Extent, ImageError};

use super::{Reading, Writing, failed};
use crate::{CommandError, Context, Exit};

/// A volume in an image.
pub(crate) type ImageVolume = Volume<Window<Disk>>;

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
    /// Opens the image for reading, with nobody of ours writing it.
    pub(super) fn disk(&self) -> Result<Disk, CommandError> {
        Disk::open(&self.path).map_err(not_an_image)
    }

    /// Opens the image for writing, with nobody else having it open.
    fn disk_to_write(&self) -> Result<Disk, CommandError> {
        Disk::open_to_write(&self.path).map_err(not_an_image)
    }

    /// The place of the volume on the disk of the image.
    pub(super) fn volume(&self, disk: Disk) -> Result<Window<Disk>, CommandError> {
        let place = disk.find_volume(self.partition).map_err(not_an_image)?;
        window(disk, place)
    }
}

/// A part of a disk.
pub(super) fn window(disk: Disk, place: Extent) -> Result<Window<Disk>, CommandError> {
    Window::new(disk, place.start, place.size)
        .map_err(|error| CommandError::from_source(Exit::Image, error))
}

pub(crate) fn not_an_image(error: ImageError) -> CommandError {
    let exit = match &error {
        ImageError::Busy { .. } => Exit::Refused,
        ImageError::Open { source, .. } | ImageError::Write { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => Exit::Permission,
            ErrorKind::StorageFull => Exit::NoSpace,
            ErrorKind::AlreadyExists => Exit::HostCannot,
            _ => Exit::Image,
        },
        _ => Exit::Image,
    };
    let hint = error.hint();
    CommandError::from_source(exit, error).hint(hint)
}

/// Opens a volume for reading.
pub(super) fn read(args: &Reading, context: &mut Context<'_>) -> Result<ImageVolume, CommandError> {
    read_on(args, args.image.disk()?, context)
}

/// Opens the volume of an open image for reading.
pub(super) fn read_on(
    args: &Reading,
    disk: Disk,
    context: &mut Context<'_>,
) -> Result<ImageVolume, CommandError> {
    let access = if args.no_replay { Access::ReadAsIs } else { Access::Read };
    let volume = volume(args.image.volume(disk)?, access)?;
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
    let volume = volume(exclusive(&args.image)?, Access::Write)?;
    if !volume.info().clean {
        writeln!(context.err, "The volume was not unmounted cleanly; its log was carried out.")?;
    }
    Ok(volume)
}

/// Opens the place of a volume for writing.
pub(super) fn exclusive(image: &ImageArg) -> Result<Window<Disk>, CommandError> {
    image.volume(image.disk_to_write()?)
}

/// Opens the place where a volume is to be made: of one that is there, or a partition whose type
/// says that it is to hold one.
pub(super) fn place(image: &ImageArg) -> Result<Window<Disk>, CommandError> {
    let disk = image.disk_to_write()?;
    let place = disk.find_place(image.partition).map_err(not_an_image)?;
    window(disk, place)
}

fn volume(window: Window<Disk>, access: Access) -> Result<ImageVolume, CommandError> {
    Volume::open(window, &Options { access, ..Options::default() }).map_err(failed)
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
