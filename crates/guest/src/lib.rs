//! guest

pub mod initramfs;
