use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Size of a device, in bytes: its two ends lie apart.
const SIZE: usize = 5 << 19;

/// A device that is blank but for these bytes.
fn device(writes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (at, value) in writes {
        bytes[*at..*at + value.len()].copy_from_slice(value);
    }
    bytes
}

fn with_ends<T>(bytes: &[u8], f: impl FnOnce(Ends<'_>) -> T) -> T {
    let head = &bytes[..bytes.len().min(HEAD)];
    let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
    f(Ends { head, tail, size: u64::try_from(bytes.len()).unwrap() })
}

fn brief(bytes: &[u8]) -> String {
    let found = with_ends(bytes, |ends| ends.signatures());
    let names: Vec<_> = found
        .iter()
        .map(|found| match &found.label {
            Some(label) => format!("{} \"{label}\"", found.what),
            None => found.what.clone(),
        })
        .collect();
    names.join(", ")
}

#[test]
fn each_signature_is_found_where_it_lies() {
    for magic in MAGICS {
        let found = brief(&device(&[(magic.at, magic.bytes)]));
        assert_eq!(found, magic.what, "at {:#x}", magic.at);
        // One byte off is not it.
        let mut spoilt = magic.bytes.to_vec();
        spoilt[0] ^= 0x80;
        assert_eq!(brief(&device(&[(magic.at, &spoilt)])), "", "at {:#x}", magic.at);
    }
}

#[test]
fn labels_and_ids_are_read() {
    for (writes, expected) in [
        (vec![(0x438, &b"\x53\xef"[..]), (0x478, b"data")], "ext2 \"data\""),
        (vec![(0x438, b"\x53\xef"), (0x45c, b"\x04")], "ext3"),
        (vec![(0x438, b"\x53\xef"), (0x460, b"\x40")], "ext4"),
        (vec![(0x220, b"1SFB"), (0x200, b"Haiku")], "befs \"Haiku\""),
        (vec![(0x1fe, b"\x55\xaa"), (0x52, b"FAT32   "), (0x47, b"EFI        ")], "vfat \"EFI\""),
        (vec![(0x1fe, b"\x55\xaa"), (0x36, b"FAT16   "), (0x2b, b"NO NAME    ")], "vfat"),
        (vec![(0x52, b"FAT32   ")], ""),
        (vec![(0xff6, b"SWAPSPACE2"), (0x41c, b"swap\x1b[2J")], "swap \"swap[2J\""),
        (vec![(0xfff6, b"SWAP-SPACE")], "swap"),
        (vec![(0, b"LUKS\xba\xbe\x00\x02"), (0x18, b"root")], "crypto_LUKS \"root\""),
        (vec![(0, b"LUKS\xba\xbe\x00\x03")], ""),
    ] {
        assert_eq!(brief(&device(&writes)), expected);
    }
    let bytes = device(&[(0x438, b"\x53\xef"), (0x468, b"0123456789abcdef")]);
    let found = with_ends(&bytes, |ends| ends.signatures());
    assert_eq!(found[0].uuid.as_deref(), Some("30313233-3435-3637-3839-616263646566"));
}

#[test]
fn members_of_raids_and_pools_are_found_at_the_end() {
    let size = SIZE;
    let pair = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0\x04tank";
    for (at, magic, expected) in [
        // Metadata 1.0 and 0.90.
        (size - 8192, &MD[..], "linux_raid_member"),
        (size - (64 << 10), &MD, "linux_raid_member"),
        (size - 1024, b"Intel Raid ISM Cfg Sig. ", "isw_raid_member"),
        (size - 512, &[0xde, 0x11, 0xde, 0x11], "ddf_raid_member"),
    ] {
        assert_eq!(brief(&device(&[(at, magic)])), expected, "{at:#x}");
    }
    for label in [0, 256 << 10, size - (512 << 10), size - (256 << 10)] {
        let uberblock = label + (128 << 10) + 3 * 1024;
        let little =
            device(&[(uberblock, b"\x0c\xb1\xba\0\0\0\0\0"), (label + (16 << 10) + 60, pair)]);
        assert_eq!(brief(&little), "zfs_member \"tank\"");
        let big = device(&[(uberblock, b"\0\0\0\0\0\xba\xb1\x0c")]);
        assert_eq!(brief(&big), "zfs_member");
    }
}

#[test]
fn partition_tables_are_told_apart() {
    let table = |bytes: &[u8]| with_ends(bytes, |ends| ends.table());
    let entry = b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0";
    let dos = device(&[(0x1fe, b"\x55\xaa"), (0x1be, entry)]);
    assert_eq!(table(&dos).map(|table| (table.kind, table.count)), Some(("dos", 1)));
    // A boot sector without entries, and one whose code lies where entries would.
    assert_eq!(table(&device(&[(0x1fe, b"\x55\xaa")])), None);
    assert_eq!(table(&device(&[(0x1fe, b"\x55\xaa"), (0x1be, b"\x33\xc0\x8e\xd8")])), None);

    let esp = b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b0123456789abcdef";
    for block in [512, 4096] {
        let gpt = device(&[
            (block, b"EFI PART"),
            (block + 72, b"\x02"),
            (block + 80, b"\x80"),
            (block + 84, b"\x80"),
            (2 * block + 128, esp),
            (2 * block + 128 + 56, b"E\0S\0P\0"),
        ]);
        let found = table(&gpt).unwrap();
        assert_eq!((found.kind, found.count), ("gpt", 1));
        assert!(found.partitions[0].is_esp());
        assert_eq!(found.partitions[0].number, 2);
        assert_eq!(found.partitions[0].id, "33323130-3534-3736-3839-616263646566");
        assert_eq!(found.partitions[0].name.as_deref(), Some("ESP"));
    }
    let backup = device(&[(SIZE - 512, b"EFI PART")]);
    assert_eq!(table(&backup).map(|table| table.kind), Some("gpt"));
    let mac = device(&[(0, b"ER"), (512, b"PM")]);
    assert_eq!(table(&mac).map(|table| table.kind), Some("mac"));
}

#[test]
fn only_a_blank_device_is_blank() {
    assert!(with_ends(&device(&[]), |ends| ends.are_blank()));
    assert!(with_ends(&vec![0xff; 1 << 20], |ends| ends.are_blank()));
    for at in [0, HEAD - 1, SIZE - 1] {
        assert!(!with_ends(&device(&[(at, b"x")]), |ends| ends.are_blank()), "{at:#x}");
    }
}

/// What tools write, on a machine that has them.
#[test]
fn agrees_with_the_tools_that_make_file_systems() {
    for (program, arguments, expected) in [
        ("mkfs.ext4", &["-q", "-F", "-L", "data"][..], "ext4 \"data\""),
        ("mkfs.ext2", &["-q", "-F", "-L", "old"], "ext2 \"old\""),
        ("mkswap", &["-L", "pages"], "swap \"pages\""),
        ("mkfs.vfat", &["-n", "ESP"], "vfat \"ESP\""),
        ("mkfs.btrfs", &["-q", "-L", "pool"], "btrfs \"pool\""),
        ("mkfs.xfs", &["-q", "-L", "big"], "xfs \"big\""),
    ] {
        let program = ["/usr/sbin", "/sbin", "/usr/bin"]
            .into_iter()
            .map(|directory| PathBuf::from(directory).join(program))
            .find(|path| path.exists());
        let Some(program) = program else { continue };
        let file = tempfile::NamedTempFile::new().unwrap();
        // XFS wants 300 MiB; the file is sparse.
        file.as_file().set_len(320 << 20).unwrap();
        let made = Command::new(&program).args(arguments).arg(file.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // All that is looked at here lies at the start.
        let mut head = vec![0; HEAD];
        file.as_file().read_exact_at(&mut head, 0).unwrap();
        assert_eq!(brief(&head), expected, "{}", program.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_looked_at_within_bounds(
        writes in proptest::collection::vec((0usize..300_000, any::<[u8; 16]>()), 0..20),
        magic in 0..MAGICS.len(),
        gpt: bool,
        size in 0usize..400_000,
    ) {
        let mut bytes = vec![0; 300_016];
        for (at, value) in writes {
            bytes[at..at + 16].copy_from_slice(&value);
        }
        if let Some(place) = bytes.get_mut(MAGICS[magic].at..) && place.len() > 16 {
            place[..MAGICS[magic].bytes.len()].copy_from_slice(MAGICS[magic].bytes);
        }
        if gpt {
            bytes[512..520].copy_from_slice(b"EFI PART");
        }
        bytes.truncate(size);
        with_ends(&bytes, |ends| {
            ends.are_blank();
            ends.table();
            ends.signatures()
        });
    }
}
