//! What the first and last bytes of a disk or partition say that it holds.
//!
//! Only enough is recognised to tell a person what would be lost. Whatever is not recognised but
//! is not blank either is data of an unknown kind, so that a gap here loses nothing.

mod table;

pub use table::{GptPartition, PartitionTable};

use serde::Serialize;

/// How much is looked at from the start of a device, in bytes: the superblock that lies furthest
/// in is VMFS's at 1 MiB.
pub(super) const HEAD: usize = (1 << 20) + (64 << 10);
/// How much is looked at from its end, in bytes: two labels of ZFS and the metadata of firmware
/// RAID lie there.
pub(super) const TAIL: usize = 1 << 20;

/// The kind of what a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureKind {
    /// A file system.
    FileSystem,
    /// Swap space.
    Swap,
    /// Encrypted data.
    Encrypted,
    /// One member of a RAID, a volume group or a pool.
    Member,
}

/// One recognised signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// What kind of thing it is.
    pub kind: SignatureKind,
    /// What it is, in the words of `blkid` where that has one.
    pub what: String,
    /// Its label, or the name of the pool that it is a member of.
    pub label: Option<String>,
    /// Its UUID, with hyphens.
    pub uuid: Option<String>,
}

/// The two ends of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    /// Its first bytes, at most [`HEAD`].
    pub head: &'a [u8],
    /// Its last bytes, at most [`TAIL`].
    pub tail: &'a [u8],
    /// Its size, in bytes.
    pub size: u64,
}

impl Ends<'_> {
    /// Whether nothing was ever written, as far as can be seen: flash that was erased reads as all
    /// ones, a disk that was as all zeros.
    pub fn are_blank(&self) -> bool {
        let all = |byte: u8| {
            self.head.iter().all(|other| *other == byte)
                && self.tail.iter().all(|other| *other == byte)
        };
        all(0) || all(0xff)
    }

    /// Returns the signatures of whatever fills the whole device.
    pub fn signatures(&self) -> Vec<Signature> {
        let mut found: Vec<_> = MAGICS
            .iter()
            .filter(|magic| bytes(self.head, magic.at, magic.bytes.len()) == Some(magic.bytes))
            .map(|magic| magic.signature(self.head))
            .collect();
        found.dedup_by(|one, other| one.what == other.what);
        found.extend(fat(self.head));
        found.extend(swap(self.head));
        found.extend(zfs(self.head, self.tail));
        found.extend(self.raid_at_end());
        found
    }

    /// Returns the partition table.
    pub fn table(&self) -> Option<PartitionTable> {
        table::read(self.head, self.tail)
    }

    /// RAID metadata that lies at the end, so that the start looks like a file system of its own.
    fn raid_at_end(&self) -> Option<Signature> {
        let from_end = |back: u64, length: usize| {
            let back = usize::try_from(back).ok()?;
            bytes(self.tail, self.tail.len().checked_sub(back)?, length)
        };
        let sectors = self.size / 512;
        // drivers/md/md.c, super_1_load and calc_dev_sboffset: whole 4 KiB, at least 8 KiB before
        // the end; and 64 KiB blocks for the old format.
        let new = sectors.checked_sub(16).map(|at| self.size - (at & !7) * 512);
        let old = (self.size & !0xffff).checked_sub(0x1_0000).map(|at| self.size - at);
        for back in [new, old].into_iter().flatten() {
            if from_end(back, 4) == Some(&MD) {
                return Some(member("linux_raid_member"));
            }
        }
        // dmraid, lib/format/ataraid/isw.h: the last sector but one.
        if from_end(1024, 24) == Some(b"Intel Raid ISM Cfg Sig. ") {
            return Some(member("isw_raid_member"));
        }
        // SNIA Common RAID Disk Data Format 2.0, 4.1: the anchor header in the last sector.
        (from_end(512, 4) == Some(&[0xde, 0x11, 0xde, 0x11])).then(|| member("ddf_raid_member"))
    }
}

/// Where a label or UUID lies.
#[derive(Clone, Copy)]
enum At {
    Nowhere,
    /// Text of at most so many bytes, up to a zero.
    Text(usize, usize),
    /// UTF-16, little-endian, of at most so many units.
    Wide(usize, usize),
    /// 16 bytes in the order in which a UUID is written.
    Uuid(usize),
}

struct Magic {
    what: &'static str,
    kind: SignatureKind,
    at: usize,
    bytes: &'static [u8],
    label: At,
    uuid: At,
}

impl Magic {
    const fn new(what: &'static str, kind: SignatureKind, at: usize, bytes: &'static [u8]) -> Self {
        Self { what, kind, at, bytes, label: At::Nowhere, uuid: At::Nowhere }
    }

    const fn named(mut self, label: At, uuid: At) -> Self {
        self.label = label;
        self.uuid = uuid;
        self
    }

    fn signature(&self, head: &[u8]) -> Signature {
        let what = if self.what == "ext2" { ext(head) } else { self.what };
        Signature {
            kind: self.kind,
            what: what.to_owned(),
            label: self.label.read(head),
            uuid: self.uuid.read(head),
        }
    }
}

const MD: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];
const BCACHE: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];
const BCACHEFS: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
];

/// Signatures at a fixed offset. Sources, unless a line says otherwise: the file system's header in
/// the kernel (fs/*/), and its magic(5) entry where the kernel has none.
static MAGICS: &[Magic] = &{
    use SignatureKind::{Encrypted, FileSystem, Member};
    [
        Magic::new("ext2", FileSystem, 0x438, &[0x53, 0xef])
            .named(At::Text(0x478, 16), At::Uuid(0x468)),
        Magic::new("btrfs", FileSystem, 0x1_0040, b"_BHRfS_M")
            .named(At::Text(0x1_012b, 256), At::Uuid(0x1_0020)),
        Magic::new("xfs", FileSystem, 0, b"XFSB").named(At::Text(0x6c, 12), At::Uuid(0x20)),
        Magic::new("bcachefs", FileSystem, 0x1018, &BCACHEFS)
            .named(At::Text(0x1048, 32), At::Uuid(0x1038)),
        Magic::new("bcache", Member, 0x1018, &BCACHE),
        Magic::new("f2fs", FileSystem, 0x400, &[0x10, 0x20, 0xf5, 0xf2])
            .named(At::Wide(0x47c, 512), At::Uuid(0x46c)),
        Magic::new("nilfs2", FileSystem, 0x406, &[0x34, 0x34]),
        Magic::new("reiserfs", FileSystem, 0x1_0034, b"ReIsEr")
            .named(At::Text(0x1_0064, 16), At::Uuid(0x1_0054)),
        Magic::new("jfs", FileSystem, 0x8000, b"JFS1"),
        Magic::new("gfs2", FileSystem, 0x1_0000, &[0x01, 0x16, 0x19, 0x70]),
        Magic::new("squashfs", FileSystem, 0, b"hsqs"),
        Magic::new("erofs", FileSystem, 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
        // The boot sectors: [MS-exFAT] 3.1.2; NTFS, ReFS and BitLocker by their OEM names.
        Magic::new("exfat", FileSystem, 3, b"EXFAT   "),
        Magic::new("ntfs", FileSystem, 3, b"NTFS    "),
        Magic::new("ReFS", FileSystem, 3, b"ReFS\0\0\0\0"),
        Magic::new("BitLocker", Encrypted, 3, b"-FVE-FS-"),
        // Giampaolo, Practical File System Design, 4: the superblock is in the second sector.
        Magic::new("befs", FileSystem, 0x220, b"1SFB").named(At::Text(0x200, 32), At::Nowhere),
        Magic::new("hfsplus", FileSystem, 0x400, b"H+"),
        Magic::new("hfsplus", FileSystem, 0x400, b"HX"),
        Magic::new("hfs", FileSystem, 0x400, b"BD"),
        // Apple File System Reference, nx_superblock_t.
        Magic::new("apfs", FileSystem, 0x20, b"NXSB").named(At::Nowhere, At::Uuid(0x48)),
        // ECMA-119, 8.4; ECMA-167, 2/9.
        Magic::new("iso9660", FileSystem, 0x8001, b"CD001")
            .named(At::Text(0x8028, 32), At::Nowhere),
        Magic::new("udf", FileSystem, 0x8001, b"BEA01"),
        Magic::new("VMFS", FileSystem, 0x10_0000, &[0x0d, 0xd0, 0x01, 0xc0]),
        // LUKS On-Disk Format 1.2.3, 5, and LUKS2 1.1.3, 2.1, whose second header lies further in.
        Magic::new("crypto_LUKS", Encrypted, 0, b"LUKS\xba\xbe\x00\x01")
            .named(At::Nowhere, At::Text(0xa8, 40)),
        Magic::new("crypto_LUKS", Encrypted, 0, b"LUKS\xba\xbe\x00\x02")
            .named(At::Text(0x18, 48), At::Text(0xa8, 40)),
        Magic::new("crypto_LUKS", Encrypted, 0x4000, b"SKUL\xba\xbe"),
        Magic::new("crypto_LUKS", Encrypted, 0x8000, b"SKUL\xba\xbe"),
        Magic::new("crypto_LUKS", Encrypted, 0x1_0000, b"SKUL\xba\xbe"),
        // LVM2, lib/label/label.h: a label in one of the first four sectors.
        Magic::new("LVM2_member", Member, 0x018, b"LVM2 001"),
        Magic::new("LVM2_member", Member, 0x218, b"LVM2 001"),
        Magic::new("LVM2_member", Member, 0x418, b"LVM2 001"),
        Magic::new("LVM2_member", Member, 0x618, b"LVM2 001"),
        // include/uapi/linux/raid/md_p.h: metadata 1.1 and 1.2.
        Magic::new("linux_raid_member", Member, 0, &MD).named(At::Text(0x20, 32), At::Uuid(0x10)),
        Magic::new("linux_raid_member", Member, 0x1000, &MD)
            .named(At::Text(0x1020, 32), At::Uuid(0x1010)),
        Magic::new("ceph_bluestore", Member, 0, b"bluestore block device"),
        Magic::new("stratis", Member, 0x204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    ]
};

impl At {
    fn read(self, head: &[u8]) -> Option<String> {
        let text = match self {
            Self::Nowhere => return None,
            Self::Text(at, most) => {
                let bytes = head.get(at..)?;
                let bytes = &bytes[..bytes.len().min(most)];
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            }
            Self::Wide(at, most) => wide(head.get(at..)?, most),
            Self::Uuid(at) => {
                let bytes: [u8; 16] = bytes(head, at, 16)?.try_into().ok()?;
                return (bytes != [0; 16]).then(|| uuid(&bytes));
            }
        };
        tidy(&text)
    }
}

/// Text from a disk, fit to print.
fn tidy(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn wide(bytes: &[u8], most: usize) -> String {
    let units: Vec<_> = bytes
        .chunks_exact(2)
        .take(most)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

fn member(what: &str) -> Signature {
    Signature { kind: SignatureKind::Member, what: what.to_owned(), label: None, uuid: None }
}

/// Which of the ext family: by the features that only the later ones have (fs/ext4/ext4.h).
fn ext(head: &[u8]) -> &'static str {
    let word = |at| {
        bytes(head, at, 4)
            .map_or(0, |word| word.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)))
    };
    let (compatible, incompatible) = (word(0x45c), word(0x460));
    // Extents, 64 bits, flexible groups.
    if incompatible & (0x40 | 0x80 | 0x200) != 0 {
        "ext4"
    } else if compatible & 0x4 != 0 {
        "ext3"
    } else {
        "ext2"
    }
}

/// FAT has no magic but its name in the boot sector, and a signature shared with partition tables
/// (Microsoft FAT specification, 3).
fn fat(head: &[u8]) -> Option<Signature> {
    let named = |at: usize| bytes(head, at, 8);
    let label = match (named(0x36)?, named(0x52)?) {
        (b"FAT12   " | b"FAT16   " | b"FAT     ", _) => At::Text(0x2b, 11),
        (_, b"FAT32   ") => At::Text(0x47, 11),
        _ => return None,
    };
    (bytes(head, 0x1fe, 2)? == [0x55, 0xaa]).then(|| Signature {
        kind: SignatureKind::FileSystem,
        what: "vfat".to_owned(),
        label: label.read(head).filter(|label| label != "NO NAME"),
        uuid: None,
    })
}

/// Swap space has its magic at the end of the first page (include/linux/swap.h), whose size is the
/// machine's.
fn swap(head: &[u8]) -> Option<Signature> {
    let is_swap =
        |page: &usize| matches!(bytes(head, page - 10, 10), Some(b"SWAPSPACE2" | b"SWAP-SPACE"));
    [4096, 8192, 16384, 65536].iter().find(|page| is_swap(page)).map(|_| Signature {
        kind: SignatureKind::Swap,
        what: "swap".to_owned(),
        label: At::Text(0x41c, 16).read(head),
        uuid: At::Uuid(0x40c).read(head),
    })
}

/// ZFS has two labels of 256 KiB at each end, each with 128 uberblocks of at least 1 KiB from
/// 128 KiB on, in the byte order of the machine that wrote them, and a name-value list from 16 KiB
/// on that names the pool (ZFS On-Disk Specification, 1.2 and 1.3).
fn zfs(head: &[u8], tail: &[u8]) -> Option<Signature> {
    const LABEL: usize = 256 << 10;
    const MAGIC: u64 = 0x00ba_b10c;
    let labels = [(head, 0), (head, LABEL)];
    let ends = [2, 1].map(|back| (tail, tail.len().saturating_sub(back * LABEL)));
    labels.into_iter().chain(ends).find_map(|(bytes, at)| {
        let label = bytes.get(at..at.checked_add(LABEL)?)?;
        let has_uberblock = label[LABEL / 2..].chunks_exact(1024).any(|block| {
            block.starts_with(&MAGIC.to_le_bytes()) || block.starts_with(&MAGIC.to_be_bytes())
        });
        has_uberblock.then(|| Signature {
            label: pool_name(&label[16 << 10..LABEL / 2]),
            ..member("zfs_member")
        })
    })
}

/// Finds the string `name` in an XDR name-value list: the length of the key, the key, the type of
/// a string (9), one element, the length of the value, the value; all padded to four bytes.
fn pool_name(list: &[u8]) -> Option<String> {
    const PAIR: &[u8] = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01";
    let at = list.windows(PAIR.len()).position(|window| window == PAIR)? + PAIR.len();
    let length = u32::from_be_bytes(bytes(list, at, 4)?.try_into().ok()?);
    // spa(9): a pool's name is shorter than 256 bytes.
    let length = usize::try_from(length).ok().filter(|length| *length < 256)?;
    tidy(&String::from_utf8_lossy(bytes(list, at + 4, length)?))
}

fn bytes(all: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    all.get(at..at.checked_add(length)?)
}

#[cfg(test)]
mod tests;
