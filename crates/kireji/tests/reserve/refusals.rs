//! What `reserve` refuses: each message names the path from the card to what would be lost.

use pci::refusal::Code as Reason;
use testkit::corpus::ALL;

use super::*;

/// A host of the corpus, a card of it, why it is refused, and how that is said.
const REFUSED: [(&str, &str, Reason, &str); 21] = [
    (
        "intel-ready",
        "00:1c.0",
        Reason::Bridge,
        "0000:00:1c.0 is a part of PCI itself (class 060400)",
    ),
    ("no-acs", "04:00.0", Reason::GroupShared, "0000:04:00.0 → IOMMU group 5 → 0000:03:00.0"),
    (
        "no-acs",
        "03:00.0",
        Reason::GroupShared,
        "0000:03:00.0 → IOMMU group 5 → 0000:04:00.0 (nvme)",
    ),
    ("virtual-machine", "00:02.0", Reason::NoGroup, "0000:00:02.0 is in no IOMMU group"),
    (
        "sr-iov",
        "01:00.0",
        Reason::VirtualFunctions,
        "0000:01:00.0 → 2 virtual functions from 0000:01:10.0 on",
    ),
    (
        "lvm-on-luks",
        "01:00.0",
        Reason::StorageMounted,
        "0000:01:00.0 → nvme0n1 → nvme0n1p2 → dm-0 (cryptroot) → dm-1 (vg-root) → /",
    ),
    (
        "lvm-on-luks",
        "01:00.0",
        Reason::StorageMounted,
        "0000:01:00.0 → nvme0n1 → nvme0n1p2 → dm-0 (cryptroot) → dm-2 (vg-swap) → swap",
    ),
    (
        "lvm-on-luks",
        "01:00.0",
        Reason::StorageMounted,
        "0000:01:00.0 → nvme0n1 → nvme0n1p1 → /boot/efi",
    ),
    ("btrfs-raid", "02:00.0", Reason::StorageMounted, "0000:02:00.0 → nvme1n1 → nvme1n1p1 → /"),
    (
        "zfs",
        "01:00.0",
        Reason::StorageMounted,
        "0000:01:00.0 → nvme0n1 → a ZFS pool, possibly one that is imported",
    ),
    ("in-use", "02:00.0", Reason::StorageActive, "0000:02:00.0 → nvme1n1 → md0"),
    (
        "in-use",
        "01:00.0",
        Reason::DiskData,
        "0000:01:00.0 → nvme0n1 (A disk, serial SERIAL-nvme0n1, 67.1 MB) → ntfs on nvme0n1; /etc/fstab \
         names it for /windows",
    ),
    (
        "intel-ready",
        "00:02.0",
        Reason::BootDisplay,
        "0000:00:02.0 → the display that the firmware chose for the boot",
    ),
    (
        "amd-firmware-off",
        "01:00.0",
        Reason::BootDisplay,
        "0000:01:00.0 → efifb, the boot's picture, in its memory",
    ),
    ("laptop", "00:02.0", Reason::LastScreen, "0000:00:02.0 → eDP-1 (LP140WF)"),
    (
        "garbage",
        "00:02.0",
        Reason::Headless,
        "0000:00:02.0 is a display, and no screen is connected to this host",
    ),
    (
        "network-stack",
        "01:00.0",
        Reason::NicDefaultRoute,
        "0000:01:00.0 → eno1 → bond0 → br0 → the default route",
    ),
    ("in-use", "03:00.0", Reason::NicStorage, "0000:03:00.0 → enp3s0 → /srv from 10.1.0.7"),
    ("network-stack", "03:00.0", Reason::NicUp, "0000:03:00.0 → eno3, which is up"),
    ("in-use", "05:00.0", Reason::LastKeyboard, "0000:05:00.0 → A keyboard"),
    (
        "old-kernel",
        "01:00.0",
        Reason::Unmeasured,
        "0000:01:00.0: what the host shows on it is unmeasured: cannot read /proc/iomem",
    ),
];

/// What is no reason not to reserve: it is of this boot, and the reservation of the next.
const OF_THIS_BOOT: [Reason; 3] = [Reason::DisplayNative, Reason::InUse, Reason::VfioInUse];

fn sample(name: &str) -> FakeKernel {
    FakeKernel::new(ALL.iter().find(|one| one.name == name).expect("a host").tree())
}

#[test]
fn each_refusal_names_the_way_from_the_card_to_the_loss() {
    for (name, card, reason, says) in REFUSED {
        let ended = kireji(&sample(name), &["reserve", card, "--dry-run"]);
        assert_eq!(ended.exit, Exit::Refused, "{name} {card}: {}", ended.err);
        let line = format!("because {says} [{reason}]");
        assert!(ended.err.lines().any(|one| one.trim() == line), "{line}\n{}", ended.err);
        assert_eq!(ended.out, "", "no plan is shown");
        let allowed = format!("--allow={reason}");
        let args = ["reserve", card, "--dry-run", &allowed];
        if reason.is_allowable() {
            let ended = kireji(&sample(name), &args);
            assert!(!ended.err.lines().any(|one| one.trim() == line), "{}", ended.err);
        } else {
            let cli = Cli::try_parse_from([&["kireji"], &args[..]].concat());
            assert!(cli.is_err_and(|error| error.to_string().contains("cannot be allowed")));
        }
    }
}

#[test]
fn the_interface_of_the_session_is_refused() {
    let tree = debian();
    tree.interface("0000:29:00.0", "eth0", true);
    tree.route("eth0", [192, 168, 1, 0], [0; 4], [255, 255, 255, 0]);
    let kernel = FakeKernel::new(tree);
    let ssh_connection = Some("192.168.1.5 50000 192.168.1.1 22".to_owned());
    let vars = Vars { ssh_connection, ..Vars::default() };
    let args = [&DRY[..], &["--allow", "E-NIC-UP"]].concat();
    let ended = kireji_for(&kernel, &args, &FirstFails::default(), vars);
    assert_eq!(ended.exit, Exit::Refused);
    let says = "because 0000:29:00.0 → eth0 → this session (192.168.1.1) [E-NIC-SSH]";
    assert!(ended.err.contains(says), "{}", ended.err);
}

#[test]
fn every_reason_to_refuse_is_among_them() {
    let reasons = Reason::ALL.iter().copied().filter(|code| *code < Reason::CpuVirtualisation);
    for reason in reasons {
        let is_listed = REFUSED.iter().any(|(_, _, listed, _)| *listed == reason);
        // That of a session hangs on who calls.
        let is_elsewhere = OF_THIS_BOOT.contains(&reason) || reason == Reason::NicSession;
        assert!(is_listed != is_elsewhere, "{reason}");
    }
}

#[test]
fn one_disk_is_allowed_by_its_serial_and_a_mounted_one_by_nothing() {
    let args = ["reserve", "01:00.0", "--dry-run", "--allow", "data-loss=SERIAL-nvme0n1"];
    let ended = kireji(&sample("in-use"), &args);
    assert!(ended.err.contains("allowed: 0000:01:00.0 → nvme0n1"), "{}", ended.err);
    let ended = kireji(&sample("lvm-on-luks"), &args);
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.err.contains("[E-STORAGE-MOUNTED]"), "{}", ended.err);
}
