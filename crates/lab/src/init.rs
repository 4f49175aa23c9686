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

use guest::inside::{self, InsideError, with_causes};
use rustix::termios::Winsize;

use crate::channel::{self, GREETING, Message};
use crate::plan::{PLAN_PATH, Plan};

/// The rig's end of the channel: its second serial port.
const CHANNEL: &str = "/dev/ttyS1";

/// The rig could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The machine could not be made ready or ended.
    #[error(transparent)]
    Machine(#[from] InsideError),
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
}

/// Whether this process is the first process of a rig.
pub fn is_inside() -> bool {
    inside::is_first_with(PLAN_PATH)
}

/// Makes the rig ready, runs the command that the plan names, and powers the rig off. To be called
/// only where [`is_inside`] says so.
///
/// # Errors
/// The channel cannot be opened or the rig cannot be powered off; other failures go through the
/// channel. The process then ends, the kernel panics, and the rig with it.
pub fn run() -> Result<Infallible, InitError> {
    prepare::kernel_file_systems()?;
    let mut channel = inside::open_serial(CHANNEL)?;
    channel.write_all(GREETING).map_err(file_error(CHANNEL))?;
    if let Err(error) = follow_plan(&mut channel) {
        let message = Message::Failed(with_causes(&error));
        channel::write(&mut channel, &message).map_err(file_error(CHANNEL))?;
    }
    rustix::termios::tcdrain(&channel).map_err(file_error(CHANNEL))?;
    Ok(inside::power_off()?)
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

fn file_error<E: Into<io::Error>>(path: &str) -> impl FnOnce(E) -> InitError {
    let wrap = InsideError::file(path);
    move |source| InitError::Machine(wrap(source))
}
