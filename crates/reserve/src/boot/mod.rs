//! How this system boots, by what built and started it.
//!
//! That a program is installed proves nothing: Ubuntu keeps the files of initramfs-tools while dracut
//! builds its images. So the images themselves say who built them, and the firmware's variables and
//! the kernel's command line say who started them.

mod builder;
pub(crate) mod entries;
mod evidence;
mod kernels;
mod loader;
mod placer;

#[cfg(test)]
mod tests;

pub use builder::{Builder, of_image};
pub use entries::{Entry, EntryKind};
pub use evidence::{Clue, Verdict};
pub use kernels::Kernel;
pub use loader::Loader;
pub use placer::Placer;

use host::{ReadError, Sysroot};
use serde::Serialize;

/// How a host boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// The kernels that are installed.
    pub kernels: Vec<Kernel>,
    /// What a reboot could choose.
    pub entries: Vec<Entry>,
    /// Who builds the images.
    pub builder: Verdict<Builder>,
    /// Who started this system.
    pub loader: Verdict<Loader>,
    /// Who puts what is booted where the boot loader finds it.
    pub placer: Placer,
}

impl Boot {
    /// Reads how a host boots.
    ///
    /// # Errors
    /// A file that says it is there and cannot be read. An image that cannot be read makes its
    /// builder unmeasured.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let entries = entries::read(host)?;
        let kernels = kernels::read(host, &entries)?;
        Ok(Self {
            builder: builder::detect(host, &kernels, &entries),
            loader: loader::detect(host)?,
            placer: placer::detect(host, &kernels, &entries)?,
            kernels,
            entries,
        })
    }

    /// Whether GRUB takes its entries from files of the Boot Loader Specification.
    ///
    /// # Errors
    /// The menu cannot be read.
    pub fn grub_uses_bls(&self, host: &Sysroot) -> Result<bool, ReadError> {
        for menu in ["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"] {
            if let Some(text) = host.optional_text(menu)? {
                // GRUB 2.14's takes options; Fedora's had none.
                let is_it = |line: &str| line.split_whitespace().next() == Some("blscfg");
                return Ok(text.lines().any(is_it));
            }
        }
        Ok(false)
    }
}
