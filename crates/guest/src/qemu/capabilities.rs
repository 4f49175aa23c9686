//! What a QEMU binary can do, as plain data.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::QemuError;

/// What is read of a file of capabilities at most, in bytes; one holds about ten kilobytes.
const LIMIT: u64 = 4 << 20;

/// A version of QEMU. It is shown to people and decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch level.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// What a QEMU binary answered when it was asked what it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// The binary.
    pub executable: PathBuf,
    /// Its version.
    pub version: Version,
    /// Names and aliases for `-machine`.
    pub machines: BTreeSet<String>,
    /// Names for `-accel`.
    pub accelerators: BTreeSet<String>,
    /// Device types that sit on a PCI Express link.
    pub pci_express: BTreeSet<String>,
    /// Device types that sit on a conventional PCI bus; some are in both sets.
    pub pci_conventional: BTreeSet<String>,
    /// Device types that are no PCI functions.
    pub other_devices: BTreeSet<String>,
    /// PCI device types that take a network back end (`netdev`).
    pub network_devices: BTreeSet<String>,
    /// PCI device types that take a block back end (`drive`).
    pub drive_devices: BTreeSet<String>,
    /// Properties of `vfio-pci`.
    pub vfio_properties: BTreeSet<String>,
    /// Types for `-object`.
    pub objects: BTreeSet<String>,
    /// Kinds of `-netdev`.
    pub netdevs: BTreeSet<String>,
    /// Kinds of `-display`; `vnc` among them where it is built in.
    pub displays: BTreeSet<String>,
    /// Kinds of `-audiodev`.
    pub audiodevs: BTreeSet<String>,
}

impl Capabilities {
    /// Reads capabilities from a file, in place of asking a binary.
    ///
    /// # Errors
    /// The file cannot be read or does not hold capabilities.
    pub fn load(path: &Path) -> Result<Self, QemuError> {
        let unreadable = |source| QemuError::Load { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.into()))
    }

    /// Whether `-device model` is known.
    pub fn has_device(&self, model: &str) -> bool {
        self.is_pci(model) || self.other_devices.contains(model)
    }

    /// Whether `model` is a PCI function of either kind.
    pub fn is_pci(&self, model: &str) -> bool {
        self.pci_express.contains(model) || self.pci_conventional.contains(model)
    }

    /// Whether VFIO devices can be used through iommufd, by descriptors that were opened for QEMU.
    pub fn has_iommufd(&self) -> bool {
        self.objects.contains("iommufd")
            && ["iommufd", "fd"].iter().all(|name| self.vfio_properties.contains(*name))
    }
}
