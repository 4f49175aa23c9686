//! The image of a run, and where what the guest writes goes.

use std::path::Path;

use guest::machine::{Disk, DiskBus};
use guest::overlay::{self, OverlayError, Source, check_free};
use guest::qemu::DiskFormat;
use guest::rundir::RunDirectory;
use haiku::image::{Container, Image};

use crate::{CommandError, Context, Exit};

use super::{Args, Bus};

/// The throw-away overlay, in the run's directory.
const OVERLAY: &str = "overlay.qcow2";

/// Throws away what the guest wrote, unless it was to be kept.
pub(super) fn drop_overlay(args: &Args, run: &RunDirectory) {
    if args.state.is_none() && !args.persist {
        // A file that cannot be removed takes room, and does no harm.
        drop(std::fs::remove_file(run.path().join(OVERLAY)));
    }
}

/// Finds out what the image is.
pub(super) fn read(path: &Path) -> Result<Image, CommandError> {
    Image::read(path).map_err(|error| {
        let hint = error.hint();
        CommandError::from_source(Exit::Image, error).hint(hint)
    })
}

fn source(args: &Args, image: &Image) -> Source {
    let (format, offset) = match image.container {
        Container::Raw => (DiskFormat::Raw, 0),
        Container::Vmdk { header } => (DiskFormat::Raw, header),
        Container::Qcow2 { .. } => (DiskFormat::Qcow2, 0),
    };
    Source { path: args.image.clone().unwrap_or_default(), format, offset }
}

fn attached(args: &Args, image: &Image, file: &Path, format: DiskFormat, offset: u64) -> Disk {
    let bus = match args.disk_bus {
        Bus::Ahci => DiskBus::Ahci,
        Bus::Nvme => DiskBus::Nvme,
        Bus::Usb => DiskBus::Usb,
    };
    let named = args.image.clone().unwrap_or_default();
    Disk { file: file.to_owned(), format, offset, image: named, boots: image.boots(), bus }
}

/// The disk as a dry run shows it: nothing is made.
pub(super) fn disk_of_dry_run(args: &Args, image: &Image, directory: &Path) -> Disk {
    if args.persist {
        let Source { path, format, offset } = source(args, image);
        return attached(args, image, &path, format, offset);
    }
    attached(args, image, &directory.join(OVERLAY), DiskFormat::Qcow2, 0)
}

/// Makes the overlay that the guest writes, or checks that it may write the image.
pub(super) fn disk(
    args: &Args,
    image: &Image,
    run: &RunDirectory,
    context: &Context<'_>,
) -> Result<Disk, CommandError> {
    let source = source(args, image);
    if args.persist {
        check_free(&source.path).map_err(failed)?;
        return Ok(attached(args, image, &source.path, source.format, source.offset));
    }
    let overlay = match &args.state {
        Some(name) => {
            let directory = context.vars.state.join("overlays");
            let overlay = overlay::lasting(&directory, name, &source).map_err(failed)?;
            for path in [overlay.with_extension("json"), directory] {
                run.hand_over(&path).map_err(super::session::run_error)?;
            }
            overlay
        }
        None => {
            let overlay = run.path().join(OVERLAY);
            overlay::create(&source, &overlay).map_err(failed)?;
            overlay
        }
    };
    run.hand_over(&overlay).map_err(super::session::run_error)?;
    Ok(attached(args, image, &overlay, DiskFormat::Qcow2, 0))
}

fn failed(error: OverlayError) -> CommandError {
    let (exit, hint) = match &error {
        OverlayError::Full { .. } => (Exit::NoSpace, "free some space, or set XDG_STATE_HOME"),
        OverlayError::Busy { .. } => (Exit::Busy, "end the guest that has the image first"),
        OverlayError::Changed { .. } | OverlayError::OtherImage { .. } => {
            (Exit::Refused, "use another `--state` name for this image")
        }
        OverlayError::Name { .. } => (Exit::Usage, "letters, digits, `-`, `_` and `.` will do"),
        OverlayError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            (Exit::NoSpace, "free some space, or set XDG_STATE_HOME")
        }
        OverlayError::Io { .. } | OverlayError::Unfit { .. } => {
            (Exit::Image, "check the image and its permissions")
        }
    };
    CommandError::from_source(exit, error).hint(hint)
}
