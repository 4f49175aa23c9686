//! What sysfs says of a function before VFIO is asked.

use std::fmt;
use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};
use pci::Address;
use serde::{Deserialize, Serialize};

use crate::driver::{is_vfio, vfio_dev};
use crate::error::Result;

const GROUPS: &str = "/sys/kernel/iommu_groups";
const DEVICES: &str = "/sys/bus/pci/devices";

/// A function that keeps its group from being given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// The function as sysfs names it, usually a PCI address.
    pub device: String,
    /// The host driver that holds it.
    pub driver: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is held by {}", self.device, self.driver)
    }
}

/// How a function is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// Its group's node, `/dev/vfio/N`, and a container.
    Group,
    /// Its own node, `/dev/vfio/devices/vfioN`, and `/dev/iommu`.
    Iommufd,
}

/// An interface and why it is the one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The interface.
    pub interface: Interface,
    /// The evidence.
    pub reason: String,
}

impl Choice {
    /// Chooses from what the host has: iommufd where the function has a node of its own for it,
    /// else the group.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn of_host(host: &Sysroot, address: Address) -> Result<Self> {
        let Some(node) = device_node(host, address)? else {
            return Ok(Self {
                interface: Interface::Group,
                reason: format!("{} holds no character device", vfio_dev(address)),
            });
        };
        let iommu = Path::new(IOMMU);
        if !host.exists(iommu) {
            return Ok(Self {
                interface: Interface::Group,
                reason: format!("{IOMMU} does not exist"),
            });
        }
        Ok(Self {
            interface: Interface::Iommufd,
            reason: format!("{} and {IOMMU} exist", node.display()),
        })
    }
}

/// The node of iommufd.
pub(crate) const IOMMU: &str = "/dev/iommu";
/// The node of containers.
pub(crate) const CONTAINER: &str = "/dev/vfio/vfio";

pub(crate) fn group_node(group: u32) -> PathBuf {
    PathBuf::from(format!("/dev/vfio/{group}"))
}

/// The function's own node, if the kernel makes such nodes (`CONFIG_VFIO_DEVICE_CDEV`). Without
/// them the directory is there all the same, but its entry has no device number.
pub(crate) fn device_node(host: &Sysroot, address: Address) -> Result<Option<PathBuf>> {
    let directory = vfio_dev(address);
    let names = host.optional_names(&directory)?;
    let name = names.iter().find(|name| host.exists(format!("{directory}/{name}/dev")));
    Ok(name.map(|name| Path::new("/dev/vfio/devices").join(name)))
}

/// Drivers beside VFIO's that leave DMA to others.
const DRIVERS_WITHOUT_DMA: [&str; 2] = ["pci-stub", "pcieport"];

/// Lists the functions of a group that are held by host drivers.
///
/// The kernel counts every bound driver but those that leave DMA to others (`driver_managed_dma`):
/// VFIO's own, pci-stub and those of PCI-to-PCI bridges.
pub(crate) fn blockers(host: &Sysroot, group: u32) -> Result<Vec<Blocker>, ReadError> {
    let mut blockers = Vec::new();
    // Where it is not known whether a driver is one of VFIO's, the kernel's word counts, and that
    // is asked for when it has refused the group.
    let gives = |device: &str, driver: &str| match device.parse() {
        Ok(address) => Ok(is_vfio(host, address, driver)?.known() == Some(&true)),
        Err(_) => Ok(false),
    };
    for device in host.optional_names(format!("{GROUPS}/{group}/devices"))? {
        let driver = host.link_name(format!("{DEVICES}/{device}/driver"))?;
        let Some(driver) = driver else { continue };
        let class = host.optional_text(format!("{DEVICES}/{device}/class"))?.unwrap_or_default();
        let is_bridge = class.starts_with("0x0604") || class.starts_with("0x0609");
        if !(is_bridge || gives(&device, &driver)? || DRIVERS_WITHOUT_DMA.contains(&&*driver)) {
            blockers.push(Blocker { device, driver });
        }
    }
    Ok(blockers)
}

/// The memory that firmware reserves for the group and that may never be unmapped. (Regions of
/// type `direct-relaxable` may.)
pub(crate) fn reserved_memory(host: &Sysroot, group: u32) -> Result<Vec<String>, ReadError> {
    let text = host.optional_text(format!("{GROUPS}/{group}/reserved_regions"))?;
    let lines = text.unwrap_or_default();
    let direct = lines.lines().filter(|line| line.split_whitespace().nth(2) == Some("direct"));
    Ok(direct.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::tree::{self, Tree};

    #[test]
    fn only_what_holds_the_group_blocks_it() {
        let mut tree = Tree::new();
        for (device, driver, class) in [
            ("0000:01:00.0", Some("vfio-pci"), 0x02_0000),
            ("0000:01:00.1", Some("snd_hda_intel"), 0x04_0300),
            ("0000:01:00.2", Some("mlx5_vfio_pci"), 0x02_0000),
            ("0000:01:00.3", Some("pci-stub"), 0x02_0000),
            ("0000:01:00.4", None, 0x02_0000),
            ("0000:00:01.0", Some("pcieport"), 0x06_0400),
            ("0000:00:02.0", Some("shpchp"), 0x06_0400),
            ("0000:00:1f.0", Some("lpc_ich"), 0x06_0100),
        ] {
            let function = tree::Function::new(device, 0x8086, 1).class(class).group(7);
            tree.add(match driver {
                Some(driver) => function.driver(driver),
                None => function,
            });
        }
        tree.directory("/sys/bus/pci/devices/0000:01:00.2/vfio-dev/vfio1");
        let found = blockers(&tree.sysroot(), 7).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected = ["0000:00:1f.0 is held by lpc_ich", "0000:01:00.1 is held by snd_hda_intel"];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_memory_that_must_stay_mapped_is_reserved() {
        let tree = Tree::new();
        tree.write(
            "/sys/kernel/iommu_groups/3/reserved_regions",
            "0x00000000fee00000 0x00000000feefffff msi\n\
             0x00000000bdf6f000 0x00000000bdf7efff direct\n\
             0x00000000bf800000 0x00000000cf9fffff direct-relaxable\n",
        );
        let found = reserved_memory(&tree.sysroot(), 3).unwrap();
        assert_eq!(found, ["0x00000000bdf6f000 0x00000000bdf7efff direct"]);
    }
}
