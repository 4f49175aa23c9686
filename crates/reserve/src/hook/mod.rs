//! What runs at boot, before udev: a function in POSIX shell that acts on the list of reservations.
//!
//! Each initramfs generator calls it in its own way, and none gives it more than a shell, `echo`,
//! `read`, `readlink` and `modprobe`.

/// The function `kireji_reserve`, which takes the list and a root directory.
pub const FUNCTION: &str = include_str!("reserve.sh");

#[cfg(test)]
mod tests;
