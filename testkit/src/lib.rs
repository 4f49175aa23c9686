//! What the tests of several crates share: hosts that exist only as files, a kernel over them, and
//! what is tried inside a rig.

pub mod acpi;
pub mod binutils;
pub mod boot;
pub mod corpus;
pub mod fake_guest;
pub mod fake_kernel;
pub mod image;
pub mod lspci;
pub mod only_root;
pub mod package;
pub mod rig;
pub mod rom_bytes;
pub mod trace;
pub mod tree;
