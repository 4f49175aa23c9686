//! The reference guest: the host's own Linux kernel with the card's own Linux driver.
//!
//! It answers whether passthrough works with a card at all. [`boot::prepare`] chooses the drivers
//! and builds the initramfs, in which kireji itself is the first process ([`init`]): it loads the
//! drivers, looks at what they made of the card, sends a [`report`] over the serial line and
//! powers the machine off. [`Observer`] follows the serial line outside.

pub mod boot;
mod choose;
mod command_line;
mod firmware;
mod image;
pub mod init;
mod line;
mod observer;
pub mod plan;
pub mod report;
mod verdict;

pub use boot::{Boot, BootError, KernelImage, Request, Wanted, prepare};
pub use observer::{Observer, Stage};
pub use plan::Nonce;
pub use verdict::{Outcome, Verdict};
