//! Tests of the crate from outside: command lines as they are, and as a real QEMU takes them; QEMU
//! as a process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accepted;
mod cases;
mod common;
mod diagnosis;
mod golden;
mod linux;
mod process;
