//! A host with one card on vfio-pci, and a kernel that knows it.

use std::sync::Arc;

use host::Sysroot;
use pci::Address;
use testkit::tree::{Bar, Function, Tree};

use crate::sys::Kernel;
use crate::sys::mock::Mock;
use crate::{AddressSpace, Device, Interface, Result};

/// The card.
pub(crate) const CARD: &str = "0000:01:00.0";

pub(crate) struct Fixture {
    pub(crate) tree: Tree,
    pub(crate) mock: Arc<Mock>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let mut tree = Tree::new();
        let card = Function::new(CARD, 0x8086, 0x10d3)
            .class(0x02_0000)
            .bar(0, 0xfebc_0000, 0x2_0000, Bar::Memory32)
            .bar(1, 0xc000, 32, Bar::Io)
            .driver("vfio-pci")
            .group(7);
        tree.add(card);
        Self { tree, mock: Arc::new(Mock::new()) }
    }

    pub(crate) fn address(&self) -> Address {
        CARD.parse().unwrap()
    }

    pub(crate) fn host(&self) -> Sysroot {
        self.tree.sysroot()
    }

    /// Gives the function a node of its own, as a kernel with CONFIG_VFIO_DEVICE_CDEV does.
    pub(crate) fn with_iommufd(self) -> Self {
        self.tree.write(&format!("/sys/bus/pci/devices/{CARD}/vfio-dev/vfio3/dev"), "509:3\n");
        self.tree.write("/dev/iommu", "");
        self
    }

    pub(crate) fn space(&self, interface: Interface) -> Result<AddressSpace> {
        let kernel: Arc<dyn Kernel> = self.mock.clone();
        AddressSpace::with_kernel(kernel, self.address(), interface)
    }

    pub(crate) fn open(&self, interface: Interface) -> Result<Device> {
        self.space(interface)?.open(&self.host(), self.address())
    }

    /// Opens the card by its group, and forgets how.
    pub(crate) fn device(&self) -> Device {
        let device = self.open(Interface::Group).unwrap();
        self.mock.take_log();
        device
    }
}

/// A capability as the kernel lays it out: header, then `fields`; `next` is where the next begins.
pub(crate) fn capability(id: u16, next: u32, fields: &[u8]) -> Vec<u8> {
    [&id.to_ne_bytes()[..], &1u16.to_ne_bytes(), &next.to_ne_bytes(), fields].concat()
}

/// A list of pairs of numbers as the kernel lays it out: length, padding, pairs.
pub(crate) fn pairs(count: u32, pairs: &[[u64; 2]]) -> Vec<u8> {
    let mut bytes = [count.to_ne_bytes(), [0; 4]].concat();
    bytes.extend(pairs.iter().flatten().flat_map(|number| number.to_ne_bytes()));
    bytes
}
