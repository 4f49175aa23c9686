//! Haiku, as far as it can be known from the host: what its disk images are, what is in its
//! packages, whether its kernel would load a driver, and what its serial line says.
//!
//! Everything here reads bytes of files that a person was given by somebody else. The crate knows
//! nothing of VFIO and of QEMU's command line; it may depend on `bfs` and `host` alone, and writes
//! only to a disk that it was told to open for that ([`image::Disk`]).

pub mod driver;
pub mod hpkg;
pub mod image;
pub mod serial;
