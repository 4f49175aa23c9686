//! Capability lists (PCI Local Bus 3.0, 6.7; PCI Express Base 6.0, 7.5 to 7.9).

use serde::{Deserialize, Serialize};

use super::ConfigSpace;

/// Where the first capability is (PCI Local Bus 3.0, 6.7): valid if bit 4 of the status is set.
const STATUS: u16 = 0x06;
const STATUS_CAPABILITY_LIST: u16 = 1 << 4;
const POINTER: u16 = 0x34;
const POINTER_CARDBUS: u16 = 0x14;
/// Where extended capabilities begin (PCI Express Base 6.0, 7.6.1).
const EXTENDED: u16 = 0x100;
/// A list can hold no more than one capability each four bytes of the space after the header.
const MOST: usize = (256 - 64) / 4;
const MOST_EXTENDED: usize = (4096 - 256) / 4;

/// One entry of the capability list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Capability id (PCI Code and ID Assignment Specification, 2).
    pub id: u8,
    /// Offset in the configuration space, in bytes.
    pub offset: u16,
}

impl Capability {
    /// Power management.
    pub const POWER: u8 = 0x01;
    /// Message-signalled interrupts.
    pub const MSI: u8 = 0x05;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// Message-signalled interrupts with a table in a BAR.
    pub const MSI_X: u8 = 0x11;
    /// Advanced features, which hold the function-level reset of conventional functions.
    pub const ADVANCED_FEATURES: u8 = 0x13;

    /// Returns the usual name of the capability.
    pub fn name(&self) -> &'static str {
        // PCI Code and ID Assignment Specification 1.16, 2.
        match self.id {
            0x01 => "power management",
            0x02 => "AGP",
            0x03 => "vital product data",
            0x04 => "slot identification",
            0x05 => "MSI",
            0x06 => "CompactPCI hot swap",
            0x07 => "PCI-X",
            0x08 => "HyperTransport",
            0x09 => "vendor-specific",
            0x0a => "debug port",
            0x0b => "CompactPCI resources",
            0x0c => "hot-plug",
            0x0d => "bridge subsystem ids",
            0x0e => "AGP 8x",
            0x0f => "secure device",
            0x10 => "PCI Express",
            0x11 => "MSI-X",
            0x12 => "SATA",
            0x13 => "advanced features",
            0x14 => "enhanced allocation",
            0x15 => "flattening portal bridge",
            _ => "unknown",
        }
    }
}

/// One entry of the extended capability list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedCapability {
    /// Extended capability id (PCI Code and ID Assignment Specification, 3).
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
    /// Offset in the configuration space, in bytes.
    pub offset: u16,
}

impl ExtendedCapability {
    /// Access control services.
    pub const ACS: u16 = 0x000d;
    /// Alternative routing-id interpretation.
    pub const ARI: u16 = 0x000e;
    /// Single-root I/O virtualisation.
    pub const SR_IOV: u16 = 0x0010;

    /// Returns the usual name of the capability.
    pub fn name(&self) -> &'static str {
        // PCI Code and ID Assignment Specification 1.16, 3.
        match self.id {
            0x0001 => "AER",
            0x0002 | 0x0009 => "virtual channel",
            0x0003 => "serial number",
            0x0004 => "power budget",
            0x0005 => "root complex links",
            0x0006 => "root complex internal link",
            0x0007 => "event collector association",
            0x0008 => "multi-function virtual channel",
            0x000a => "root complex registers",
            0x000b => "vendor-specific",
            0x000c => "configuration access correlation",
            0x000d => "ACS",
            0x000e => "ARI",
            0x000f => "ATS",
            0x0010 => "SR-IOV",
            0x0011 => "MR-IOV",
            0x0012 => "multicast",
            0x0013 => "page request",
            0x0015 => "resizable BAR",
            0x0016 => "dynamic power allocation",
            0x0017 => "TPH requester",
            0x0018 => "latency tolerance",
            0x0019 => "secondary PCI Express",
            0x001a => "protocol multiplexing",
            0x001b => "PASID",
            0x001c => "LN requester",
            0x001d => "downstream port containment",
            0x001e => "L1 PM substates",
            0x001f => "precision time",
            0x0020 => "M-PCIe",
            0x0021 => "FRS queueing",
            0x0022 => "readiness times",
            0x0023 => "designated vendor-specific",
            0x0024 => "virtual function resizable BAR",
            0x0025 => "data link feature",
            0x0026 => "physical layer 16 GT/s",
            0x0027 => "lane margining",
            0x0028 => "hierarchy id",
            0x0029 => "native enclosure management",
            0x002a => "physical layer 32 GT/s",
            0x002b => "alternate protocol",
            0x002c => "system firmware intermediary",
            0x002e => "data object exchange",
            0x0030 => "integrity and data encryption",
            _ => "unknown",
        }
    }
}

/// How far a list could be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapabilityWalk {
    /// To its end.
    Whole,
    /// The bytes that hold the rest were not given, as an ordinary user does not see them.
    Unread,
    /// The list is not well formed.
    Broken(WalkError),
}

/// How a capability list is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WalkError {
    /// A pointer leads into the header, or is not aligned.
    #[error("the capability list points to {0:#x}, where no capability can be")]
    Misplaced(u16),
    /// The list leads back to an earlier entry.
    #[error("the capability list leads back to {0:#x}")]
    Loop(u16),
}

/// Both capability lists of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The list in the first 256 bytes.
    pub standard: Vec<Capability>,
    /// How far it could be followed.
    pub standard_walk: CapabilityWalk,
    /// The list from 0x100 on.
    pub extended: Vec<ExtendedCapability>,
    /// How far it could be followed.
    pub extended_walk: CapabilityWalk,
}

impl Capabilities {
    /// Returns where the first capability `id` is. `None` where the list has none *as far as it
    /// could be followed*.
    pub fn find(&self, id: u8) -> Option<u16> {
        self.standard.iter().find(|capability| capability.id == id).map(|found| found.offset)
    }

    /// Returns where the first extended capability `id` is, likewise.
    pub fn find_extended(&self, id: u16) -> Option<u16> {
        self.extended.iter().find(|capability| capability.id == id).map(|found| found.offset)
    }
}

pub(super) fn walk(config: &ConfigSpace) -> Capabilities {
    let (standard, standard_walk) = walk_standard(config);
    let has_express = standard.iter().any(|capability| capability.id == Capability::EXPRESS);
    // Only PCI Express functions have an extended space; PCI-X 2.0 ones are not seen any more.
    let (extended, extended_walk) = match (has_express, &standard_walk) {
        (true, _) => walk_extended(config),
        (false, CapabilityWalk::Whole) => (Vec::new(), CapabilityWalk::Whole),
        (false, _) => (Vec::new(), CapabilityWalk::Unread),
    };
    Capabilities { standard, standard_walk, extended, extended_walk }
}

fn walk_standard(config: &ConfigSpace) -> (Vec<Capability>, CapabilityWalk) {
    let mut found = Vec::new();
    let Some(status) = config.u16(STATUS) else { return (found, CapabilityWalk::Unread) };
    if status & STATUS_CAPABILITY_LIST == 0 {
        return (found, CapabilityWalk::Whole);
    }
    let pointer = match config.header_type() {
        Some(super::HeaderType::Cardbus) => POINTER_CARDBUS,
        _ => POINTER,
    };
    let Some(mut next) = config.u8(pointer) else { return (found, CapabilityWalk::Unread) };
    loop {
        // The two lowest bits are reserved and to be masked.
        let offset = u16::from(next & 0xfc);
        if offset == 0 {
            return (found, CapabilityWalk::Whole);
        }
        if offset < 0x40 {
            return (found, CapabilityWalk::Broken(WalkError::Misplaced(offset)));
        }
        if found.len() >= MOST || found.iter().any(|earlier: &Capability| earlier.offset == offset)
        {
            return (found, CapabilityWalk::Broken(WalkError::Loop(offset)));
        }
        let (Some(id), Some(link)) = (config.u8(offset), config.u8(offset + 1)) else {
            return (found, CapabilityWalk::Unread);
        };
        // All ones: the function stopped answering, or the list was cut.
        if id == 0xff {
            return (found, CapabilityWalk::Broken(WalkError::Misplaced(offset)));
        }
        found.push(Capability { id, offset });
        next = link;
    }
}

fn walk_extended(config: &ConfigSpace) -> (Vec<ExtendedCapability>, CapabilityWalk) {
    let mut found = Vec::new();
    let mut offset = EXTENDED;
    loop {
        let Some(header) = config.u32(offset) else { return (found, CapabilityWalk::Unread) };
        // An empty list is a header of zeros; absent space reads as all ones.
        if header == 0 || header == u32::MAX {
            return (found, CapabilityWalk::Whole);
        }
        let [low, high, ..] = header.to_le_bytes();
        let id = u16::from_le_bytes([low, high]);
        let version = u8::try_from(header >> 16 & 0xf).unwrap_or_default();
        found.push(ExtendedCapability { id, version, offset });
        let next = u16::try_from(header >> 20).unwrap_or_default() & 0xffc;
        if next == 0 {
            return (found, CapabilityWalk::Whole);
        }
        if next < EXTENDED {
            return (found, CapabilityWalk::Broken(WalkError::Misplaced(next)));
        }
        let seen = found.iter().any(|earlier: &ExtendedCapability| earlier.offset == next);
        if seen || found.len() >= MOST_EXTENDED {
            return (found, CapabilityWalk::Broken(WalkError::Loop(next)));
        }
        offset = next;
    }
}

/// What a PCI Express function is in the tree (PCI Express Base 6.0, 7.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// An endpoint below a port.
    Endpoint,
    /// A legacy endpoint below a port.
    LegacyEndpoint,
    /// A root port.
    RootPort,
    /// The upstream port of a switch.
    UpstreamPort,
    /// A downstream port of a switch.
    DownstreamPort,
    /// A bridge from PCI Express to conventional PCI.
    ExpressToPci,
    /// A bridge from conventional PCI to PCI Express.
    PciToExpress,
    /// An endpoint integrated into the root complex.
    IntegratedEndpoint,
    /// An event collector of the root complex.
    EventCollector,
}

/// The PCI Express capability, as far as topology needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Express {
    /// What the function is in the tree.
    pub kind: PortKind,
    /// Slot Implemented: the port leads to a physical slot (bit 8 of the capabilities register).
    pub slot_implemented: bool,
}

impl ConfigSpace {
    /// Decodes the PCI Express capability, if there is one and it was given.
    pub fn express(&self) -> Option<Express> {
        let offset = self.capabilities().find(Capability::EXPRESS)?;
        let register = self.u16(offset + 2)?;
        let kind = match register >> 4 & 0xf {
            0x0 => PortKind::Endpoint,
            0x1 => PortKind::LegacyEndpoint,
            0x4 => PortKind::RootPort,
            0x5 => PortKind::UpstreamPort,
            0x6 => PortKind::DownstreamPort,
            0x7 => PortKind::ExpressToPci,
            0x8 => PortKind::PciToExpress,
            0x9 => PortKind::IntegratedEndpoint,
            0xa => PortKind::EventCollector,
            _ => return None,
        };
        Some(Express { kind, slot_implemented: register & 1 << 8 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(size: usize, writes: &[(usize, &[u8])]) -> ConfigSpace {
        let mut bytes = vec![0; size];
        bytes[6] = 0x10;
        for (at, values) in writes {
            bytes[*at..*at + values.len()].copy_from_slice(values);
        }
        ConfigSpace::new(bytes)
    }

    #[test]
    fn walks_both_lists() {
        let config = space(
            4096,
            &[
                (0x34, &[0x40]),
                (0x40, &[0x01, 0x50]),
                (0x50, &[0x10, 0x00, 0x42, 0x01]),
                (0x100, &[0x01, 0x00, 0x02, 0x14]),
                (0x140, &[0x0d, 0x00, 0x01, 0x00]),
            ],
        );
        let lists = config.capabilities();
        assert_eq!(lists.find(Capability::POWER), Some(0x40));
        assert_eq!(lists.find_extended(ExtendedCapability::ACS), Some(0x140));
        assert_eq!(lists.extended[0], ExtendedCapability { id: 1, version: 2, offset: 0x100 });
        assert_eq!(lists.standard_walk, CapabilityWalk::Whole);
        assert_eq!(lists.extended_walk, CapabilityWalk::Whole);
        let express = config.express().unwrap();
        assert_eq!(express, Express { kind: PortKind::RootPort, slot_implemented: true });
    }

    #[test]
    fn what_an_ordinary_user_sees_is_unread_not_absent() {
        let lists = space(64, &[(0x34, &[0x40])]).capabilities();
        assert_eq!(lists.standard_walk, CapabilityWalk::Unread);
        assert_eq!(lists.extended_walk, CapabilityWalk::Unread);
    }

    #[test]
    fn a_loop_and_a_pointer_into_the_header_are_broken() {
        let lists = space(256, &[(0x34, &[0x40]), (0x40, &[1, 0x48]), (0x48, &[5, 0x40])]);
        let lists = lists.capabilities();
        assert_eq!(lists.standard_walk, CapabilityWalk::Broken(WalkError::Loop(0x40)));
        let lists = space(256, &[(0x34, &[0x20])]).capabilities();
        assert_eq!(lists.standard_walk, CapabilityWalk::Broken(WalkError::Misplaced(0x20)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..4200)) {
            let config = ConfigSpace::new(bytes);
            let lists = config.capabilities();
            prop_assert!(lists.standard.len() <= MOST);
            prop_assert!(lists.extended.len() <= MOST_EXTENDED);
            let _ = config.express();
        }
    }
}
