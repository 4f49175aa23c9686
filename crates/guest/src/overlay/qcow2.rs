//! An empty qcow2 overlay, byte for byte (docs/interop/qcow2.txt of QEMU).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Clusters of 64 KiB, the size that `qemu-img` uses too.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that one entry of the first-level table stands for: as many clusters as fit
/// entries of eight bytes into one.
const PER_L1_ENTRY: u64 = CLUSTER * (CLUSTER / 8);
/// The longest name of a backing file, in bytes.
const LONGEST_NAME: usize = 1023;
const HEADER: u32 = 104;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const MAGIC: &[u8; 4] = b"QFI\xfb";

/// Returns the size of the disk in a qcow2 file, from its first 32 bytes.
pub(super) fn virtual_size(head: &[u8]) -> Option<u64> {
    let size = u64::from_be_bytes(head.get(24..32)?.try_into().ok()?);
    head.starts_with(MAGIC).then_some(size)
}

/// Returns an overlay of `size` bytes over `backing`, if the name of that fits.
///
/// The file holds the header, a table of reference counts with one block of them, and an empty
/// first-level table, each from a cluster's start on.
pub(super) fn overlay(size: u64, backing: &OsStr, format: &str) -> Option<Vec<u8>> {
    let name = backing.as_bytes();
    if name.len() > LONGEST_NAME {
        return None;
    }
    let l1_entries = size.div_ceil(PER_L1_ENTRY);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let [refcount_table, refcount_block, l1_table] = [1, 2, 3].map(|cluster| cluster * CLUSTER);

    let mut extension = BACKING_FORMAT.to_be_bytes().to_vec();
    extension.extend(u32::try_from(format.len()).ok()?.to_be_bytes());
    extension.extend(format.as_bytes());
    extension.resize(extension.len().next_multiple_of(8), 0);
    extension.extend([0; 8]);
    let name_at = u64::from(HEADER) + u64::try_from(extension.len()).ok()?;

    let mut file = MAGIC.to_vec();
    file.extend(3_u32.to_be_bytes()); // version
    file.extend(name_at.to_be_bytes());
    file.extend(u32::try_from(name.len()).ok()?.to_be_bytes());
    file.extend(CLUSTER_BITS.to_be_bytes());
    file.extend(size.to_be_bytes());
    file.extend(0_u32.to_be_bytes()); // no encryption
    file.extend(u32::try_from(l1_entries).ok()?.to_be_bytes());
    file.extend(l1_table.to_be_bytes());
    file.extend(refcount_table.to_be_bytes());
    file.extend(1_u32.to_be_bytes()); // clusters of that table
    file.extend([0; 12]); // no snapshots
    file.extend([0; 24]); // no features
    file.extend(4_u32.to_be_bytes()); // reference counts of 2^4 bits
    file.extend(HEADER.to_be_bytes());
    file.extend(extension);
    file.extend(name);

    let position = |at: u64| usize::try_from(at).ok();
    file.resize(position(refcount_table)?, 0);
    file.extend(refcount_block.to_be_bytes());
    file.resize(position(refcount_block)?, 0);
    let used = 3 + l1_clusters;
    // One block counts 2^15 clusters; no first-level table comes near.
    for _ in 0..used {
        file.extend(1_u16.to_be_bytes());
    }
    file.resize(position(l1_table)?, 0);
    file.resize(position(l1_table + l1_clusters * CLUSTER)?, 0);
    Some(file)
}
