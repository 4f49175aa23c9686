//! The reference guest.

use std::path::{Path, PathBuf};

use host::Sysroot;

use super::{Guest, Observer, PrepareError, Wants};
use crate::linux::{self, Boot, BootError, Nonce};
use crate::machine;

/// The reference guest for some functions.
#[derive(Debug)]
pub struct Linux {
    boot: Boot,
    nonce: Nonce,
    functions: usize,
}

impl Linux {
    /// Puts the guest together.
    ///
    /// # Errors
    /// As [`linux::prepare`].
    pub fn new(host: &Sysroot, request: linux::Request<'_>) -> Result<Self, BootError> {
        let boot = linux::prepare(host, request)?;
        Ok(Self { boot, nonce: request.nonce.clone(), functions: request.functions.len() })
    }
}

impl Guest for Linux {
    fn name(&self) -> &'static str {
        "linux"
    }

    fn wants(&self) -> Wants {
        Wants {
            memory_mib: self.boot.memory_mib,
            cpus: 1,
            // It knows no hurry.
            counted_clock: true,
            // Only a panic reboots it.
            may_reboot: false,
            screen: false,
            // It carries the report, which is for kireji.
            serial: false,
            // Of networks it looks at those of the cards alone.
            network: false,
            ssh: None,
            power_down: None,
        }
    }

    fn boot(&self, directory: &Path) -> machine::Boot {
        self.boot.of(directory)
    }

    fn prepare(&self, directory: &Path) -> Result<Vec<PathBuf>, PrepareError> {
        self.boot.write(directory)?;
        Ok(self.boot.files(directory))
    }

    fn leftovers(&self, directory: &Path) -> Vec<PathBuf> {
        // Tens of megabytes that can be made again from the host's own files.
        self.boot.files(directory)
    }

    fn observer(&self) -> Box<dyn Observer> {
        Box::new(linux::Observer::new(self.nonce.clone(), self.functions))
    }
}
