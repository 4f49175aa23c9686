//! A function's configuration space, read from hostile bytes.

mod acs;
mod capability;
mod decode;
mod express;

pub use acs::Acs;
pub use capability::{
    Capabilities, Capability, CapabilityWalk, Express, ExtendedCapability, PortKind, WalkError,
};
pub use decode::{Aer, Detail, Msi, MsiX, Power, ResizableBar, SrIov};
pub use express::{ExpressDetail, Link};

use serde::{Deserialize, Serialize};

/// Bytes of a configuration space: 64 as an ordinary user sees it, 256, or 4096 with PCI Express.
///
/// Every accessor returns `None` where the bytes were not given, so that "cannot tell" never turns
/// into zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigSpace(Vec<u8>);

/// The layout of the header (PCI Local Bus 3.0, 6.1; PCI-to-PCI Bridge 1.2, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderType {
    /// Type 0: an endpoint.
    Endpoint,
    /// Type 1: a PCI-to-PCI bridge, ports included.
    Bridge,
    /// Type 2: a CardBus bridge.
    Cardbus,
}

impl ConfigSpace {
    /// Largest configuration space, in bytes (PCI Express Base 6.0, 7.2.2).
    pub const MAX: usize = 4096;

    /// Takes what was read, at most [`ConfigSpace::MAX`] bytes of it.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(Self::MAX);
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the byte at `offset`.
    pub fn u8(&self, offset: u16) -> Option<u8> {
        self.0.get(usize::from(offset)).copied()
    }

    /// Returns the little-endian word at `offset`.
    pub fn u16(&self, offset: u16) -> Option<u16> {
        let at = usize::from(offset);
        Some(u16::from_le_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    /// Returns the little-endian double word at `offset`.
    pub fn u32(&self, offset: u16) -> Option<u32> {
        let at = usize::from(offset);
        Some(u32::from_le_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    /// Vendor id, at 0x00.
    pub fn vendor(&self) -> Option<u16> {
        self.u16(0x00)
    }

    /// Device id, at 0x02.
    pub fn device(&self) -> Option<u16> {
        self.u16(0x02)
    }

    /// Whether reads come back as all ones: the function does not answer.
    pub fn is_all_ones(&self) -> bool {
        !self.0.is_empty() && self.0.iter().take(64).all(|byte| *byte == 0xff)
    }

    /// Layout of the header, at 0x0e without its multi-function bit.
    pub fn header_type(&self) -> Option<HeaderType> {
        match self.u8(0x0e)? & 0x7f {
            0 => Some(HeaderType::Endpoint),
            1 => Some(HeaderType::Bridge),
            2 => Some(HeaderType::Cardbus),
            _ => None,
        }
    }

    /// Number of the bus behind a bridge, at 0x19.
    pub fn secondary_bus(&self) -> Option<u8> {
        match self.header_type()? {
            HeaderType::Endpoint => None,
            HeaderType::Bridge | HeaderType::Cardbus => self.u8(0x19),
        }
    }

    /// Walks the capability list.
    pub fn capabilities(&self) -> Capabilities {
        capability::walk(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_is_not_zero() {
        let config = ConfigSpace::new(vec![0x86, 0x80, 0xd3]);
        assert_eq!(config.vendor(), Some(0x8086));
        assert_eq!(config.device(), None);
        assert_eq!(config.header_type(), None);
        assert_eq!(config.u32(0xffff), None);
    }

    #[test]
    fn a_function_that_does_not_answer_is_all_ones() {
        assert!(ConfigSpace::new(vec![0xff; 64]).is_all_ones());
        assert!(!ConfigSpace::new(vec![]).is_all_ones());
        let mut bytes = vec![0xff; 64];
        bytes[40] = 0;
        assert!(!ConfigSpace::new(bytes).is_all_ones());
    }
}
