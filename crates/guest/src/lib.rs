//! A guest in QEMU: what the binary can do, the command line, the process and what it leaves.
//!
//! - [`qemu`] asks the binary what it can do and finds firmware;
//! - [`machine`] turns a request into an exact command line: a pure function;
//! - [`overlay`] keeps the guest's writes out of the image;
//! - [`kernel`] finds a Linux kernel, [`initramfs`] builds the archive that it starts from, and
//!   [`inside`] is what kireji does as its first process;
//! - [`guests`] is what differs from one guest to another, and what a run of one means;
//! - [`host_log`] is what the host's kernel says of a card meanwhile;
//! - [`linux`] is the reference guest, the host's kernel with the card's own driver;
//! - [`qmp`], [`serial`] and [`process`] start QEMU and look after it;
//! - [`launch`] is the moment between kireji and QEMU, and [`kvm`] proves that a guest can run;
//! - [`door`] is how another process reaches a run that goes on, and [`login`] how a person gets into
//!   its guest;
//! - [`rundir`] keeps what a run leaves behind;
//! - [`diagnosis`] turns QEMU's error lines into causes and remedies.
//!
//! The crate must never depend on `reserve`, `lab` or the command; it prints nothing and never
//! exits, but for [`launch::exec`], which becomes QEMU.

pub mod diagnosis;
pub mod door;
pub mod guests;
pub mod host_log;
pub mod initramfs;
pub mod inside;
pub mod kernel;
pub mod kvm;
pub mod launch;
mod lines;
pub mod linux;
pub mod login;
pub mod machine;
pub mod overlay;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod rundir;
pub mod serial;

pub use guests::Guest;
