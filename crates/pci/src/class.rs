//! Class codes (PCI Code and ID Assignment Specification 1.16, 1).

use std::fmt;

use serde::{Serialize, Serializer};

/// The class code of a function: base class, sub-class and programming interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u32);

impl Class {
    /// Base class, 8 bits.
    pub fn base(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// Sub-class, 8 bits.
    pub fn sub(self) -> u8 {
        self.0.to_be_bytes()[2]
    }

    /// Programming interface, 8 bits.
    pub fn interface(self) -> u8 {
        self.0.to_be_bytes()[3]
    }

    /// Base class and sub-class, as `lspci -n` shows them.
    pub fn number(self) -> u16 {
        u16::from_be_bytes([self.base(), self.sub()])
    }

    /// Whether it is mass storage.
    pub fn is_storage(self) -> bool {
        self.base() == 0x01
    }

    /// Whether it is a network controller.
    pub fn is_network(self) -> bool {
        self.base() == 0x02
    }

    /// Whether it is a display controller: VGA, XGA, 3D or other.
    pub fn is_display(self) -> bool {
        // 0x0001 is the VGA class of devices older than class codes.
        self.base() == 0x03 || self.number() == 0x0001
    }

    /// Whether it is a VGA controller, which the firmware may have used as its console.
    pub fn is_vga(self) -> bool {
        self.number() == 0x0300
    }

    /// Whether it is a bridge of any kind: never bound, never passed.
    pub fn is_bridge(self) -> bool {
        self.base() == 0x06
    }

    /// Whether it is a bridge to another PCI bus.
    pub fn is_pci_bridge(self) -> bool {
        self.number() == 0x0604
    }

    /// Whether it is a serial bus controller for USB.
    pub fn is_usb(self) -> bool {
        self.number() == 0x0c03
    }

    /// Whether it is an IOMMU.
    pub fn is_iommu(self) -> bool {
        self.number() == 0x0806
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
