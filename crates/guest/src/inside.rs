//! What kireji does as the first process of a virtual machine, whatever it is there for: a rig of
//! the lab, or the reference guest.
//!
//! Nothing of this may run anywhere else: it mounts, loads modules and powers off.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;
use rustix::termios::OptionalActions;

use crate::initramfs::{MODULES_DIR, MODULES_LIST};

/// The machine could not be made ready or ended.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// A file system could not be mounted.
    #[error("cannot mount {target}")]
    Mount {
        /// Where it was to be mounted.
        target: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A file could not be opened, read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The machine could not be powered off.
    #[error("cannot power the machine off")]
    PowerOff(#[source] Errno),
}

impl InsideError {
    /// Returns what makes an error about `path` out of what the operating system said.
    pub fn file<E: Into<io::Error>>(path: impl Into<String>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::File { path, source: source.into() }
    }
}

/// A file system of the kernel's: where it goes, its type, and its options.
pub type Mount = (&'static str, &'static str, Option<&'static CStr>);

/// The file systems without which nothing can be done.
pub const FILE_SYSTEMS: [Mount; 3] =
    [("/proc", "proc", None), ("/sys", "sysfs", None), ("/dev", "devtmpfs", None)];

/// Whether this is the first process of a machine whose initramfs has the file `plan`.
pub fn is_first_with(plan: &str) -> bool {
    std::process::id() == 1 && Path::new(plan).exists()
}

/// Mounts file systems of the kernel's; the directories are made where they are missing.
///
/// # Errors
/// One cannot be mounted.
pub fn mount(mounts: &[Mount]) -> Result<(), InsideError> {
    for &(target, kind, options) in mounts {
        let failed = |source| InsideError::Mount { target, source };
        match rustix::fs::mkdir(target, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        rustix::mount::mount(kind, target, kind, MountFlags::empty(), options).map_err(failed)?;
    }
    Ok(())
}

/// Opens a serial port so that bytes pass as they are.
///
/// # Errors
/// There is no such port, or it cannot be set up.
pub fn open_serial(path: &str) -> Result<File, InsideError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || -> Result<File, Errno> {
        let port = rustix::fs::open(path, flags, Mode::empty())?;
        let mut settings = rustix::termios::tcgetattr(&port)?;
        settings.make_raw();
        settings.set_speed(115_200)?;
        rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings)?;
        Ok(File::from(port))
    };
    open().map_err(InsideError::file(path))
}

/// Loads the modules that came in the initramfs, with the parameters that `parameters` has for
/// each, and returns those that the kernel refused. One that is there already is not an error.
///
/// # Errors
/// The list cannot be read.
pub fn load_modules(
    parameters: impl Fn(&str) -> &'static CStr,
) -> Result<Vec<(String, Errno)>, InsideError> {
    let list = Path::new("/").join(MODULES_LIST);
    let list = std::fs::read_to_string(&list).map_err(InsideError::file(list.to_string_lossy()))?;
    let mut refused = Vec::new();
    for file in list.lines() {
        let path = Path::new("/").join(MODULES_DIR).join(file);
        let name = file.strip_suffix(".ko").unwrap_or(file);
        let loaded = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::system::finit_module(file, parameters(name), 0));
        match loaded {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => refused.push((name.to_owned(), errno)),
        }
    }
    Ok(refused)
}

/// Writes a line to the kernel's log, which is kept outside the machine. Where even that fails
/// there is nobody left to tell.
pub fn note(line: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        drop(writeln!(log, "kireji: {line}"));
    }
}

/// Ends the machine.
///
/// # Errors
/// The kernel refuses.
pub fn power_off() -> Result<Infallible, InsideError> {
    rustix::system::reboot(RebootCommand::PowerOff).map_err(InsideError::PowerOff)?;
    unreachable!("reboot(2) does not return when it powers off");
}

/// Returns an error and its causes, as one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
