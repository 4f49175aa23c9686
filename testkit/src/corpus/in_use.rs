//! A host that uses each of its cards in another way.

use super::parts::{intel, nic, nvme, port, root_disk};
use crate::tree::{Function, Tree};

/// A disk with data that is not mounted, one in an array, a network card that carries a file
/// system, one that is only up, the controller of the only keyboard, and a function in no group.
pub(super) fn all() -> Tree {
    let mut tree = intel();
    root_disk(&mut tree, Some(40));
    tree.add(Function::new("0000:00:1f.0", 0x8086, 0xa305).class(0x06_0100).group(30));
    for (number, group) in (1..=6).zip([11, 12, 13, 14, 15, 16]) {
        tree.add(port(&format!("0000:00:1c.{number}"), number, group));
    }
    tree.add(nvme("0000:01:00.0").below("0000:00:1c.1").group(21));
    tree.disk("0000:01:00.0", "nvme0n1", 64 << 20);
    tree.put("nvme0n1", 3, b"NTFS    ");
    tree.write("/etc/fstab", "/dev/nvme0n1 /windows ntfs noauto\n");
    tree.add(nvme("0000:02:00.0").below("0000:00:1c.2").group(22));
    tree.disk("0000:02:00.0", "nvme1n1", 64 << 20);
    tree.stacked("md0", None, &["nvme1n1"]);
    tree.add(nic("0000:03:00.0").below("0000:00:1c.3").group(23).driver("e1000e"));
    tree.interface("0000:03:00.0", "enp3s0", true);
    tree.route("enp3s0", [10, 0, 0, 0], [0, 0, 0, 0], [255, 0, 0, 0]);
    tree.mount("0:50", "/srv", "nfs4", "10.1.0.7:/export");
    let mounts = tree.read("/proc/self/mountinfo");
    tree.write("/proc/self/mountinfo", mounts.replace(" - nfs4 10.1.0.7:/export rw", NFS));
    tree.add(nic("0000:04:00.0").below("0000:00:1c.4").group(24).driver("e1000e"));
    tree.interface("0000:04:00.0", "enp4s0", true);
    let usb = Function::new("0000:05:00.0", 0x1b21, 0x2142).class(0x0c_0330);
    tree.add(usb.below("0000:00:1c.5").group(25).driver("xhci_hcd"));
    // The board has no port of its own for one.
    tree.write("/proc/bus/input/devices", "");
    tree.keyboard(Some("0000:05:00.0"), "A keyboard");
    tree.add(nic("0000:06:00.0").below("0000:00:1c.6").driver("e1000e"));
    tree
}

/// What the kernel shows of the server (fs/nfs/super.c, nfs_show_mount_options).
const NFS: &str = " - nfs4 10.1.0.7:/export rw,addr=10.1.0.7";
