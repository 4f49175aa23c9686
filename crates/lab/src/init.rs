//! The inside of a rig: what kireji does as its first process.
//!
//! It makes the rig ready (file systems, kernel modules, the tools disk), runs the command, sends
//! what the command writes through the channel, and powers the rig off. It is the only part of
//! this crate that runs inside a rig, and nothing of it may run anywhere else.

mod command;
mod prepare;

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::system::RebootCommand;
use rustix::termios::{OptionalActions, Winsize};

use crate::channel::{self, GREETING, Message};
use crate::plan::{PLAN_PATH, Plan};

/// The rig's end of the channel: its second serial port.
const CHANNEL: &str = "/dev/ttyS1";

/// The rig could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
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
    /// The plan is not one.
    #[error("{PLAN_PATH} is not a plan")]
    Plan(#[from] serde_json::Error),
    /// The disk with the tools did not appear.
    #[error("the tools disk {device} did not appear within {seconds} s")]
    NoDisk {
        /// The device file.
        device: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The command's output could not be followed.
    #[error("lost the command's output")]
    Output(#[source] io::Error),
    /// The rig could not be powered off.
    #[error("cannot power the rig off")]
    PowerOff(#[source] Errno),
}

/// Whether this process is the first process of a rig.
pub fn is_inside() -> bool {
    std::process::id() == 1 && Path::new(PLAN_PATH).exists()
}

/// Makes the rig ready, runs the command that the plan names, and powers the rig off. To be called
/// only where [`is_inside`] says so.
///
/// # Errors
/// The channel cannot be opened or the rig cannot be powered off; other failures go through the
/// channel. The process then ends, the kernel panics, and the rig with it.
pub fn run() -> Result<Infallible, InitError> {
    prepare::kernel_file_systems()?;
    let mut channel = open_channel()?;
    channel.write_all(GREETING).map_err(file_error(CHANNEL))?;
    if let Err(error) = follow_plan(&mut channel) {
        let message = Message::Failed(with_causes(&error));
        channel::write(&mut channel, &message).map_err(file_error(CHANNEL))?;
    }
    rustix::termios::tcdrain(&channel).map_err(|errno| file_error(CHANNEL)(errno.into()))?;
    rustix::system::reboot(RebootCommand::PowerOff).map_err(InitError::PowerOff)?;
    unreachable!("reboot(2) does not return when it powers off");
}

fn follow_plan(channel: &mut File) -> Result<(), InitError> {
    let bytes = std::fs::read(PLAN_PATH).map_err(file_error(PLAN_PATH))?;
    let plan: Plan = serde_json::from_slice(&bytes)?;
    prepare::modules()?;
    if plan.tools {
        prepare::tools_disk()?;
    }
    prepare::loopback();
    channel::write(channel, &Message::Started).map_err(file_error(CHANNEL))?;
    match plan.terminal {
        None => command::run(&plan, channel),
        Some(terminal) => {
            let size = Winsize {
                ws_row: terminal.rows,
                ws_col: terminal.columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            command::run_on_terminal(&plan, channel, size)
        }
    }
}

/// Opens the channel so that bytes pass as they are.
fn open_channel() -> Result<File, InitError> {
    let failed = |errno: Errno| file_error(CHANNEL)(errno.into());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let port = rustix::fs::open(CHANNEL, flags, Mode::empty()).map_err(failed)?;
    let mut settings = rustix::termios::tcgetattr(&port).map_err(failed)?;
    settings.make_raw();
    settings.set_speed(115_200).map_err(failed)?;
    rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings).map_err(failed)?;
    Ok(File::from(port))
}

fn file_error(path: impl Into<String>) -> impl FnOnce(io::Error) -> InitError {
    let path = path.into();
    move |source| InitError::File { path, source }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
