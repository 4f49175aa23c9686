//! New files and directories, which take the place of nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::super::image::host_failed;
use crate::command::owner::Owner;
use crate::{CommandError, Exit};

/// Makes a directory, or takes an empty one that is there.
pub(super) fn directory(path: &Path, owner: Owner) -> Result<(), CommandError> {
    match std::fs::create_dir(path) {
        Ok(()) => {
            owner.give(path);
            return Ok(());
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(host_failed("make", path, error)),
    }
    let mut entries = path.read_dir().map_err(|error| host_failed("read", path, error))?;
    if entries.next().is_some() {
        let text = format!("{} is there and not empty", path.display());
        return Err(CommandError::new(Exit::Usage, text));
    }
    Ok(())
}

/// Writes a file that is not there yet.
pub(super) fn file(path: &Path, bytes: &[u8], owner: Owner) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => {
            CommandError::new(Exit::Usage, format!("{} is there already", path.display()))
        }
        _ => host_failed("write", path, error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(|error| {
        // Half a file is worse than none; the first error is the one to tell.
        drop(std::fs::remove_file(path));
        failed(error)
    })?;
    owner.give(path);
    Ok(())
}
