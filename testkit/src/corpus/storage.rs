//! Hosts whose root is more than a partition.

use super::parts::{MIB, intel, nvme, port};
use crate::tree::Tree;

fn two_disks() -> Tree {
    let mut tree = intel();
    for (above, address, bus, group, name) in [
        ("0000:00:1b.0", "0000:01:00.0", 1, 2, "nvme0n1"),
        ("0000:00:1d.0", "0000:02:00.0", 2, 4, "nvme1n1"),
    ] {
        tree.add(port(above, bus, group));
        tree.add(nvme(address).below(above).group(group + 1));
        tree.disk(address, name, 64 * MIB);
    }
    tree
}

/// The second disk is blank: it can be given away.
pub(super) fn lvm_on_luks() -> Tree {
    let tree = two_disks();
    tree.partition("nvme0n1", "nvme0n1p1", 8 * MIB);
    tree.partition("nvme0n1", "nvme0n1p2", 32 * MIB);
    tree.stacked("dm-0", Some("cryptroot"), &["nvme0n1p2"]);
    tree.stacked("dm-1", Some("vg-root"), &["dm-0"]);
    tree.stacked("dm-2", Some("vg-swap"), &["dm-0"]);
    tree.mount(&tree.block_number("nvme0n1p1"), "/boot/efi", "vfat", "/dev/nvme0n1p1");
    tree.mount(&tree.block_number("dm-1"), "/", "ext4", "/dev/mapper/vg-root");
    tree.write("/proc/swaps", "Filename Type\n/dev/mapper/vg-swap partition\n");
    tree.write("/etc/crypttab", "cryptroot UUID=1111-2222 none luks\n");
    tree
}

pub(super) fn btrfs_raid() -> Tree {
    let tree = two_disks();
    tree.partition("nvme0n1", "nvme0n1p1", 32 * MIB);
    tree.partition("nvme1n1", "nvme1n1p1", 32 * MIB);
    // The mount names one member only.
    tree.mount("0:35", "/", "btrfs", "/dev/nvme0n1p1");
    for member in ["nvme0n1p1", "nvme1n1p1"] {
        tree.link(
            &format!("/sys/fs/btrfs/8d3c4e6a-0000-1111-2222-333344445555/devices/{member}"),
            "/sys/devices",
        );
    }
    tree
}

pub(super) fn zfs() -> Tree {
    let tree = two_disks();
    tree.put("nvme0n1", 128 << 10, b"\x0c\xb1\xba\0\0\0\0\0");
    tree.mount("0:40", "/", "zfs", "rpool/ROOT/debian");
    tree
}
