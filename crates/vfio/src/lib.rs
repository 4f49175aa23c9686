//! Giving a card away now: taking it from its driver, and driving it through VFIO.
//!
//! This crate holds all unsafe code of the project. It must never depend on anything of the
//! workspace but `host` and `pci`; it knows nothing of QEMU or of guests.
//!
//! [`take`] moves functions between their host driver and vfio-pci. The rest drives what is on
//! vfio-pci: an [`AddressSpace`] opens functions, a [`Device`] has regions, interrupts and resets,
//! and [`Memory`] is lent to it for DMA. Every failure is an [`Error`] that names the operation,
//! the function and what the kernel said; none is swallowed.
//!
//! Opening a function is not without effect: the kernel turns its bus mastering off and resets it
//! if it can, and does so again when it is closed.

mod capability;
mod device;
mod dma;
mod driver;
mod error;
#[cfg(test)]
mod fixture;
mod group;
mod interrupt;
mod region;
mod reset;
mod rom;
pub mod selftest;
mod space;
mod sys;
pub mod take;

pub use capability::Nonsense;
pub use device::Device;
pub use dma::{Access, Aperture, DmaMapping, IovaRange, Memory};
pub use driver::is_vfio;
pub use error::{Error, Result};
pub use group::{Blocker, Choice, Interface};
pub use interrupt::{Event, Interrupt, InterruptInfo};
pub use region::{Area, BAR0, CONFIG, MappedRegion, ROM, RegionInfo};
pub use reset::Dependent;
pub use space::{AddressSpace, is_group_viable};
pub use sys::Width;
