//! Giving a card away now: taking it from its driver, and driving it through VFIO.
//!
//! This crate holds all unsafe code of the project. It must never depend on anything of the
//! workspace but `host` and `pci`; it knows nothing of QEMU or of guests.

pub mod take;
