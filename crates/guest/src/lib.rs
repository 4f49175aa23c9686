//! A guest in QEMU: what the binary can do, the command line, the process and what it leaves.
//!
//! - [`qemu`] asks the binary what it can do and finds firmware;
//! - [`machine`] turns a request into an exact command line: a pure function;
//! - `qmp`, `serial` and `process` start QEMU and look after it;
//! - [`initramfs`] builds the archive that a Linux kernel starts from;
//! - `rundir` keeps what a run leaves behind;
//! - `diagnosis` turns QEMU's error lines into causes and remedies.
//!
//! The crate must never depend on `reserve`, `lab` or the command; it prints nothing and never
//! exits, but for `launch::exec`, which becomes QEMU.

pub mod initramfs;
pub mod kvm;
pub mod launch;
pub mod machine;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod rundir;
pub mod serial;
