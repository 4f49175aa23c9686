//! Giving a card away at boot: what a host boots with, and what to change there so that vfio-pci
//! has the card before its own driver does.
//!
//! - [`config`] reads and edits what says how a kernel is started;
//! - [`image`] opens what a boot loader loads: initramfs images and unified kernel images.
//!
//! This crate may depend on the seams to the machine and on what is known of PCI. It must never
//! know of VFIO at run time, of QEMU or of guests.

pub mod apply;
pub mod boot;
pub mod by_hand;
pub mod config;
pub mod generator;
pub mod goal;
pub mod hook;
pub mod image;
pub mod parameters;
pub mod plan;
pub mod proof;
pub mod reservation;
