//! VMware disks whose sectors follow the header in the same file.
//!
//! That is what Haiku's own tool makes (src/tools/vmdkimage of Haiku): a sparse-extent header with
//! no capacity, a descriptor in the second sector, and one flat extent that names the file itself
//! and the sector at which the disk begins. The name is ignored here, for such a file is renamed
//! as any other.

use super::SECTOR;

/// The first four bytes of a sparse-extent header ("Virtual Disk Format 5.0", VMware).
pub(super) const MAGIC: &[u8] = b"KDMV";
/// The first bytes of a descriptor in a file of its own.
pub(super) const DESCRIPTOR: &[u8] = b"# Disk DescriptorFile";
/// The largest header that is believed, in bytes; the published images use 64 KiB.
const LARGEST_HEADER: u64 = 1 << 30;

/// Returns where the disk begins, in bytes, if it lies in this file in one piece.
pub(super) fn flat_header(head: &[u8]) -> Option<u64> {
    if !head.starts_with(MAGIC) || head.get(12..20)? != [0; 8] {
        return None;
    }
    let descriptor = head.get(512..1024)?;
    let end = descriptor.iter().position(|byte| *byte == 0).unwrap_or(descriptor.len());
    let text = std::str::from_utf8(&descriptor[..end]).ok()?;
    if !text.lines().any(|line| line.trim() == "createType=\"monolithicFlat\"") {
        return None;
    }
    let mut extents = text.lines().filter(|line| line.starts_with("RW "));
    let (extent, None) = (extents.next()?, extents.next()) else { return None };
    let (_, rest) = extent.split_once("FLAT \"")?;
    let sector: u64 = rest.rsplit_once('"')?.1.trim().parse().ok()?;
    let start = sector.checked_mul(SECTOR)?;
    (2 * SECTOR..=LARGEST_HEADER).contains(&start).then_some(start)
}
