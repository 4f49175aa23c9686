//! What is in the machine: PCI functions, cards, IOMMU groups, and what they are called.
//!
//! Reading yields plain, serialisable data; everything that is decided from it is a pure function.
//! This crate must never write to the host, and never depend on anything of the workspace but
//! `host`.

mod address;
mod card;
mod class;
pub mod config;
pub mod doctor;
pub mod facts;
mod function;
mod holders;
mod host;
mod losses;
mod names;
pub mod refusal;
mod region;
pub mod rom;
pub mod scrub;
pub mod uses;

pub use address::{Address, Named, ParseAddressError};
pub use card::Card;
pub use class::Class;
pub use function::{DEVICES, Function, Ids};
pub use holders::{Holder, Holders};
pub use host::Host;
pub use losses::losses;
pub use names::{DATABASES, FunctionNames, Names, Source};
pub use region::{Region, RegionKind};
