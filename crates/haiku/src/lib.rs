//! Haiku, as far as it can be known from the host: what its disk images are, what is in its
//! packages, whether its kernel would load a driver, what its serial line says, and what became of
//! it when it panicked.
//!
//! Everything here reads bytes of files that a person was given by somebody else. The crate knows
//! nothing of VFIO and of QEMU's command line; it must never depend on a crate above `host`, `pci`
//! and `bfs`. Only [`install`] writes, to a volume that it is given.

pub mod crash;
pub mod driver;
pub mod first_boot;
pub mod hpkg;
pub mod image;
pub mod install;
pub mod kdl;
pub mod loading;
pub mod login;
pub mod packages;
pub mod project;
pub mod serial;
pub mod symbols;
pub mod test_run;
pub mod tree;
