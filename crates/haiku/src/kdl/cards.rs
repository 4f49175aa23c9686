//! Where cards have their memory, as the kernel's scan of the bus says.
//!
//! Formats: src/add-ons/kernel/bus_managers/pci/pci_info.cpp.

use super::parse::hex;

/// Regions that are kept; a machine has some dozens.
const MOST: usize = 512;
/// Flags of a base register (PCI Local Bus Specification 3.0, 6.2.5.1): bit 0 is set for ports.
const PORTS: u64 = 1;

/// A region of a card's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Physical address of its first byte.
    pub(super) start: u64,
    /// Number of bytes.
    pub(super) size: u64,
    /// What it is of, in words.
    pub(super) of: String,
}

/// The regions that a log names.
#[derive(Clone, Debug, Default)]
pub(super) struct Cards {
    function: Option<String>,
    regions: Vec<Region>,
}

impl Cards {
    /// Takes a line that begins with `PCI: `.
    pub(super) fn line(&mut self, line: &str) {
        if line.starts_with("PCI: [dom ") {
            self.function = function(line);
        } else if let (Some(function), Some((number, start, size))) = (&self.function, base(line))
            && self.regions.len() < MOST
        {
            let of = format!("base register {number} of {function}");
            self.regions.push(Region { start, size, of });
        }
    }

    /// Forgets them, for the machine starts anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The region that an address is in.
    pub(super) fn find(&self, address: u64) -> Option<&Region> {
        self.regions
            .iter()
            .find(|region| address.checked_sub(region.start).is_some_and(|at| at < region.size))
    }
}

/// `PCI: [dom 0, bus  0] bus   0, device  4, function  0: vendor 10de, device 1c82, revision a1`.
fn function(line: &str) -> Option<String> {
    let rest = line.split_once("] bus ")?.1;
    let (bus, rest) = rest.split_once(", device ")?;
    let (device, rest) = rest.split_once(", function ")?;
    let (function, rest) = rest.split_once(": vendor ")?;
    let (vendor, rest) = rest.split_once(", device ")?;
    let (id, _) = rest.split_once(',')?;
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let (bus, device, function) = (number(bus)?, number(device)?, number(function)?);
    hex(vendor)?;
    hex(id)?;
    Some(format!("the card {vendor}:{id} at {bus:02x}:{device:02x}.{function}"))
}

/// `PCI:   base reg 0: host fd000000, pci fd000000, size 01000000, flags 00`.
fn base(line: &str) -> Option<(u8, u64, u64)> {
    let rest = line.strip_prefix("PCI:   base reg ")?;
    let (number, rest) = rest.split_once(": host ")?;
    let (start, rest) = rest.split_once(", pci ")?;
    let (_, rest) = rest.split_once(", size ")?;
    let (size, flags) = rest.split_once(", flags ")?;
    let flags = flags.split(' ').next().and_then(hex)?;
    let (start, size) = (hex(start)?, hex(size)?);
    (flags & PORTS == 0 && size > 0).then_some((number.parse().ok()?, start, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_cards_is_found() {
        let mut cards = Cards::default();
        for line in [
            "PCI:   base reg 0: host 000000, pci 0, size 01000000, flags 00",
            "PCI: [dom 0, bus  0] bus   0, device  4, function  1: vendor 1234, device 11e8, \
             revision 10",
            "PCI:   base reg 0: host fea00000, pci fea00000, size 00100000, flags 00",
            "PCI:   base reg 1: host 00000000e0000000, pci 00000000e0000000, size 10000000, flags \
             0c 00",
            "PCI:   base reg 3: host 0000c000, pci 0000c000, size 00000100, flags 01",
            "PCI:   base reg x: host",
        ] {
            cards.line(line);
        }
        let of = |address| cards.find(address).map(|region| region.of.as_str());
        assert_eq!(of(0xfea0_0080), Some("base register 0 of the card 1234:11e8 at 00:04.1"));
        assert_eq!(of(0xefff_ffff), Some("base register 1 of the card 1234:11e8 at 00:04.1"));
        assert_eq!((of(0xf000_0000), of(0xc000), of(0)), (None, None, None));
    }
}
