//! What can be wrong with a request and has nothing to do with QEMU: found before a card is taken.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use guest::Guest;
use guest::launch::{User, as_user};
use guest::machine::UsbDevice;
use host::Sysroot;
use pci::{Address, Function};
use rustix::fs::{Access, AtFlags, CWD};

use crate::{CommandError, Context, Exit};

use super::{Args, GuestKind, Reset, prepare};

/// Refuses options that another one makes meaningless.
pub(super) fn options(args: &Args) -> Result<(), CommandError> {
    let linux = args.guest == GuestKind::Linux;
    let disk = args.disk_bus.is_some();
    let of_haiku = [
        (args.image.is_some(), "an image"),
        (args.state.is_some(), "`--state`"),
        (args.persist, "`--persist`"),
        (disk, "`--disk-bus`"),
        (args.goal.has_drivers(), "`--driver`"),
        (!args.goal.put.is_empty(), "`--put`"),
        (!args.goal.get.is_empty(), "`--get`"),
        (args.goal.test.is_some(), "`--test`"),
    ];
    let of_lines =
        [(args.goal.until.is_some(), "`--until`"), (!args.goal.fail.is_empty(), "`--fail`")];
    let of_linux = [(args.kernel.is_some(), "`--kernel`"), (args.dhcp, "`--dhcp`")];
    let allowed = &args.allowed;
    let of_cards = [
        (args.romfile.is_some(), "`--romfile`"),
        (args.reset.is_some(), "`--reset`"),
        (allowed.function, "`--function`"),
        (allowed.with_group, "`--with-group`"),
        (!allowed.allow.is_empty(), "`--allow`"),
        (allowed.force_unbind, "`--force-unbind`"),
    ];
    let given = |options: &[(bool, &'static str)]| {
        options.iter().find(|(given, _)| *given).map(|(_, option)| *option)
    };
    let usage = |message: String| Err(CommandError::new(Exit::Usage, message));
    if let (true, Some(option)) = (linux, given(&of_haiku)) {
        return usage(format!("{option} is for Haiku: the reference guest has no disk"));
    }
    if let (true, Some(option)) = (linux, given(&of_lines)) {
        return usage(format!("{option} is for Haiku: the reference guest reports by itself"));
    }
    if let (false, Some(option)) = (linux, given(&of_linux)) {
        return usage(format!("{option} is for the reference guest, `--guest linux`"));
    }
    if let (true, Some(option)) = (args.device.is_empty(), given(&of_cards)) {
        return usage(format!("{option} needs a card of this host, `--device`"));
    }
    if !linux && args.image.is_none() {
        return Err(CommandError::new(Exit::Usage, "an image is missing")
            .hint("`kireji run IMAGE` starts Haiku from an image")
            .hint("`kireji run --guest linux --device ADDRESS` needs none"));
    }
    let mut ports: Vec<_> =
        args.forward.iter().map(|forward| forward.host).filter(|port| *port != 0).collect();
    ports.sort_unstable();
    if let Some(port) = args.gdb.filter(|port| ports.contains(port)) {
        return usage(format!("`--forward` and `--gdb` both ask for port {port}"));
    }
    match ports.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => usage(format!("`--forward` leads port {} to two places", pair[0])),
        None => Ok(()),
    }
}

/// Finds out whether the host has what the run is to use, with the rights of whoever QEMU will run
/// as. What a captured host had cannot be asked.
pub(super) fn host(
    args: &Args,
    context: &Context<'_>,
    guest: &dyn Guest,
    user: Option<&User>,
) -> Result<(), CommandError> {
    guest.check().map_err(prepare::error)?;
    for device in &args.usb {
        usb(context.host, *device)?;
    }
    if !context.writable {
        return Ok(());
    }
    for device in &args.input {
        as_user(user, || input(device)).map_err(|error| denied(error, user))??;
    }
    for port in args.forward.iter().map(|forward| forward.host).filter(|port| *port != 0) {
        let (fails, hint) = ("cannot lead to the guest", "`--forward`, or 0 for any free one");
        as_user(user, || listen(port, fails, hint)).map_err(|error| denied(error, user))??;
    }
    if let Some(port) = args.gdb {
        let (fails, hint) = ("cannot be QEMU's stub for gdb", "`--gdb=PORT`");
        as_user(user, || listen(port, fails, hint)).map_err(|error| denied(error, user))??;
    }
    Ok(())
}

/// The error of a user that this process may not become.
pub(in crate::command) fn denied(error: io::Error, user: Option<&User>) -> CommandError {
    let uid = user.map(|user| user.uid).unwrap_or_default();
    let failure = io::Error::other(format!("cannot become user {uid}: {error}"));
    CommandError::from_source(Exit::Permission, failure)
}

/// The error of a file that the user named.
pub(super) fn file(what: &str, path: &Path, source: io::Error) -> CommandError {
    let exit = match source.kind() {
        io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Usage,
    };
    let source = host::ReadError { path: path.to_owned(), source };
    CommandError::from_source(exit, source).hint(format!("`{what}` takes a file of this host"))
}

fn input(path: &Path) -> Result<(), CommandError> {
    let failed = |source| file("--input", path, source);
    if !std::fs::metadata(path).map_err(failed)?.file_type().is_char_device() {
        let message = format!("{} is no input device", path.display());
        return Err(CommandError::new(Exit::Usage, message)
            .hint("/dev/input/by-id lists those of this host"));
    }
    let access = Access::READ_OK | Access::WRITE_OK;
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)
        .map_err(|errno| file("--input", path, errno.into()))
}

/// Listens for a moment where QEMU will. If that does not work, the error says what the port `fails`
/// to be, and by what another is chosen.
fn listen(port: u16, fails: &str, choice: &str) -> Result<(), CommandError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::AddrInUse => Exit::Busy,
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::HostCannot,
        };
        CommandError::new(exit, format!("port {port} of this host {fails}"))
            .reason(error.to_string())
            .hint(format!("choose another with {choice}"))
    })
}

fn usb(host: &Sysroot, wanted: UsbDevice) -> Result<(), CommandError> {
    const DEVICES: &str = "/sys/bus/usb/devices";
    let id = |name: &str, id: &str| -> Option<u16> {
        u16::from_str_radix(&host.text(format!("{DEVICES}/{name}/{id}")).ok()?, 16).ok()
    };
    let names = host.optional_names(DEVICES)?;
    let is_wanted = |name: &String| {
        id(name, "idVendor") == Some(wanted.vendor) && id(name, "idProduct") == Some(wanted.product)
    };
    if names.iter().any(is_wanted) {
        return Ok(());
    }
    let message =
        format!("there is no USB device {:04x}:{:04x} on this host", wanted.vendor, wanted.product);
    Err(CommandError::new(Exit::Usage, message).hint("`lsusb` lists those that there are"))
}

/// There is no card whose resets could be limited.
pub(super) fn none_to_limit() -> CommandError {
    CommandError::new(Exit::Usage, "`--reset` needs a card that this run takes itself")
}

/// Finds out whether the kernel has the way of resetting for one of the functions.
pub(super) fn reset(
    host: &Sysroot,
    method: Option<Reset>,
    functions: &[Address],
) -> Result<(), CommandError> {
    let Some(name) = method.map(Reset::name).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let mut had = Vec::new();
    for function in functions {
        let path = format!("{}/reset_method", Function::path(*function));
        had.push((*function, host.optional_text(path)?.unwrap_or_default()));
    }
    if had.iter().any(|(_, methods)| methods.split_whitespace().any(|one| one == name)) {
        return Ok(());
    }
    let error = CommandError::new(
        Exit::HostCannot,
        format!("the kernel cannot reset the card in the way `{name}`"),
    );
    Err(had.iter().fold(error, |error, (function, methods)| {
        error.reason(match methods.is_empty() {
            true => format!("{function} tells of no way at all"),
            false => format!("{function} has: {}", methods.trim()),
        })
    }))
}
