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
pub(crate) use locate::{Identity, read as read_cached};
pub use probe::probe;

/// The QEMU that tests run: the one in `KIREJI_QEMU`, or the one in `PATH`.
#[cfg(test)]
pub(crate) fn for_tests() -> std::path::PathBuf {
    let explicit = std::env::var_os("KIREJI_QEMU").map(std::path::PathBuf::from);
    locate(explicit.as_deref(), std::env::var_os("PATH").as_deref()).expect("tests need a QEMU")
}
