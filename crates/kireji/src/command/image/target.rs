//! What an image has that matters to a driver: its kernel and its packages.

use haiku::install::Target;
use haiku::kdl::Panic;
use haiku::packages::PackagesError;
use haiku::symbols::{Symbols, unknown_images};

use super::open::{ImageArg, ImageVolume};
use super::{Reading, failed, open};
use crate::{CommandError, Context, Exit};

/// Reads what an image has that matters to a driver.
pub(crate) fn target(image: &ImageArg, context: &mut Context<'_>) -> Result<Target, CommandError> {
    let mut volume = read_volume(image, context)?;
    Target::read(&mut volume).map_err(|error| packages_failed(error, image))
}

/// Reads the kernel of an image. Returns the name of its package, and its bytes.
pub(crate) fn kernel(
    image: &ImageArg,
    context: &mut Context<'_>,
) -> Result<(String, Vec<u8>), CommandError> {
    let mut volume = read_volume(image, context)?;
    haiku::packages::kernel(&mut volume).map_err(|error| packages_failed(error, image))
}

/// The symbols of those images of panics that packages in an image have, and that nobody gave.
pub(crate) fn packaged(
    image: &ImageArg,
    panics: &[Panic],
    given: &[Symbols],
    context: &mut Context<'_>,
) -> Result<Vec<Symbols>, CommandError> {
    let names: Vec<_> = unknown_images(panics, given).into_iter().collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut volume = read_volume(image, context)?;
    let found = haiku::packages::images(&mut volume, &names)
        .map_err(|error| packages_failed(error, image))?;
    Ok(of_packages(&found))
}

/// The symbols of files that packages have.
pub(crate) fn of_packages(files: &[(String, Vec<u8>)]) -> Vec<Symbols> {
    let parse = |(name, bytes): &(String, Vec<u8>)| Symbols::parse(name, bytes).ok();
    files.iter().filter_map(parse).map(Symbols::packaged).collect()
}

/// Opens the volume of an image for reading.
pub(crate) fn read_volume(
    image: &ImageArg,
    context: &mut Context<'_>,
) -> Result<ImageVolume, CommandError> {
    open::read(&Reading { image: image.clone(), no_replay: false }, context)
}

/// An error of an image's packages, as the user sees it.
pub(crate) fn packages_failed(error: PackagesError, image: &ImageArg) -> CommandError {
    let narrow = matches!(error, PackagesError::Bits32(_));
    match error {
        PackagesError::Volume(error) => failed(error),
        error => {
            let error = CommandError::from_source(Exit::Image, error);
            let error = error.reason(format!("the image is {}", image.path.display()));
            if narrow { error.code("E-X86-GCC2") } else { error }
        }
    }
}
