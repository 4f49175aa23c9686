//! The kernel in an image: a file of the package `haiku`.

use haiku::packages::{self, PackagesError};

use super::open::ImageArg;
use super::{Reading, failed, open};
use crate::{CommandError, Context, Exit};

/// Reads the kernel of an image. Returns the name of its package too.
pub(crate) fn kernel(
    image: &ImageArg,
    context: &mut Context<'_>,
) -> Result<(String, Vec<u8>), CommandError> {
    let reading = Reading { image: image.clone(), no_replay: false };
    let mut volume = open::read(&reading, context)?;
    packages::kernel(&mut volume).map_err(|error| packages_failed(error, image))
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
