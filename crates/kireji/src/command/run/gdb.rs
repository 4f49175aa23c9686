//! QEMU's stub for gdb.

use std::ffi::OsString;

use guest::launch::as_user;
use guest::rundir::RunDirectory;
use haiku::symbols::gdb_kernel_arguments;

use crate::command::image;
use crate::context::quoted;
use crate::{CommandError, Context};

use super::files::KERNEL;

/// Where the stub is: nobody else's machine is to reach it.
fn place(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// QEMU's arguments that open the stub, if it is asked for.
pub(super) fn arguments(port: Option<u16>) -> impl Iterator<Item = OsString> {
    let stub = port.map(|port| ["-gdb".to_owned(), format!("tcp:{}", place(port))]);
    stub.into_iter().flatten().map(OsString::from)
}

/// Says how to start gdb, with the symbols of the guest's kernel, which is put into the run's
/// directory. Where a driver is, is not known before it is loaded.
pub(super) fn announce(
    port: u16,
    kernel: Option<&[u8]>,
    run: &RunDirectory,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let path = run.path().join(KERNEL);
    let written = match kernel {
        Some(bytes) => {
            let user = context.vars.user.as_ref();
            as_user(user, || std::fs::write(&path, bytes))
                .and_then(|written| written)
                .map_err(|error| image::host_failed("write", &path, error))?;
            Some(path.as_path())
        }
        None => None,
    };
    let arguments = gdb_kernel_arguments(&place(port), written);
    let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
    writeln!(context.err, "gdb {}", words.join(" "))?;
    Ok(())
}
