//! The files that say what a kernel is started with, read and edited so that every byte that is
//! not ours stays.
//!
//! - [`words`] for kernel command lines;
//! - [`shell`] for files of assignments that a shell sources, such as `/etc/default/grub`;
//! - [`lines`] for `/etc/kernel/cmdline`;
//! - [`entry`] for entries of the Boot Loader Specification, and `loader.conf`;
//! - [`modprobe`] for what modprobe is told.

pub mod entry;
pub mod lines;
pub mod modprobe;
pub mod shell;
pub mod words;

pub use words::Change;
