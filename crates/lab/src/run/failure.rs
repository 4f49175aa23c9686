//! What can go wrong with a rig, told with what QEMU and the rig's kernel said last.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use guest::initramfs::InitramfsError;
use guest::launch::Failure;
use host::RunError;

use crate::channel::ChannelError;
use crate::disk::DiskError;
use crate::rig::RigError;
use crate::tools::ToolsError;
use guest::kernel::KernelError;

/// How much of a log is read for an error, in bytes, and how many lines of it are told.
const TAIL_BYTES: u64 = 8192;
const TAIL_LINES: usize = 20;

/// A rig failed, rather than the command in it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The rig's description.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The lab's equipment.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The kernel for the rig.
    #[error("the rig has no kernel to boot")]
    Kernel(#[from] KernelError),
    /// The rig's initramfs.
    #[error("cannot build the rig's initramfs")]
    Initramfs(#[from] InitramfsError),
    /// The disk of one of its cards.
    #[error("cannot make a disk for the rig")]
    Disk(#[from] DiskError),
    /// No command was given.
    #[error("no command to run in the rig")]
    NoCommand,
    /// The rig wants QEMU inside, and the lab has no disk with one.
    #[error("the rig {rig} needs a disk with QEMU for its own guests, and the lab has none")]
    NoToolsDisk {
        /// The rig.
        rig: String,
    },
    /// A file of the run cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// QEMU cannot be asked what it can do.
    #[error("QEMU cannot be asked what it can do")]
    Ask(#[from] RunError),
    /// The launcher did not become QEMU.
    #[error("QEMU was not started")]
    Launch(#[source] Failure),
    /// QEMU's launcher, kireji itself, cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The launcher.
        program: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// QEMU lacks a device that the rig has.
    #[error("this QEMU has no device {device}")]
    NoDevice {
        /// The device.
        device: String,
    },
    /// The rig did not come up.
    #[error("the rig did not come up within {seconds} s; its kernel said last:\n{tail}")]
    BootTimeout {
        /// How long it was waited for.
        seconds: u64,
        /// The end of the kernel's log.
        tail: String,
    },
    /// QEMU ended before the command did.
    #[error("the rig ended before its command {}:\n{tail}", if *greeted { "did" } else { "began" })]
    Ended {
        /// Whether kireji had come up inside.
        greeted: bool,
        /// What QEMU and the kernel said last.
        tail: String,
    },
    /// The command took too long.
    #[error("the command did not end within {seconds} s")]
    TimeLimit {
        /// How long it may take.
        seconds: u64,
    },
    /// Something went wrong inside, before or around the command.
    #[error("inside the rig: {reason}")]
    Inside {
        /// What.
        reason: String,
    },
    /// The channel does not carry what it should.
    #[error("the channel to the rig is broken")]
    Protocol(#[from] ChannelError),
    /// The channel cannot be read or written.
    #[error("the channel to the rig failed")]
    Channel(#[source] io::Error),
    /// The command's output cannot be passed on.
    #[error("cannot pass on the command's output")]
    Output(#[source] io::Error),
    /// The command's input cannot be read.
    #[error("cannot read the command's input")]
    Input(#[source] io::Error),
    /// The run was given up from outside.
    #[error("the rig was interrupted")]
    Cancelled,
    /// There is no terminal for a person to work with.
    #[error("a shell needs a terminal on standard input")]
    NoTerminal(#[source] io::Error),
    /// The rig has no shell.
    #[error("no shell for the rig: it needs a static busybox, and the lab has none")]
    NoShell,
}

impl LabError {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

/// Adds what QEMU (`log`) and the kernel (`console`) said last to an error that leaves it out.
pub(crate) fn explain(error: LabError, log: &Path, console: &Path) -> LabError {
    match error {
        LabError::Ended { greeted, .. } => {
            let qemu = tail(log);
            if let Some(device) = missing_device(&qemu) {
                return LabError::NoDevice { device };
            }
            let kernel = tail(console);
            let parts: Vec<String> = [qemu, kernel].into_iter().filter(|s| !s.is_empty()).collect();
            LabError::Ended { greeted, tail: parts.join("\n") }
        }
        LabError::BootTimeout { seconds, .. } => {
            LabError::BootTimeout { seconds, tail: tail(console) }
        }
        other => other,
    }
}

/// QEMU's words: `'NAME' is not a valid device model name`.
fn missing_device(said: &str) -> Option<String> {
    let (before, _) = said.split_once("' is not a valid device model name")?;
    Some(before.rsplit('\'').next()?.to_owned())
}

/// The last lines of a file, without the bytes that would move the cursor.
fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let plain = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> =
        text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (log, console) = (dir.path().join("log"), dir.path().join("console"));
        let ended = || LabError::Ended { greeted: false, tail: String::new() };
        std::fs::write(&log, "qemu: -device nvme: no such bus\n").unwrap();
        std::fs::write(&console, "one\n\x1b[31mtwo\r\n").unwrap();
        assert_eq!(
            explain(ended(), &log, &console).to_string(),
            "the rig ended before its command began:\n\
             qemu: -device nvme: no such bus\none\n[31mtwo"
        );
        std::fs::write(&log, "qemu: -device edx: 'edx' is not a valid device model name\n")
            .unwrap();
        assert_eq!(explain(ended(), &log, &console).to_string(), "this QEMU has no device edx");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let text: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, text).unwrap();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 9999"));
    }
}
