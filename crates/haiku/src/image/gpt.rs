//! The GUID partition table (UEFI 2.10, 5.3).

use std::io;

use super::source::Source;
use super::{Extent, Found, SECTOR};

/// 42465331-3BA3-10F1-802A-4861696B7521, as stored
/// (src/add-ons/kernel/partitioning_systems/gpt/gpt_known_guids.h of Haiku).
pub(super) const BFS: [u8; 16] = [
    0x31, 0x53, 0x46, 0x42, 0xa3, 0x3b, 0xf1, 0x10, 0x80, 0x2a, 0x48, 0x61, 0x69, 0x6b, 0x75, 0x21,
];
/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as stored (UEFI 2.10, 5.3.3).
pub(super) const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// Entries of a table are 128 bytes or a power of two more; nobody uses more than this.
const LARGEST_ENTRY: u32 = 4096;
/// Every tool makes 128 entries; a table of more than this is taken for damage.
const MOST_ENTRIES: u32 = 1024;

/// Reads the table in sector 1; `None` where there is none or it cannot be.
pub(super) fn read(disk: &dyn Source) -> io::Result<Option<Found>> {
    let Some(entries) = entries(disk)? else { return Ok(None) };
    let mut found = Found::default();
    for entry in entries {
        found.add(entry.extent, entry.kind == BFS, entry.kind == ESP);
    }
    Ok(Some(found))
}

/// One used entry of a table.
pub(super) struct Entry {
    /// From 1 on, by place in the table.
    pub(super) number: usize,
    pub(super) kind: [u8; 16],
    pub(super) extent: Extent,
}

/// Reads the entries of the table in sector 1; `None` where there is none or it cannot be.
pub(super) fn entries(disk: &dyn Source) -> io::Result<Option<Vec<Entry>>> {
    let header = disk.read_up_to(SECTOR, SECTOR)?;
    let Some(layout) = Layout::parse(&header) else { return Ok(None) };
    let table = disk.read_up_to(layout.start, layout.size)?;
    let mut found = Vec::new();
    for (index, entry) in table.chunks_exact(layout.entry).enumerate() {
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?))
        };
        let (Some(kind), Some(first), Some(last)) = (entry.get(..16), number(32), number(40))
        else {
            continue;
        };
        let Ok(kind) = <[u8; 16]>::try_from(kind) else { continue };
        if kind == [0; 16] || last < first {
            continue;
        }
        let extent = Extent {
            start: first.saturating_mul(SECTOR),
            size: (last - first).saturating_add(1).saturating_mul(SECTOR),
        };
        found.push(Entry { number: index + 1, kind, extent });
    }
    Ok(Some(found))
}

struct Layout {
    start: u64,
    size: u64,
    entry: usize,
}

impl Layout {
    fn parse(header: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?))
        };
        if header.get(..8)? != b"EFI PART" {
            return None;
        }
        let first = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?);
        let (count, entry) = (word(80)?, word(84)?);
        let sane = (128..=LARGEST_ENTRY).contains(&entry) && count <= MOST_ENTRIES;
        sane.then_some(Self {
            start: first.checked_mul(SECTOR)?,
            size: u64::from(count) * u64::from(entry),
            entry: usize::try_from(entry).ok()?,
        })
    }
}
