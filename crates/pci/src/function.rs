//! One PCI function as sysfs shows it.

use std::collections::BTreeMap;

use host::{Measured, ReadError, Sysroot};
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
        // Beside vfio-pci there are drivers of its kind for single devices, all named so.
        self.driver.as_deref().is_some_and(|name| name.contains("vfio") || name == "pci-stub")
    }

    /// Reads one function.
    ///
    /// # Errors
    /// There is no such function, or sysfs cannot be read.
    pub fn read(host: &Sysroot, address: Address) -> Result<Self, ReadError> {
        Self::read_with(host, address, &mut Groups::default())
    }

    /// Reads one function of many. It costs four file operations: its `uevent` and the links to
    /// its physical function, its group and its place in the device tree.
    pub(crate) fn read_with(
        host: &Sysroot,
        address: Address,
        groups: &mut Groups,
    ) -> Result<Self, ReadError> {
        let path = Self::path(address);
        let uevent = Uevent::read(host, &path)?;
        let number = |attribute: &str| -> Result<u32, ReadError> {
            let path = format!("{path}/{attribute}");
            let text = host.text(&path)?;
            hex(&text).ok_or_else(|| malformed(&path, &text))
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
            (None, None) => host.link_name(format!("{path}/driver"))?,
            (driver, _) => driver,
        };
        let physical = host.link_name(format!("{path}/physfn"))?;
        Ok(Self {
            address,
            ids,
            subsystem: Some(subsystem).filter(|ids| *ids != Ids { vendor: 0, device: 0 }),
            class,
            driver,
            group: groups.of(host, &path)?,
            parent: parent(host, &path)?,
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
    fn read(host: &Sysroot, path: &str) -> Result<Self, ReadError> {
        let mut uevent = Self::default();
        let Some(text) = host.optional_text(format!("{path}/uevent"))? else {
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

/// The IOMMU groups met so far, and whether each isolates anything.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<u32, bool>);

impl Groups {
    /// Number of a function's IOMMU group. A group that VFIO made up for its no-IOMMU mode is
    /// named `vfio-noiommu` (drivers/vfio/group.c) and isolates nothing.
    fn of(&mut self, host: &Sysroot, path: &str) -> Result<Option<u32>, ReadError> {
        let link = format!("{path}/iommu_group");
        let Some(name) = host.link_name(&link)? else { return Ok(None) };
        let number = name.parse().map_err(|_| malformed(&link, &name))?;
        let isolates = match self.0.get(&number) {
            Some(isolates) => *isolates,
            None => {
                let label = host.optional_text(format!("{link}/name"))?;
                let isolates = label.as_deref() != Some("vfio-noiommu");
                self.0.insert(number, isolates);
                isolates
            }
        };
        Ok(Some(number).filter(|_| isolates))
    }
}

/// The bridge above is the directory above in the device tree.
fn parent(host: &Sysroot, path: &str) -> Result<Option<Address>, ReadError> {
    let target = host.link(path)?;
    let above = target.parent().and_then(|path| path.file_name());
    Ok(above.and_then(|name| name.to_str()).and_then(Address::of_sysfs))
}

fn malformed(path: &str, text: &str) -> ReadError {
    let what =
        format!("`{}` is not what it should hold", text.chars().take(40).collect::<String>());
    ReadError {
        path: path.into(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, what),
    }
}

impl Serialize for Ids {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
