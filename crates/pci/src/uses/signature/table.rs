//! Partition tables.

use serde::Serialize;

use super::{bytes, tidy, uuid, wide};

/// A partition table has at most this many entries, unless it was made on purpose.
const MOST: usize = 128;

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionTable {
    /// `gpt`, `dos`, `mac` or `bsd`.
    pub kind: &'static str,
    /// The partitions of a GPT; of other tables only their number matters.
    pub partitions: Vec<GptPartition>,
    /// How many partitions there are.
    pub count: usize,
}

/// One partition of a GPT (UEFI 2.10, 5.3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GptPartition {
    /// Its number, from 1.
    pub number: usize,
    /// What it is for.
    pub type_id: String,
    /// Its own id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
}

impl GptPartition {
    /// Whether it is an EFI system partition.
    pub fn is_esp(&self) -> bool {
        self.type_id == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    }
}

pub(super) fn read(head: &[u8], tail: &[u8]) -> Option<PartitionTable> {
    // A hybrid of GPT and MBR is a GPT.
    gpt(head).or_else(|| backup(tail)).or_else(|| dos(head)).or_else(|| other(head))
}

/// The header is in the second block, whose size is the disk's.
fn gpt(head: &[u8]) -> Option<PartitionTable> {
    [512, 4096].into_iter().find_map(|block| {
        let header = bytes(head, block, 92)?;
        let number = |at| Some(u32::from_le_bytes(bytes(header, at, 4)?.try_into().ok()?));
        if !header.starts_with(b"EFI PART") {
            return None;
        }
        let at = u64::from_le_bytes(bytes(header, 72, 8)?.try_into().ok()?);
        let at = usize::try_from(at).ok().and_then(|at| at.checked_mul(block));
        let (count, size) = (number(80)?, number(84)?);
        let partitions = at.map_or_else(Vec::new, |at| entries(head, at, count, size));
        Some(PartitionTable { kind: "gpt", count: partitions.len(), partitions })
    })
}

fn entries(head: &[u8], at: usize, count: u32, size: u32) -> Vec<GptPartition> {
    let (Ok(count), Ok(size)) = (usize::try_from(count), usize::try_from(size)) else {
        return Vec::new();
    };
    if !(128..=4096).contains(&size) {
        return Vec::new();
    }
    (0..count.min(MOST))
        .filter_map(|index| Some((index, bytes(head, at.checked_add(index * size)?, 128)?)))
        .filter(|(_, entry)| entry[..16] != [0; 16])
        .filter_map(|(index, entry)| {
            Some(GptPartition {
                number: index + 1,
                type_id: mixed(entry[..16].try_into().ok()?),
                id: mixed(entry[16..32].try_into().ok()?),
                name: tidy(&wide(&entry[56..], 36)),
            })
        })
        .collect()
}

/// A GUID has its first three fields in little-endian order (UEFI 2.10, appendix A).
fn mixed(mut bytes: [u8; 16]) -> String {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    uuid(&bytes)
}

/// The copy in the last block, which outlives an overwritten start.
fn backup(tail: &[u8]) -> Option<PartitionTable> {
    let has = |block: usize| {
        let at = tail.len().checked_sub(block)?;
        (bytes(tail, at, 8)? == b"EFI PART").then_some(())
    };
    has(512).or_else(|| has(4096))?;
    Some(PartitionTable { kind: "gpt", partitions: Vec::new(), count: 0 })
}

/// Four entries of 16 bytes at 0x1be (UEFI 2.10, 5.2). The signature alone is every boot sector's,
/// so each entry must look like one.
fn dos(head: &[u8]) -> Option<PartitionTable> {
    if bytes(head, 0x1fe, 2)? != [0x55, 0xaa] {
        return None;
    }
    let mut count = 0;
    for entry in bytes(head, 0x1be, 64)?.chunks_exact(16) {
        let length = u32::from_le_bytes([entry[12], entry[13], entry[14], entry[15]]);
        match (entry[0], entry[4], length) {
            (0, 0, _) => {}
            (0 | 0x80, 1.., 1..) => count += 1,
            _ => return None,
        }
    }
    (count > 0).then_some(PartitionTable { kind: "dos", partitions: Vec::new(), count })
}

/// Apple's map (Inside Macintosh: Devices, 3), and the label of the BSDs (sys/disklabel.h).
fn other(head: &[u8]) -> Option<PartitionTable> {
    let kind = match () {
        () if bytes(head, 0, 2)? == b"ER" && bytes(head, 512, 2)? == b"PM" => "mac",
        () if bytes(head, 512, 4)? == [0x57, 0x45, 0x56, 0x82] => "bsd",
        () => return None,
    };
    Some(PartitionTable { kind, partitions: Vec::new(), count: 0 })
}
