//! Which entries are of this system: partitions that boot loaders read may be shared with others,
//! whose entries are neither proved nor changed.

use host::{ReadError, Sysroot, command_line};

use super::Entry;
use crate::config::{entry, shell::Script};

/// What tells this system from another on the same machine.
pub(super) struct System {
    /// Its identifier (machine-id(5)), which its entries may have.
    machine: Option<String>,
    /// Its distribution (os-release(5)), which its unified images may have.
    distribution: Option<String>,
    /// The root that it runs from: an entry with the same one is its own, whatever else it says.
    root: Option<String>,
}

impl System {
    /// Reads what a host is.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub(super) fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let machine = host.optional_text("/etc/machine-id")?.map(|text| text.trim().to_owned());
        let is_id = |id: &String| id.len() == 32 && id.bytes().all(|one| one.is_ascii_hexdigit());
        let mut release = host.optional_text("/etc/os-release")?;
        if release.is_none() {
            release = host.optional_text("/usr/lib/os-release")?;
        }
        let running = host.optional_text("/proc/cmdline")?.unwrap_or_default();
        Ok(Self {
            machine: machine.filter(is_id),
            distribution: release.as_deref().and_then(distribution),
            root: command_line::value(&running, "root").map(str::to_owned),
        })
    }

    /// Whether an entry of the Boot Loader Specification says that it is of another system.
    pub(super) fn is_other_machine(&self, text: &str, found: &Entry) -> bool {
        let said = entry::values(text, "machine-id");
        self.is_other(self.machine.as_deref(), said.first().copied(), found)
    }

    /// Whether a unified image says so, by what it has of os-release(5).
    pub(super) fn is_other_distribution(&self, release: &str, found: &Entry) -> bool {
        let said = distribution(release);
        self.is_other(self.distribution.as_deref(), said.as_deref(), found)
    }

    fn is_other(&self, ours: Option<&str>, said: Option<&str>, found: &Entry) -> bool {
        let root = command_line::value(&found.options, "root");
        let has_our_root = root.is_some() && root == self.root.as_deref();
        matches!((ours, said), (Some(ours), Some(said)) if ours != said) && !has_our_root
    }
}

fn distribution(release: &str) -> Option<String> {
    Script::parse(release).value("ID")
}

/// Whether an entry starts a system at all: tests of the memory and network loaders are started as
/// kernels, too, but with neither an initramfs nor a root.
pub(super) fn is_started(found: &Entry) -> bool {
    !found.images.is_empty() || command_line::value(&found.options, "root").is_some()
}
