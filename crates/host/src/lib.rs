//! The seams between kireji and the machine.
//!
//! Every effect passes through one of three seams, so that nearly everything above can be tested
//! without root, hardware or a second machine:
//!
//! - [`Sysroot`]: every file of the host is read below one root, live or captured;
//! - [`Runner`]: every program is started as an argument vector, never through a shell;
//! - [`Clock`]: time is asked for, never taken.
//!
//! Beside them stand what every writer needs: [`atomic`] file replacement, the [`journal`] that
//! lets a killed process be cleaned up after, and [`Owner`], which tells whether the process that
//! wrote a journal is provably gone.
//!
//! This crate is the lowest of the workspace. It must never depend on another of its crates, and
//! knows nothing of PCI, VFIO, QEMU or Haiku.

mod above;
pub mod atomic;
mod clock;
pub mod command_line;
pub mod journal;
mod measured;
pub mod modules;
mod owner;
mod runner;
mod sysroot;

pub use above::{Above, above};
pub use clock::{Clock, SystemClock};
pub use journal::Journal;
pub use measured::Measured;
pub use owner::Owner;
pub use runner::{Finished, Program, RunError, Runner, SystemRunner, attach, is_held};
pub use sysroot::{
    ArchiveError, DeviceNumber, Directory, MANIFEST, Manifest, Node, NodeKind, ReadError, Record,
    Sysroot, pack,
};
