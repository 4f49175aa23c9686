//! What a rig is: its description in TOML, read and checked.

mod check;
mod device;
mod shipped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};
use serde::Deserialize;

pub use check::RigProblem;
pub use device::{Backend, Device, Disk};
pub use shipped::{SHIPPED, Shipped};

/// A rig could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// No rig of this name ships with kireji, and no file of this name exists.
    #[error("no rig {name:?}: it is neither one of {} nor a file", names(SHIPPED))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("the rig cannot be read")]
    Read(#[from] ReadError),
    /// The file is not a rig: not TOML, an unknown key, a value of the wrong kind.
    #[error("{name} is not a rig")]
    Malformed {
        /// The rig's name or file.
        name: String,
        /// What is wrong, with its line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The rig cannot be built as described.
    #[error("the rig {name} cannot be built")]
    Impossible {
        /// The rig's name or file.
        name: String,
        /// Why.
        #[source]
        source: RigProblem,
    },
}

fn names(rigs: &[Shipped]) -> String {
    rigs.iter().map(|rig| rig.name).collect::<Vec<_>>().join(", ")
}

/// What a rig file may hold, in bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// A virtual machine with an IOMMU and cards.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rig {
    /// Its name: that of the shipped rig, or of the file without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// Which IOMMU it has.
    pub iommu: Iommu,
    /// Whether the IOMMU remaps interrupts.
    #[serde(default = "yes")]
    pub interrupt_remapping: bool,
    /// Memory, in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u32,
    /// Processors.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// What is added to the kernel's command line.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
    /// The kernel to boot, rather than the lab's or the host's. Its modules are looked for beside
    /// it and in `/lib/modules`.
    #[serde(default)]
    pub kernel: Option<PathBuf>,
    /// Kernel modules to load beyond those that the cards and VFIO need.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Whether the rig gets the disk with QEMU, firmware and a kernel for guests of its own.
    #[serde(default)]
    pub qemu: bool,
    /// How long it may take to come up, in seconds.
    #[serde(default = "default_boot_limit")]
    pub boot_limit_s: u32,
    /// How long a command may take once it is up, in seconds.
    #[serde(default = "default_time_limit")]
    pub time_limit_s: u32,
    /// The ports and bridges, each after the one it is behind.
    #[serde(default, rename = "bridge")]
    pub bridges: Vec<Bridge>,
    /// The cards.
    #[serde(default, rename = "card")]
    pub cards: Vec<Card>,
}

/// The kind of IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Iommu {
    /// Intel VT-d (ACPI table DMAR).
    Intel,
    /// AMD-Vi (ACPI table IVRS).
    Amd,
    /// None at all.
    None,
}

/// A port or bridge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bridge {
    /// The name by which others are put behind it.
    pub name: String,
    /// What it is.
    pub kind: BridgeKind,
    /// Whether a root port has ACS, so that what is behind it is isolated.
    #[serde(default = "yes")]
    pub acs: bool,
    /// The bridge it is behind; without it, the root complex.
    #[serde(default)]
    pub behind: Option<String>,
    /// Its device and function number on its bus, `DD.F` in hexadecimal.
    #[serde(default)]
    pub address: Option<Slot>,
}

/// The kind of a port or bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeKind {
    /// A root port of the root complex.
    RootPort,
    /// A bridge from PCI Express to conventional PCI.
    PcieToPci,
    /// The port of a switch towards the root.
    UpstreamPort,
    /// A port of a switch towards the cards.
    DownstreamPort,
}

/// A card: one of QEMU's emulated devices.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Card {
    /// QEMU's name for the device, such as `edu` or `e1000e`.
    pub device: String,
    /// The bridge it is behind; without it, the root complex.
    #[serde(default)]
    pub behind: Option<String>,
    /// Its device and function number on its bus, `DD.F` in hexadecimal.
    #[serde(default)]
    pub address: Option<Slot>,
    /// Whether this is function 0 of a device that has more.
    #[serde(default)]
    pub multifunction: bool,
    /// What a disk card's disk holds.
    #[serde(default)]
    pub disk: Disk,
    /// Further properties of QEMU's device.
    #[serde(default)]
    pub options: BTreeMap<String, Value>,
}

/// The value of a device property.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `on` or `off`.
    Switch(bool),
    /// A number.
    Number(i64),
    /// Anything else.
    Text(String),
}

/// A device and function number on a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Slot {
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}.{}", self.device, self.function)
    }
}

impl TryFrom<String> for Slot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (device, function) = text.split_once('.')?;
            let hex = |digits: &str| {
                let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                (plain && (1..=2).contains(&digits.len()))
                    .then(|| u8::from_str_radix(digits, 16).ok())
                    .flatten()
            };
            let slot = Slot { device: hex(device)?, function: hex(function)? };
            (slot.device < 32 && slot.function < 8).then_some(slot)
        };
        parse().ok_or_else(|| format!("{text:?} is not an address on a bus, such as \"04.0\""))
    }
}

fn yes() -> bool {
    true
}

fn default_memory() -> u32 {
    512
}

fn default_cpus() -> u32 {
    2
}

// A rig comes up in three seconds on an idle host; a minute was seen with seven of them on each of
// two processors.
fn default_boot_limit() -> u32 {
    300
}

fn default_time_limit() -> u32 {
    120
}

impl Rig {
    /// Reads and checks a rig's description. `name` is used in errors and as the rig's name.
    ///
    /// # Errors
    /// The text is not a rig, or describes one that cannot be built.
    pub fn parse(name: &str, text: &str) -> Result<Self, RigError> {
        let mut rig: Self = toml::from_str(text).map_err(|source| RigError::Malformed {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        name.clone_into(&mut rig.name);
        check::check(&rig)
            .map_err(|source| RigError::Impossible { name: name.to_owned(), source })?;
        Ok(rig)
    }

    /// Returns the shipped rig of this name, or reads the file. A word without a slash that names
    /// a shipped rig means that rig.
    ///
    /// # Errors
    /// There is neither, or the file is not a rig that can be built.
    pub fn find(host: &Sysroot, name: &str) -> Result<Self, RigError> {
        if let Some(shipped) = SHIPPED.iter().find(|rig| rig.name == name) {
            return Self::parse(shipped.name, shipped.text);
        }
        let path = std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name));
        match host.read_limited(&path, FILE_LIMIT) {
            Ok(bytes) => Self::parse(&stem(&path), &String::from_utf8_lossy(&bytes)),
            Err(error) if error.is_absent() => Err(RigError::Unknown { name: name.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_rig_is_one() {
        for shipped in SHIPPED {
            let rig = Rig::parse(shipped.name, shipped.text).unwrap();
            assert!(!rig.description.is_empty());
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let text = "description = \"x\"\niommu = \"intel\"\nmemroy-mib = 4\n";
        let error = Rig::parse("mine", text).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 3"), "{source}");
        assert!(source.contains("memroy-mib"), "{source}");
    }

    #[test]
    fn a_bad_address_is_an_error_with_its_line() {
        let text = "description = \"x\"\niommu = \"none\"\n[[card]]\ndevice = \"edu\"\naddress = \"20.0\"\n";
        let error = Rig::parse("mine", text).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 5"), "{source}");
    }

    #[test]
    fn slots_are_hexadecimal() {
        let slot = |text: &str| Slot::try_from(text.to_owned());
        assert_eq!(slot("1e.7"), Ok(Slot { device: 0x1e, function: 7 }));
        assert_eq!(slot("4.0").unwrap().to_string(), "04.0");
        for bad in ["", "4", "4.8", "20.0", "+4.0", "004.0", "4.", "0x4.0"] {
            assert!(slot(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rig_that_is_nowhere_is_named() {
        let host = Sysroot::host().unwrap();
        let error = Rig::find(&host, "/nonexistent/rig.toml").unwrap_err();
        assert!(matches!(error, RigError::Unknown { .. }));
        assert!(error.to_string().contains("intel"), "{error}");
    }
}
