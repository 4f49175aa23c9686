//! From what is wanted to an exact command line.
//!
//! [`plan`] is a pure function: the same request, capabilities and firmware files give the same
//! arguments, and with them the topology that QEMU must then report.
//!
//! The machine is a q35. Emulated parts sit on the root bus at fixed device numbers; each device
//! with a PCI Express link, a card of the host or one of QEMU's own, has a root port of its own,
//! and conventional cards share a bridge behind one. QEMU's control channel is its standard input
//! and the serial line its standard output, both of them sockets.

mod arguments;
mod builder;
mod devices;
mod error;
mod firmware;
mod note;
mod parts;
mod request;
mod screen;
mod topology;

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

pub use error::PlanError;
pub use note::{FirmwareReason, Note, Posted};
pub use request::{
    Accelerator, Boot, Card, Disk, DiskBus, Display, Emulated, FirmwareKind, Forward, Function,
    Network, Request, Rom, RomFile, UsbDevice,
};
pub use topology::{Misplaced, Placed, Topology};

use crate::qemu::{Capabilities, Firmware};
use builder::Builder;

/// A machine that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The QEMU binary.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where each function that was asked for sits.
    pub topology: Topology,
    /// Files that must be made before the start.
    pub files: Vec<NewFile>,
    /// Files that must be open in QEMU, under these descriptors, when it starts.
    pub descriptors: Vec<Descriptor>,
    /// Memory in bytes that QEMU locks, if any: with a card, all of the guest's.
    pub locked_memory: Option<u64>,
    /// Ports of the loopback interface that lead to the guest.
    pub forwards: Vec<Forward>,
    /// What a person should know.
    pub notes: Vec<Note>,
}

/// A file that belongs to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewFile {
    /// A copy.
    Copy {
        /// What is copied.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
    },
    /// A file of zeros that takes no room.
    Zeros {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
}

/// A file opened for QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The file, opened for reading and writing.
    pub path: PathBuf,
    /// The number of its descriptor in QEMU.
    pub number: RawFd,
}

/// The descriptor of QEMU's control channel: standard input, for a child gets it without any code
/// between fork and exec.
pub const CONTROL_FD: RawFd = 0;
/// The descriptor of the serial line: standard output, for the same reason.
pub const SERIAL_FD: RawFd = 1;

/// Smallest memory that any guest of ours starts in, and the largest that is believed, in MiB.
const MEMORY: (u64, u64) = (32, 4 << 20);
/// Most processors of a q35 machine (hw/i386/pc_q35.c of QEMU, `max_cpus` since version 2.7).
const CPUS: (u64, u64) = (1, 288);

/// Makes the command line for a request.
///
/// # Errors
/// The request contradicts itself, or this QEMU or its firmware cannot fulfil it.
pub fn plan(
    request: &Request,
    qemu: &Capabilities,
    firmware: &Firmware,
) -> Result<Machine, PlanError> {
    in_range("memory in MiB", request.memory_mib, MEMORY)?;
    in_range("the number of processors", request.cpus.into(), CPUS)?;
    let choice = firmware::choose(request, firmware)?;
    let mut builder = Builder::new(request, qemu);
    builder.note(Note::Firmware(choice.kind, choice.reason));
    builder.board(choice.uefi);
    builder.channels();
    builder.boot()?;
    builder.screen(choice.kind)?;
    builder.network();
    builder.sound();
    builder.devices()?;
    builder.usb();
    builder.finish()
}

fn in_range(what: &'static str, given: u64, (least, most): (u64, u64)) -> Result<(), PlanError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(PlanError::OutOfRange { what, least, most, given })
}
