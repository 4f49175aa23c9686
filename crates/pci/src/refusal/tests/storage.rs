//! Disks, mounted or not.

use super::*;

#[test]
fn storage_that_is_mounted_is_never_given() {
    let tree = nvme();
    tree.partition("nvme0n1", "nvme0n1p2", MIB);
    tree.stacked("dm-0", Some("cryptroot"), &["nvme0n1p2"]);
    tree.mount(&tree.block_number("dm-0"), "/", "ext4", "/dev/mapper/cryptroot");
    let ask = Ask {
        allow: vec![Allow::DataLoss("SERIAL-nvme0n1".into()), Allow::Code(Code::Unmeasured)],
        force_unbind: true,
        ..card(CARD)
    };
    let expected =
        "E-STORAGE-MOUNTED: 0000:03:00.0 → nvme0n1 → nvme0n1p2 → dm-0 (cryptroot) → / [never]";
    assert_eq!(refusals(&tree, &ask), [expected]);
    // What another card carries is no matter.
    assert_eq!(refusals(&tree, &Ask { targets: card(OTHER).targets, ..ask }), NONE);
}

#[test]
fn storage_in_other_use_is_never_given() {
    let swap = nvme();
    swap.write("/proc/swaps", "Filename\n/dev/nvme0n1 partition\n");
    let held = nvme();
    held.stacked("md0", None, &["nvme0n1"]);
    let pool = nvme();
    pool.link("/sys/fs/btrfs/1/devices/nvme0n1", "/sys/devices");
    let zfs = nvme();
    zfs.put("nvme0n1", 128 << 10, b"\x0c\xb1\xba\0\0\0\0\0");
    zfs.mount("0:40", "/tank", "zfs", "tank");
    let prefix = "0000:03:00.0 → nvme0n1";
    for (tree, expected) in [
        (swap, format!("E-STORAGE-MOUNTED: {prefix} → swap [never]")),
        (held, format!("E-STORAGE-ACTIVE: {prefix} → md0 [never]")),
        (pool, format!("E-STORAGE-MOUNTED: {prefix} → a mounted btrfs file system [never]")),
        (
            zfs,
            format!(
                "E-STORAGE-MOUNTED: {prefix} → a ZFS pool, possibly one that is imported [never]"
            ),
        ),
    ] {
        let ask = Ask { allow: vec![Allow::DataLoss("SERIAL-nvme0n1".into())], ..card(CARD) };
        assert_eq!(refusals(&tree, &ask), [expected]);
    }
}

#[test]
fn a_disk_with_data_is_named_by_its_serial() {
    let tree = nvme();
    tree.put("nvme0n1", 3, b"NTFS    ");
    tree.write("/etc/fstab", "/dev/nvme0n1 /windows ntfs noauto\n");
    assert_eq!(
        refusals(&tree, &card(CARD)),
        [
            "E-DISK-DATA: 0000:03:00.0 → nvme0n1 (A disk, serial SERIAL-nvme0n1, 524.2 MB) → ntfs on \
          nvme0n1; /etc/fstab names it for /windows [--allow data-loss=SERIAL-nvme0n1]"
        ]
    );
    for (serial, free) in [("SERIAL-nvme0n1", true), ("SERIAL-nvme0n2", false)] {
        let ask = Ask { allow: vec![Allow::DataLoss(serial.into())], ..card(CARD) };
        assert_eq!(verdict(&tree, &ask).1.is_free(), free);
    }
}

#[test]
fn each_disk_is_allowed_for_itself() {
    let tree = nvme();
    tree.disk(CARD, "nvme0n2", MIB);
    tree.put("nvme0n1", 3, b"NTFS    ");
    tree.put("nvme0n2", 3, b"NTFS    ");
    let ask = Ask { allow: vec![Allow::DataLoss("SERIAL-nvme0n1".into())], ..card(CARD) };
    let refusals = refusals(&tree, &ask);
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].contains("nvme0n2 "), "{refusals:?}");
}

#[test]
fn a_disk_that_cannot_be_read_is_not_blank() {
    let tree = nvme();
    tree.remove("/dev/nvme0n1");
    let refusals = self::refusals(&tree, &card(CARD));
    assert!(refusals[0].starts_with("E-UNMEASURED: 0000:03:00.0: what is on nvme0n1"));
    assert!(refusals[0].ends_with("[--allow data-loss=SERIAL-nvme0n1]"), "{refusals:?}");

    let tree = nvme();
    tree.remove("/proc/self/mountinfo");
    let refusals = self::refusals(&tree, &card(CARD));
    assert!(refusals[0].starts_with("E-UNMEASURED: 0000:03:00.0: whether nvme0n1 is mounted"));
    assert!(refusals[0].ends_with("[never]"), "{refusals:?}");
}

#[test]
fn a_storage_controller_without_a_driver_may_have_any_disk() {
    for (driver, refused) in [(None, 1), (Some("vfio-pci"), 0), (Some("nvme"), 0)] {
        let refusals = refusals(&tree(0x01_0802, driver), &card(CARD));
        assert_eq!(refusals.len(), refused, "{refusals:?}");
    }
}
