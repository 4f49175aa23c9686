//! The I/O virtualisation reporting structure of AMD's IOMMU (AMD I/O Virtualization Technology
//! Specification 48882, revision 3.08, chapter 5; include/acpi/actbl2.h of the kernel).

use serde::Serialize;

use super::{HEADER, TableError, requester, table, u8_at, u16_at, u32_at, u64_at};
use crate::Address;

/// The blocks follow the header, `IVinfo` and eight reserved bytes.
const BLOCKS: usize = HEADER + 12;
const INFO: usize = HEADER;
/// `IVinfo`: the firmware asks for protection from DMA at boot.
const DMA_REMAP: u32 = 1 << 1;
/// Types of hardware definition blocks (5.2.2): the old layout, and two newer ones that repeat it.
const HARDWARE: [u8; 3] = [0x10, 0x11, 0x40];
/// Where their device entries begin.
const ENTRIES: usize = 24;
const ENTRIES_NEW: usize = 40;
/// Types of memory definition blocks (5.2.3): for all, one, or a range of devices.
const MEMORY_ALL: u8 = 0x20;
const MEMORY_ONE: u8 = 0x21;
const MEMORY_RANGE: u8 = 0x22;
/// Flags of a memory definition block.
const UNITY: u8 = 1 << 0;
const EXCLUSION: u8 = 1 << 3;

/// What the firmware says of AMD IOMMUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ivrs {
    /// Whether the firmware asks for protection from DMA at boot.
    pub dma_remap: bool,
    /// The IOMMUs.
    pub units: Vec<IvrsUnit>,
    /// Memory that devices use behind the system's back.
    pub reserved: Vec<IvrsMemory>,
}

/// One IOMMU, called IVHD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IvrsUnit {
    /// Its PCI function.
    pub address: Option<Address>,
    /// Host-physical address of its registers.
    pub base: u64,
    /// Number of its device entries.
    pub devices: usize,
}

/// Memory that stays mapped for some devices, called IVMD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IvrsMemory {
    /// First and last device; `None` for all.
    pub devices: Option<(u16, u16)>,
    /// First byte.
    pub base: u64,
    /// Length in bytes.
    pub length: u64,
    /// Whether it stays mapped one to one, or is excluded from translation.
    pub is_direct: bool,
}

impl IvrsMemory {
    /// Whether it is for a function.
    pub fn is_for(&self, function: Address) -> bool {
        let id = u16::from_be_bytes([function.bus(), function.device() << 3 | function.function()]);
        // Blocks of memory name no segment but the first.
        function.domain() == 0
            && self.devices.is_none_or(|(first, last)| (first..=last).contains(&id))
    }
}

impl Ivrs {
    /// Parses a table.
    ///
    /// # Errors
    /// The bytes are no whole, well-formed table.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let bytes = table(bytes, b"IVRS")?;
        let info = u32_at(bytes, INFO).ok_or(TableError::CutOff(bytes.len()))?;
        let mut ivrs = Self { dma_remap: info & DMA_REMAP != 0, ..Self::default() };
        let mut at = BLOCKS;
        while at < bytes.len() {
            let wrong = TableError::EntryLength(at);
            let kind = u8_at(bytes, at).ok_or(wrong)?;
            let length = usize::from(u16_at(bytes, at + 2).ok_or(wrong)?);
            if length < 4 {
                return Err(wrong);
            }
            let block = bytes.get(at..at + length).ok_or(wrong)?;
            if HARDWARE.contains(&kind) {
                let unit = unit(kind, block).ok_or(wrong)?;
                // Newer blocks describe the same unit once more.
                match ivrs.units.iter_mut().find(|known| known.base == unit.base) {
                    Some(known) => *known = unit,
                    None => ivrs.units.push(unit),
                }
            } else if (MEMORY_ALL..=MEMORY_RANGE).contains(&kind) {
                ivrs.reserved.push(memory(kind, block).ok_or(wrong)?);
            }
            at += length;
        }
        Ok(ivrs)
    }
}

fn unit(kind: u8, block: &[u8]) -> Option<IvrsUnit> {
    let segment = u16_at(block, 16)?;
    let entries = if kind == HARDWARE[0] { ENTRIES } else { ENTRIES_NEW };
    Some(IvrsUnit {
        address: requester(segment, u16_at(block, 4)?),
        base: u64_at(block, 8)?,
        devices: count(block.get(entries..)?)?,
    })
}

/// Counts device entries, whose type tells their length (5.2.2.5 to 5.2.2.7).
fn count(mut rest: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some(kind) = rest.first() {
        let length = match kind {
            // One of zeros pads the block.
            0..0x40 => 4,
            0x40..0x80 => 8,
            0x80..0xc0 => 16,
            0xc0..0xf0 => 32,
            // An ACPI device: its names are as long as the last byte of the fixed part says.
            0xf0.. => 22 + usize::from(*rest.get(21)?),
        };
        count += usize::from(*kind != 0);
        rest = rest.get(length..)?;
    }
    Some(count)
}

fn memory(kind: u8, block: &[u8]) -> Option<IvrsMemory> {
    let flags = u8_at(block, 1)?;
    let first = u16_at(block, 4)?;
    Some(IvrsMemory {
        devices: match kind {
            MEMORY_ALL => None,
            MEMORY_ONE => Some((first, first)),
            _ => Some((first, u16_at(block, 6)?)),
        },
        base: u64_at(block, 16)?,
        length: u64_at(block, 24)?,
        is_direct: flags & (UNITY | EXCLUSION) != 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::acpi;

    use super::*;

    #[test]
    fn reads_units_and_memory() {
        let bytes = acpi::ivrs(&[
            acpi::ivhd(0x10, 0, 0x0002, 0xfeb8_0000, &[&[3, 8, 0, 0], &[4, 0xff, 0xff, 0]]),
            acpi::ivhd(0x11, 0, 0x0002, 0xfeb8_0000, &[&[2, 8, 0, 0], &[0; 4]]),
            acpi::ivmd(0x21, 1, 0x0100, 0, 0x7b00_0000, 0x10_0000),
            acpi::ivmd(0x20, 6, 0, 0, 0x7c00_0000, 0x1000),
        ]);
        let ivrs = Ivrs::parse(&bytes).unwrap();
        let unit = IvrsUnit { address: "00:00.2".parse().ok(), base: 0xfeb8_0000, devices: 1 };
        assert_eq!(ivrs.units, [unit]);
        let [one, all] = ivrs.reserved[..] else { panic!("two blocks") };
        assert!(one.is_direct && !all.is_direct);
        assert!(one.is_for("01:00.0".parse().unwrap()) && !one.is_for("01:00.1".parse().unwrap()));
        assert!(all.is_for("05:00.0".parse().unwrap()));
    }

    #[test]
    fn damaged_tables_are_told() {
        let whole = acpi::ivrs(&[acpi::ivhd(0x10, 0, 2, 1, &[&[2, 8, 0, 0]])]);
        assert_eq!(Ivrs::parse(&[]), Err(TableError::Signature));
        assert_eq!(Ivrs::parse(&whole[..40]), Err(TableError::CutOff(40)));
        let mut wrong = whole;
        // A device entry that reaches past its block.
        wrong[BLOCKS + ENTRIES] = 0x42;
        assert_eq!(Ivrs::parse(&wrong), Err(TableError::EntryLength(BLOCKS)));
    }

    proptest! {
        #[test]
        fn any_blocks_are_read_within_bounds(mut bytes: Vec<u8>) {
            bytes.truncate(2000);
            let table = acpi::ivrs(&[bytes]);
            if let Ok(ivrs) = Ivrs::parse(&table) {
                prop_assert!(ivrs.units.len() + ivrs.reserved.len() <= table.len() / 4);
            }
        }
    }
}
