//! One PCI function as sysfs shows it.

use std::path::{Path, PathBuf};

use host::{Directory, Measured, ReadError, Sysroot};
use serde::Serialize;

use crate::config::{CapabilityWalk, ConfigSpace};
use crate::{Address, Class};

/// Where sysfs lists the functions (`Documentation/ABI/testing/sysfs-bus-pci` of the kernel).
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// A vendor's or device's ids, the function's own or its subsystem's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ids {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// One PCI function: what it is and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its address.
    pub address: Address,
    /// Vendor and device id.
    pub ids: Ids,
    /// Subsystem ids; bridges have none.
    pub subsystem: Option<Ids>,
    /// Class code.
    pub class: Class,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Number of its IOMMU group. A group of VFIO's no-IOMMU mode is none.
    pub group: Option<u32>,
    /// The bridge directly above; `None` on a root bus.
    pub parent: Option<Address>,
    /// The physical function, if this is a virtual one.
    pub physical: Option<Address>,
}

impl Function {
    /// Returns the directory of a function in sysfs.
    pub fn path(address: Address) -> String {
        format!("{DEVICES}/{address}")
    }

    /// Whether its driver is one that keeps it for guests: the host does nothing with it.
    pub fn is_given_away(&self) -> bool {
        self.driver.as_deref().is_some_and(keeps_for_guests)
    }

    /// Reads one function.
    ///
    /// # Errors
    /// There is no such function, or sysfs cannot be read.
    pub fn read(host: &Sysroot, address: Address) -> Result<Self, ReadError> {
        Self::read_in(host, &host.directory(DEVICES)?, address)
    }

    /// Reads one function of `devices`, which is [`DEVICES`]. It costs one read, of its `uevent`,
    /// and three links: to its place in the device tree, its physical function and its group.
    pub(crate) fn read_in(
        host: &Sysroot,
        devices: &Directory<'_>,
        address: Address,
    ) -> Result<Self, ReadError> {
        let parent = parent(&devices.link(&address.to_string())?);
        let directory = host.directory(Self::path(address))?;
        let uevent = Uevent::read(&directory)?;
        let number = |attribute: &str| -> Result<u32, ReadError> {
            let text = directory.text(attribute)?;
            hex(&text).ok_or_else(|| malformed(address, attribute, &text))
        };
        let half = |attribute| number(attribute).map(low_half);
        let ids = match uevent.ids {
            Some(ids) => ids,
            None => Ids { vendor: half("vendor")?, device: half("device")? },
        };
        let subsystem = match uevent.subsystem {
            Some(ids) => ids,
            None => Ids { vendor: half("subsystem_vendor")?, device: half("subsystem_device")? },
        };
        let class = match uevent.class {
            Some(class) => class,
            None => Class(number("class")? & 0xff_ffff),
        };
        // A `uevent` with ids and without a driver is that of a function without one.
        let driver = match (uevent.driver, uevent.ids) {
            (None, None) => directory.link_name("driver")?,
            (driver, _) => driver,
        };
        let physical = directory.link_name("physfn")?;
        Ok(Self {
            address,
            ids,
            subsystem: Some(subsystem).filter(|ids| *ids != Ids { vendor: 0, device: 0 }),
            class,
            group: group(host, &directory, address, driver.as_deref())?,
            driver,
            parent,
            physical: physical.and_then(|name| Address::of_sysfs(&name)),
        })
    }

    /// Reads the function's configuration space: 64 bytes as an ordinary user, all as root.
    ///
    /// It returns `None` where reading would wake the function from a sleep.
    ///
    /// # Errors
    /// The attribute cannot be read.
    pub fn config(&self, host: &Sysroot) -> Result<Option<ConfigSpace>, ReadError> {
        let path = Self::path(self.address);
        let sleeping = |attribute: &str, value: &str| {
            Ok(host.optional_text(format!("{path}/{attribute}"))?.as_deref() == Some(value))
        };
        // The kernel resumes a suspended bridge, and a device in D3cold, for a read of `config`
        // (drivers/pci/pci-sysfs.c, pci_config_pm_runtime_get).
        if sleeping("power_state", "D3cold")? || sleeping("power/runtime_status", "suspended")? {
            return Ok(None);
        }
        host.read(format!("{path}/config")).map(|bytes| Some(ConfigSpace::new(bytes)))
    }

    /// Whether the function is one of PCI Express.
    ///
    /// The kernel shows what it knows of a link for these alone, asleep or awake
    /// (drivers/pci/pci-sysfs.c, pcie_dev_attrs_are_visible, since Linux 4.13). Without that the
    /// capabilities tell, where they can be read.
    ///
    /// # Errors
    /// The configuration space cannot be read.
    pub fn is_express(&self, host: &Sysroot) -> Result<Measured<bool>, ReadError> {
        if host.exists(format!("{}/max_link_speed", Self::path(self.address))) {
            return Ok(Measured::Known(true));
        }
        let Some(config) = self.config(host)? else {
            return Ok(Measured::unmeasured(
                "it sleeps, and reading its capabilities would wake it",
            ));
        };
        Ok(match (config.express(), config.capabilities().standard_walk) {
            (Some(_), _) => Measured::Known(true),
            (None, CapabilityWalk::Whole) => Measured::Known(false),
            (None, _) => Measured::unmeasured("its capabilities can be read by root only"),
        })
    }
}

/// What the kernel puts into a PCI device's `uevent` (drivers/pci/pci-driver.c, pci_uevent):
/// several attributes for the price of one file.
#[derive(Default)]
struct Uevent {
    ids: Option<Ids>,
    subsystem: Option<Ids>,
    class: Option<Class>,
    driver: Option<String>,
}

impl Uevent {
    fn read(directory: &Directory<'_>) -> Result<Self, ReadError> {
        let mut uevent = Self::default();
        let Some(text) = directory.optional_text("uevent")? else {
            return Ok(uevent);
        };
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "DRIVER" => uevent.driver = Some(value.to_owned()),
                "PCI_ID" => uevent.ids = ids(value),
                "PCI_SUBSYS_ID" => uevent.subsystem = ids(value),
                "PCI_CLASS" => uevent.class = hex(value).map(|number| Class(number & 0xff_ffff)),
                _ => {}
            }
        }
        Ok(uevent)
    }
}

fn ids(text: &str) -> Option<Ids> {
    let (vendor, device) = text.split_once(':')?;
    Some(Ids { vendor: low_half(hex(vendor)?), device: low_half(hex(device)?) })
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

fn low_half(number: u32) -> u16 {
    let [low, high, ..] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Whether a driver is one of those that keep a function for guests.
fn keeps_for_guests(driver: &str) -> bool {
    // Beside vfio-pci there are drivers of its kind for single devices, all named so.
    driver.contains("vfio") || driver == "pci-stub"
}

/// Number of a function's IOMMU group. A group that VFIO made up for its no-IOMMU mode is named
/// `vfio-noiommu` and isolates nothing. It is there only while a driver of VFIO's has the function
/// (drivers/vfio/group.c), so only then the name is asked for.
fn group(
    host: &Sysroot,
    directory: &Directory<'_>,
    address: Address,
    driver: Option<&str>,
) -> Result<Option<u32>, ReadError> {
    const LINK: &str = "iommu_group";
    let Some(name) = directory.link_name(LINK)? else { return Ok(None) };
    let number = name.parse().map_err(|_| malformed(address, LINK, &name))?;
    if driver.is_some_and(keeps_for_guests) {
        let label = host.optional_text(format!("{}/{LINK}/name", Function::path(address)))?;
        if label.as_deref() == Some("vfio-noiommu") {
            return Ok(None);
        }
    }
    Ok(Some(number))
}

/// The bridge above is the directory above in the device tree.
fn parent(target: &Path) -> Option<Address> {
    let above = target.parent().and_then(Path::file_name);
    above.and_then(|name| name.to_str()).and_then(Address::of_sysfs)
}

fn malformed(address: Address, attribute: &str, text: &str) -> ReadError {
    let what =
        format!("`{}` is not what it should hold", text.chars().take(40).collect::<String>());
    ReadError {
        path: PathBuf::from(format!("{}/{attribute}", Function::path(address))),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, what),
    }
}

impl Serialize for Ids {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
