//! What the lab knows of QEMU's emulated devices.

use serde::Deserialize;

/// What a disk card's disk holds at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// Each sector begins with `kireji sector N` in decimal, so that what is read can be checked;
    /// there is neither partition table nor file system.
    #[default]
    Pattern,
    /// An ext4 file system, as on a disk that somebody needs.
    Ext4,
    /// Zeros.
    Blank,
}

/// A kind of emulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// QEMU's name.
    pub name: &'static str,
    /// What must be behind it.
    pub backend: Backend,
    /// The kernel's drivers for it, by module name.
    pub modules: &'static [&'static str],
}

/// What a device needs behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nothing.
    None,
    /// A user-mode network.
    Network,
    /// A disk, given to the device itself.
    Disk,
    /// A disk on the device's first port.
    Port(&'static str),
}

const fn device(name: &'static str, backend: Backend, modules: &'static [&'static str]) -> Device {
    Device { name, backend, modules }
}

/// The devices that need something behind them or have a driver of their own in Linux. A device
/// that is not here can be a card all the same, without either.
const KNOWN: &[Device] = &[
    device("ahci", Backend::Port("ide-hd"), &["ahci", "sd_mod"]),
    device("e1000", Backend::Network, &["e1000"]),
    device("e1000e", Backend::Network, &["e1000e"]),
    device("edu", Backend::None, &[]),
    device("igb", Backend::Network, &["igb"]),
    device("intel-hda", Backend::None, &["snd_hda_intel"]),
    device("ne2k_pci", Backend::Network, &["ne2k-pci"]),
    device("nvme", Backend::Disk, &["nvme"]),
    device("qemu-xhci", Backend::None, &["xhci_pci"]),
    device("rtl8139", Backend::Network, &["8139cp"]),
    device("virtio-blk-pci", Backend::Disk, &["virtio_blk"]),
    device("virtio-net-pci", Backend::Network, &["virtio_net"]),
];

impl Device {
    /// Returns what is known of QEMU's device `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|device| device.name == name)
    }

    /// Whether the device has a disk.
    pub fn has_disk(&self) -> bool {
        matches!(self.backend, Backend::Disk | Backend::Port(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_name() {
        assert!(KNOWN.is_sorted_by_key(|device| device.name));
        assert!(Device::named("nvme").is_some_and(Device::has_disk));
        assert!(Device::named("pci-testdev").is_none());
    }
}
