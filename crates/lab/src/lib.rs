//! Rigs: virtual machines with an IOMMU and cards, on which everything can be tried that a real
//! machine would be needed for.
//!
//! A [`rig::Rig`] is described in TOML. [`run::run`] boots it under QEMU from a kernel and an
//! initramfs that holds kireji itself, runs a command in it and returns its output and exit code;
//! [`shell::shell`] gives a person a shell there. Inside, kireji is the first process ([`init`]).
//!
//! This crate knows how a rig is built and booted. It must never depend on how a card is taken:
//! the rigs are there to try that, whatever it is.

pub mod arguments;
pub mod assemble;
pub mod channel;
pub mod disk;
pub mod init;
pub mod plan;
pub mod rig;
pub mod run;
pub mod shell;
mod spawn;
pub mod system;
pub mod tools;
