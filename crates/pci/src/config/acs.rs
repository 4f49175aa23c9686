//! Access control services, by which a port keeps what is below it apart.

use serde::{Deserialize, Serialize};

use super::{ConfigSpace, ExtendedCapability};

/// Access control services (PCI Express Base 6.0, 7.7.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acs {
    /// The services that the port has: the capability register, at offset 4.
    pub supported: u16,
    /// Those that are switched on: the control register, at offset 6.
    pub enabled: u16,
}

impl Acs {
    /// Source validation, request redirect, completion redirect and upstream forwarding: what
    /// Linux needs of every port on the way for a group of its own (drivers/iommu/iommu.c,
    /// REQ_ACS_FLAGS).
    pub const ISOLATING: u16 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;
    /// The services by their bit, as lspci names them.
    pub const NAMES: [&str; 7] = [
        "SrcValid",
        "TransBlk",
        "ReqRedir",
        "CmpltRedir",
        "UpstreamFwd",
        "EgressCtrl",
        "DirectTrans",
    ];

    /// Whether all services that isolation needs are switched on. What a port does not have need
    /// not be: it then never does what the service would prevent
    /// (drivers/pci/pci.c, pci_acs_flags_enabled).
    pub fn isolates(self) -> bool {
        self.missing().is_empty()
    }

    /// The services that isolation needs, that the port has, and that are not switched on.
    pub fn missing(self) -> Vec<&'static str> {
        let missing = Self::ISOLATING & self.supported & !self.enabled;
        let bits = Self::NAMES.iter().enumerate();
        bits.filter(|(bit, _)| missing >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }
}

impl ConfigSpace {
    /// Decodes access control services, if they are there and were given.
    pub fn acs(&self) -> Option<Acs> {
        let offset = self.capabilities().find_extended(ExtendedCapability::ACS)?;
        Some(Acs { supported: self.u16(offset + 4)?, enabled: self.u16(offset + 6)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_has_must_be_switched_on() {
        for (supported, enabled, missing) in [
            (0x1f, 0x1d, vec![]),
            (0x1f, 0x00, vec!["SrcValid", "ReqRedir", "CmpltRedir", "UpstreamFwd"]),
            (0x05, 0x05, vec![]),
            (0x05, 0x01, vec!["ReqRedir"]),
        ] {
            let acs = Acs { supported, enabled };
            assert_eq!(acs.missing(), missing, "{acs:?}");
            assert_eq!(acs.isolates(), missing.is_empty());
        }
    }

    #[test]
    fn it_is_found_among_the_extended_capabilities() {
        let mut bytes = vec![0; 4096];
        bytes[0x06] = 0x10;
        bytes[0x34] = 0x40;
        bytes[0x40] = 0x10;
        bytes[0x100..0x108].copy_from_slice(&[0x0d, 0, 1, 0, 0x1f, 0, 0x1d, 0]);
        let acs = ConfigSpace::new(bytes.clone()).acs().unwrap();
        assert_eq!((acs.supported, acs.enabled), (0x1f, 0x1d));
        bytes.truncate(256);
        assert_eq!(ConfigSpace::new(bytes).acs(), None);
    }
}
