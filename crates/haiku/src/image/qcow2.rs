//! The header of a qcow2 file and the tables behind it (docs/interop/qcow2.txt of QEMU), as far as
//! they show whether the file is whole.

use std::io;

use super::Source;

/// The first four bytes.
pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// The bits of a table's entry that are an offset in the file; the others are flags.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The bit of an entry of an L2 table that marks a compressed cluster, whose offset is another.
const COMPRESSED: u64 = 1 << 62;
/// The bit of the incompatible features of a file whose reference counts are not kept right while
/// it is open: nobody closed it.
const DIRTY: u64 = 1;
/// The bit of the incompatible features of a file in which QEMU found contradictions.
const CORRUPT: u64 = 1 << 1;
/// The bit of the incompatible features that says that data is in a file of its own.
const EXTERNAL_DATA: u64 = 1 << 2;
/// The bit of the incompatible features that says that clusters are compressed by something else
/// than zlib.
const COMPRESSION: u64 = 1 << 3;
/// The bit of the incompatible features that doubles the entries of L2 tables.
const EXTENDED_L2: u64 = 1 << 4;
/// The largest L1 table that QEMU itself takes, in bytes (block/qcow2.h, QCOW_MAX_L1_SIZE).
const L1_LIMIT: u64 = 32 << 20;
/// The largest table of reference counts that QEMU itself takes, in bytes (block/qcow2.h,
/// QCOW_MAX_REFTABLE_SIZE).
const REFCOUNTS_LIMIT: u64 = 8 << 20;
/// How many bytes of L2 tables are looked at, enough for a disk of 2 TiB with the usual clusters.
const L2_LIMIT: u64 = 256 << 20;
/// The bit of an entry of an L2 table, since version 3, of a cluster that reads as zeros.
const ZERO: u64 = 1;
/// How many bytes of tables are read at a time.
const CHUNK: u64 = 64 << 10;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) has_backing: bool,
    pub(super) has_external_data: bool,
    pub(super) virtual_size: u64,
    cluster_bits: u32,
    l1_entries: u64,
    l1: u64,
    refcounts: u64,
    refcount_clusters: u64,
    features: u64,
    is_encrypted: bool,
}

impl Header {
    /// Parses the header; the error says what is wrong.
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let cut = "its qcow2 header is cut off";
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?))
        };
        let long = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?))
        };
        let version = word(4).ok_or(cut)?;
        if !matches!(version, 2 | 3) {
            return Err("its qcow2 version is neither 2 nor 3");
        }
        // Version 3 headers are at least 104 bytes, those of version 2 are 72.
        let length = if version == 2 { 72 } else { 104 };
        if head.len() < length {
            return Err(cut);
        }
        let features = if version == 2 { 0 } else { long(72).ok_or(cut)? };
        let header = Self {
            version,
            has_backing: long(8).ok_or(cut)? != 0,
            has_external_data: features & EXTERNAL_DATA != 0,
            virtual_size: long(24).ok_or(cut)?,
            cluster_bits: word(20).ok_or(cut)?,
            l1_entries: word(36).ok_or(cut)?.into(),
            l1: long(40).ok_or(cut)?,
            refcounts: long(48).ok_or(cut)?,
            refcount_clusters: word(56).ok_or(cut)?.into(),
            features,
            is_encrypted: word(32).ok_or(cut)? != 0,
        };
        if header.virtual_size == 0 {
            return Err("its qcow2 header describes a disk of no size");
        }
        if !(9..=21).contains(&header.cluster_bits) {
            return Err("its qcow2 header gives clusters of a size that cannot be");
        }
        // A table that covers less than the disk would make QEMU refuse the file.
        let covered =
            header.cluster().saturating_mul(header.per_l2()).saturating_mul(header.l1_entries);
        if covered < header.virtual_size || header.l1_entries * 8 > L1_LIMIT {
            return Err("its qcow2 header gives a table that does not fit the disk");
        }
        if header.refcount_clusters.saturating_mul(header.cluster()) > REFCOUNTS_LIMIT {
            return Err("its qcow2 header gives a table of reference counts that is too large");
        }
        let aligned = |at: u64| at != 0 && at.is_multiple_of(header.cluster());
        if !aligned(header.l1) || !aligned(header.refcounts) || header.refcount_clusters == 0 {
            return Err("its qcow2 header gives tables at places where none can be");
        }
        Ok(header)
    }

    /// The bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns why the disk cannot be read here, if so.
    pub(super) fn unreadable(&self) -> Option<&'static str> {
        match self.features {
            _ if self.is_encrypted => Some("it is encrypted"),
            bits if bits & EXTERNAL_DATA != 0 => Some("its data is in another file"),
            bits if bits & EXTENDED_L2 != 0 => Some("it has clusters in parts (extended_l2)"),
            bits if bits & COMPRESSION != 0 => Some("it is compressed by something else than zlib"),
            bits if bits & CORRUPT != 0 => Some("QEMU marked it as damaged"),
            bits if bits & DIRTY != 0 => Some("whoever had it open last did not close it"),
            0 => None,
            _ => Some("it has features that are not known here"),
        }
    }

    /// The entries of an L2 table.
    fn per_l2(&self) -> u64 {
        self.cluster() / self.l2_entry()
    }

    /// The bytes of an entry of an L2 table.
    fn l2_entry(&self) -> u64 {
        if self.features & EXTENDED_L2 != 0 { 16 } else { 8 }
    }

    /// Returns where in the file the last thing ends that the tables lead to: each table, and each
    /// cluster of the disk as far as the guest sees it. Compressed clusters must begin in the file.
    pub(super) fn end(&self, file: &dyn Source, size: u64) -> io::Result<u64> {
        let counts = self.refcount_clusters.saturating_mul(self.cluster());
        let mut end = self.refcounts.saturating_add(counts);
        end = end.max(self.l1.saturating_add(self.l1_entries * 8));
        if end > size {
            return Ok(end);
        }
        entries(file, self.refcounts, counts, 8, &mut |_, entry| {
            end = end.max(end_of(entry & OFFSET, self.cluster()));
        })?;
        let mut tables = Vec::new();
        entries(file, self.l1, self.l1_entries * 8, 8, &mut |index, entry| {
            if entry & OFFSET != 0 {
                tables.push((entry & OFFSET, index));
            }
        })?;
        tables.sort_unstable();
        tables.dedup_by_key(|(table, _)| *table);
        let most = usize::try_from(L2_LIMIT / self.cluster()).unwrap_or(usize::MAX);
        for (table, index) in tables.into_iter().take(most) {
            end = end.max(end_of(table, self.cluster()));
            if end > size {
                return Ok(end);
            }
            let first = index.saturating_mul(self.per_l2());
            entries(file, table, self.cluster(), self.l2_entry(), &mut |index, entry| {
                let place = first.saturating_add(index).saturating_mul(self.cluster());
                let seen = self.virtual_size.saturating_sub(place).min(self.cluster());
                end = end.max(self.end_of_cluster(entry, seen));
            })?;
        }
        Ok(end)
    }

    fn end_of_cluster(&self, entry: u64, seen: u64) -> u64 {
        if entry & COMPRESSED != 0 {
            // The offset is in the low bits; how many they are depends on the clusters' size.
            let bits = 62 - (self.cluster_bits - 8);
            return end_of(entry & ((1 << bits) - 1), 1);
        }
        if entry & ZERO != 0 && self.version > 2 { 0 } else { end_of(entry & OFFSET, seen) }
    }
}

fn end_of(start: u64, length: u64) -> u64 {
    if start == 0 { 0 } else { start.saturating_add(length) }
}

/// Reads a table of big-endian entries of `width` bytes, of which the first eight count, and calls
/// `each` with the number and the value of each.
fn entries(
    file: &dyn Source,
    start: u64,
    length: u64,
    width: u64,
    each: &mut dyn FnMut(u64, u64),
) -> io::Result<()> {
    let mut at = 0;
    let mut index = 0;
    let step = usize::try_from(width).map_err(|_| io::ErrorKind::InvalidInput)?;
    while at < length {
        let bytes = file.read_up_to(start.saturating_add(at), CHUNK.min(length - at))?;
        if bytes.is_empty() {
            return Ok(());
        }
        for entry in bytes.chunks_exact(step) {
            if let Some(value) = entry.first_chunk() {
                each(index, u64::from_be_bytes(*value));
            }
            index += 1;
        }
        at += CHUNK;
    }
    Ok(())
}
