//! Files that the user named, and that are the user's.

use std::path::Path;

use guest::launch::as_user;

use super::run;
use crate::{CommandError, Context, Exit};

/// Writes a file in one step, as whoever called kireji: under sudo it is the user's own, and lies
/// where the user may write.
///
/// # Errors
/// It cannot be written.
pub(super) fn save(
    context: &Context<'_>,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), CommandError> {
    let user = context.vars.user.as_ref();
    let written = as_user(user, || host::atomic::write(path, bytes, mode));
    let written = written.map_err(|error| run::denied(error, user))?;
    written.map_err(|error| {
        let exit = Exit::of_io(&error.source);
        CommandError::from_source(exit, error)
    })
}
