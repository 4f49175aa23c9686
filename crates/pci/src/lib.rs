//! What is in the machine: PCI functions, cards, IOMMU groups, and what they are called.
//!
//! Reading yields plain, serialisable data; everything that is decided from it is a pure function.
//! This crate must never write to the host, and never depend on anything of the workspace but
//! `host`.

mod address;

pub use address::{Address, Named, ParseAddressError};
