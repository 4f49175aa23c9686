//! The QEMU of this machine: where it is, what it can do, which firmware there is for it.
//!
//! The binary is asked, never judged by its version: distributions build QEMU with parts left out
//! or moved into packages of their own.

mod capabilities;
mod error;
mod family;
mod firmware;
mod locate;
mod probe;

pub use capabilities::{Capabilities, Version};
pub use error::QemuError;
pub use family::{Family, Part};
pub use firmware::{DiskFormat, Firmware, Uefi};
pub use locate::{Cache, locate};
pub use probe::probe;
