//! Images made for tests, as small as their formats allow.

use super::{Extent, SECTOR, gpt};

const MIB: usize = 1 << 20;

/// A BFS volume of `blocks` blocks of 2048 bytes: its boot block and super block.
pub(crate) fn bfs(blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(blocks * 2048).unwrap()];
    bytes[0] = 0xeb;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (at, value) in [
        (32, 0x4246_5331_u32),
        (36, 0x4249_4745),
        (40, 2048),
        (44, 11),
        (64, 2048),
        (68, 0xdd12_1031),
        (112, 0x15b6_830e),
    ] {
        bytes[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes[512 + 48..512 + 56].copy_from_slice(&blocks.to_le_bytes());
    bytes
}

/// Writes entry `index` of a master boot record.
pub(crate) fn entry(disk: &mut [u8], index: usize, active: bool, kind: u8, extent: Extent) {
    let at = 446 + 16 * index;
    disk[at] = if active { 0x80 } else { 0 };
    disk[at + 4] = kind;
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap().to_le_bytes();
    disk[at + 8..at + 12].copy_from_slice(&sectors(extent.start));
    disk[at + 12..at + 16].copy_from_slice(&sectors(extent.size));
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// A disk of `size` bytes with a BFS volume of 64 KiB at 1 MiB and the mark of code in its first
/// sector, without a partition table.
pub(crate) fn disk(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let volume = bfs(32);
    bytes[MIB..MIB + volume.len()].copy_from_slice(&volume);
    bytes[0] = 0xfa;
    bytes
}

pub(crate) const BFS: Extent = Extent { start: 1 << 20, size: 65536 };
pub(crate) const ESP: Extent = Extent { start: (1 << 20) + 65536, size: 32768 };

pub(crate) fn iso_descriptor(bytes: &mut [u8], name: &str) {
    bytes[32768] = 1;
    bytes[32769..32774].copy_from_slice(b"CD001");
    bytes[32768 + 40..32768 + 72].fill(b' ');
    bytes[32768 + 40..32768 + 40 + name.len()].copy_from_slice(name.as_bytes());
}

pub(crate) fn anyboot() -> Vec<u8> {
    let mut bytes = disk(2 * MIB);
    iso_descriptor(&mut bytes, "haiku-nightly-x86_64");
    entry(&mut bytes, 0, true, 0xeb, BFS);
    entry(&mut bytes, 1, false, 0xef, ESP);
    bytes
}

pub(crate) fn mbr() -> Vec<u8> {
    let mut bytes = disk(2 * MIB);
    entry(&mut bytes, 0, true, 0xeb, BFS);
    bytes
}

/// A disk whose BFS lies in the second of two logical partitions.
pub(crate) fn logical() -> Vec<u8> {
    let mut bytes = disk(2 * MIB);
    let sector = |at: u64| usize::try_from(at).unwrap();
    let extended = Extent { start: 4096, size: (1 << 20) + 65536 };
    let (first, second) = (extended.start, extended.start + 8192);
    entry(&mut bytes, 0, false, 0x0f, extended);
    entry(&mut bytes[sector(first)..], 0, false, 0x83, Extent { start: 512, size: 1024 });
    entry(&mut bytes[sector(first)..], 1, false, 0x05, Extent { start: 8192, size: 512 });
    let relative = Extent { start: BFS.start - second, size: BFS.size };
    entry(&mut bytes[sector(second)..], 0, false, 0xeb, relative);
    bytes
}

pub(crate) fn gpt_disk() -> Vec<u8> {
    let mut bytes = disk(2 * MIB);
    bytes[0] = 0;
    entry(&mut bytes, 0, false, 0xee, Extent { start: 512, size: 2 * (1 << 20) - 512 });
    bytes[512..520].copy_from_slice(b"EFI PART");
    bytes[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
    bytes[512 + 80..512 + 84].copy_from_slice(&128_u32.to_le_bytes());
    bytes[512 + 84..512 + 88].copy_from_slice(&128_u32.to_le_bytes());
    for (index, kind, extent) in [(0, gpt::ESP, ESP), (3, gpt::BFS, BFS)] {
        let at = 1024 + 128 * index;
        bytes[at..at + 16].copy_from_slice(&kind);
        let first = extent.start / SECTOR;
        let last = first + extent.size / SECTOR - 1;
        bytes[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        bytes[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
    }
    bytes
}

pub(crate) fn vmdk() -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    bytes[..4].copy_from_slice(b"KDMV");
    bytes[4] = 1;
    let descriptor = "# Disk Descriptor File\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\n# Extent Description\nRW 4032 FLAT \"haiku.vmdk\" 128\n\
        # Disk Data Base\nddb.adapterType = \"ide\"\n";
    bytes[512..512 + descriptor.len()].copy_from_slice(descriptor.as_bytes());
    bytes.extend(bfs(32));
    bytes
}

/// A qcow2 file of 512-byte clusters with one cluster of a disk of 1 KiB: header, refcount table and
/// block, L1 and L2 table, data.
pub(crate) fn qcow2(version: u32) -> Vec<u8> {
    let mut bytes = vec![0; 6 * 512];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    let mut word = |at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    };
    word(4, version);
    word(20, 9);
    word(28, 1024);
    word(36, 1);
    word(44, 3 * 512);
    word(52, 512);
    word(56, 1);
    if version > 2 {
        word(96, 4);
        word(100, 104);
    }
    // The entries, each with the flag that only one refers to it where there is one.
    word(512 + 4, 2 * 512);
    word(3 * 512, 1 << 31);
    word(3 * 512 + 4, 4 * 512);
    word(4 * 512, 1 << 31);
    word(4 * 512 + 4, 5 * 512);
    bytes
}
