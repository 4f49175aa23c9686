//! The master boot record and its chain of extended ones.

use std::io;

use super::source::Source;
use super::{Extent, Found, SECTOR};

/// Type of a BFS partition (src/add-ons/kernel/partitioning_systems/intel/PartitionMap.cpp of
/// Haiku).
pub(super) const BFS: u8 = 0xeb;
/// Type of an EFI system partition (UEFI 2.10, 5.2.2).
pub(super) const ESP: u8 = 0xef;
/// Type of the one entry that protects a GUID partition table (UEFI 2.10, 5.2.3).
pub(super) const PROTECTIVE: u8 = 0xee;
/// Types of extended partitions, by cylinders or by sectors.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Where the four entries of 16 bytes begin; what is before them is code.
const TABLE: usize = 446;
/// A chain of logical partitions longer than this is taken for damage.
const MOST_LOGICAL: usize = 64;

/// One used entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As everybody counts: 1 to 4 by place in the record, from 5 on along the chain.
    pub(super) number: usize,
    pub(super) kind: u8,
    pub(super) active: bool,
    pub(super) extent: Extent,
}

/// Whether a sector carries the signature of a boot sector.
pub(super) fn is_signed(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(&[0x55, 0xaa])
}

/// Whether a boot sector holds code: a signature and more than zeros before the table.
pub(super) fn has_code(sector: &[u8]) -> bool {
    is_signed(sector) && sector.iter().take(TABLE).any(|byte| *byte != 0)
}

/// Reads the table in `sector`, the disk's first, and the logical partitions that it leads to.
pub(super) fn read(disk: &dyn Source, sector: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = entries(sector, 0);
    let Some(extended) = entries.iter().find(|entry| EXTENDED.contains(&entry.kind)).copied()
    else {
        return Ok(entries);
    };
    entries.retain(|entry| !EXTENDED.contains(&entry.kind));
    let base = extended.extent.start;
    let mut at = base;
    let mut logicals = 0;
    for _ in 0..MOST_LOGICAL {
        let sector = disk.read_up_to(at, SECTOR)?;
        if !is_signed(&sector) {
            break;
        }
        let (links, logical): (Vec<_>, Vec<_>) =
            self::entries(&sector, at).into_iter().partition(|e| EXTENDED.contains(&e.kind));
        for entry in logical {
            logicals += 1;
            entries.push(Entry { number: 4 + logicals, ..entry });
        }
        // A link counts from the start of the extended partition, a partition from its own record.
        match links.first() {
            Some(link) => at = base.saturating_add(link.extent.start.saturating_sub(at)),
            None => break,
        }
    }
    Ok(entries)
}

fn entries(sector: &[u8], base: u64) -> Vec<Entry> {
    let table = sector.get(TABLE..510).unwrap_or_default();
    let entry = |(index, bytes): (usize, &[u8])| -> Option<Entry> {
        let number = |at: usize| -> Option<u64> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?).into())
        };
        let (kind, sectors) = (*bytes.get(4)?, number(12)?);
        (kind != 0 && sectors != 0).then_some(Entry {
            number: index + 1,
            kind,
            active: *bytes.first()? == 0x80,
            extent: Extent {
                start: base.saturating_add(number(8)? * SECTOR),
                size: sectors * SECTOR,
            },
        })
    };
    table.chunks_exact(16).enumerate().filter_map(entry).collect()
}

/// Picks the partitions that matter.
pub(super) fn pick(entries: &[Entry]) -> Found {
    let mut found = Found::default();
    for entry in entries {
        found.add(entry.extent, entry.kind == BFS, entry.kind == ESP);
    }
    found
}
