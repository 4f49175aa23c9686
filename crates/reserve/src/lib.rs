//! Giving a card away at boot: what a host boots with, and what to change there so that vfio-pci
//! has the card before its own driver does.
//!
//! - [`boot`] tells by evidence what is booted, who built it, who placed it and who started it;
//! - [`config`] reads and edits what says how a kernel is started;
//! - [`image`] opens what a boot loader loads: initramfs images and unified kernel images;
//! - [`generator`] and [`parameters`] have a file for each program that builds images, and for each
//!   place that kernel parameters come from;
//! - [`goal`] plans, [`apply`] carries out and takes back, [`proof`] reads what was built, and
//!   [`built`] compares it with what was built before.
//!
//! This crate may depend on the seams to the machine and on what is known of PCI. It must never
//! know of VFIO at run time, of QEMU or of guests.

pub mod apply;
pub mod boot;
pub mod built;
pub mod by_hand;
pub mod config;
pub mod generator;
pub mod goal;
pub mod hook;
pub mod image;
pub mod instructions;
pub mod parameters;
pub mod plan;
pub mod proof;
pub mod rescue;
pub mod reservation;
pub mod risk;
pub mod trial;

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
