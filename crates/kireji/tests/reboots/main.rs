//! Reservations on real systems, each on a disk of its own, by real reboots.
//!
//! They need a provisioned lab and the disks of the systems: `cargo xtask test` makes the first, and
//! runs its test; `cargo xtask test --lab full` makes and runs all.

mod machine;

use lab::arguments::Firmware;

use machine::{Computer, rig, uefi, with_system};

/// Two cards of one kind, and two others of another kind.
const TWINS: &str = r#"
card = [
    { device = "e1000e", behind = "port1" },
    { device = "e1000e", behind = "port2" },
    { device = "edu", address = "08.0" },
    { device = "edu", address = "09.0" },
]
"#;

const NIC: &str = "01:00.0";
const TWIN: &str = "02:00.0";
const EDU: &str = "00:08.0";
const OTHER_EDU: &str = "00:09.0";

/// Switches a new machine on, and has the system make what only it can make: its menu, for instance.
fn start(computer: &mut Computer<'_>, settle: &str) {
    computer.power_on(&rig(TWINS));
    computer.sh("ln -s /payload/kireji /usr/bin; ln -s /lab/usr/share/qemu /lab/usr/share/OVMF \
                 /lab/usr/share/seabios /usr/share");
    computer.sh(settle);
}

/// The cards are reserved, proved, there after a reboot, driven, and their own drivers' again after
/// another one; and the disk holds what it held at the start.
fn whole_way(computer: &mut Computer<'_>, settle: &str) {
    start(computer, settle);
    there(computer);
    back(computer);
}

/// The cards are reserved, proved, there after a reboot, and driven.
fn there(computer: &mut Computer<'_>) {
    assert_eq!(computer.driver(NIC), "e1000e");
    computer.sh("manifest /root/before");

    let said = computer.kireji(&format!("reserve {NIC} {EDU} --yes"), 0);
    println!("{said}");
    assert_eq!(computer.driver(NIC), "e1000e", "nothing changes before the reboot");
    computer.reboot();
    println!("{}", computer.hook());
    println!("{}", computer.kireji("verify", 0));
    assert_eq!(computer.driver(NIC), "vfio-pci");
    assert_eq!(computer.driver(EDU), "vfio-pci");
    assert_eq!(computer.driver(TWIN), "e1000e", "its twin was not meant");
    assert_eq!(computer.driver(OTHER_EDU), "");
    computer.kireji(&format!("selftest {NIC}"), 0);
    // Idle, it sleeps under vfio-pci, and is looked at before the machine wakes it.
    computer.sh(&format!("echo on > /sys/bus/pci/devices/0000:{EDU}/power/control"));
    // Its first start reads it from the disk, for longer than it is waited for on a busy host.
    computer.sh("qemu-system-x86_64 -machine none -device help > /dev/null");
    println!("{}", computer.sh(&format!("rigtest inner-machine 0000:{EDU}")));
}

/// What [`there`] did is taken back.
fn back(computer: &mut Computer<'_>) {
    println!("{}", computer.kireji("undo", 0));
    computer.reboot();
    assert_eq!(computer.driver(NIC), "e1000e");
    assert_eq!(computer.driver(TWIN), "e1000e");
    assert_eq!(computer.driver(EDU), "");
    computer.sh("manifest /root/after");
    let differs = computer.run("diff /root/before /root/after");
    assert_eq!(differs.out, "", "the disk is not what it was");
}

/// A guest's own driver drives a card that its host has reserved since it booted.
fn guest(computer: &mut Computer<'_>) {
    let said = computer.kireji(&format!("run --guest linux --device {NIC} --dhcp --accel tcg"), 0);
    println!("{said}");
    for sign in [
        "0000:01:00.0 in the guest: e1000e drives it",
        "3 of 3 echoes from",
        "The card works in the reference guest.",
    ] {
        assert!(said.contains(sign), "{sign}: {said}");
    }
    assert_eq!(computer.driver(NIC), "vfio-pci", "it is still reserved");
}

/// [`TWINS`] once one card has moved and another sits where it was.
const MOVED: &str = r#"
card = [
    { device = "edu", behind = "port1" },
    { device = "e1000e", behind = "port2" },
]
"#;

/// What the hook leaves alone, and why: a boot with `kireji.off`, and a card that moved.
fn left_alone(computer: &mut Computer<'_>) {
    start(computer, "update-grub");
    computer.kireji(&format!("reserve {NIC} --yes"), 0);

    // What a person types at the boot loader, for one boot.
    let menu = "/boot/grub/grub.cfg";
    computer.sh(&format!("cp -p {menu} /root/menu; sed -i '/vmlinuz/s/$/ kireji.off/' {menu}"));
    computer.reboot();
    computer.sh(&format!("cp -p /root/menu {menu}; rm /root/menu"));
    let said = computer.hook();
    assert!(said.contains("kireji.off is on the command line: nothing is reserved"), "{said}");
    assert_eq!(computer.driver(NIC), "e1000e");
    let said = computer.kireji("verify", 1);
    assert!(said.contains("FAIL        0000:01:00.0"), "{said}");

    computer.reboot();
    assert_eq!(computer.driver(NIC), "vfio-pci");

    computer.sh("sync");
    computer.power_on(&rig(MOVED));
    let said = computer.hook();
    let why = "0000:01:00.0: vendor is 0x1234, not 0x8086: another card, left alone";
    assert!(said.contains(why), "{said}");
    assert_eq!((computer.driver(NIC), computer.driver(TWIN)), (String::new(), "e1000e".into()));
    let said = computer.kireji("verify", 1);
    let moved = "the card moved to 0000:02:00.0; `kireji reserve 0000:02:00.0` points the \
                 reservation there";
    assert!(said.contains(moved), "{said}");
    computer.kireji(&format!("reserve {TWIN} --yes"), 0);
    computer.reboot();
    assert_eq!((computer.driver(NIC), computer.driver(TWIN)), (String::new(), "vfio-pci".into()));
    computer.kireji("verify", 0);
}

/// A parameter in GRUB's settings has the kernel's IOMMU off, and another comes from a drop-in that is
/// not ours: after the reservation the IOMMU is on, and after `undo` all is as it was.
fn parameters(computer: &mut Computer<'_>) {
    let off =
        "s/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT='quiet intel_iommu=off'/";
    start(computer, &format!("sed -i \"{off}\" /etc/default/grub; update-grub"));
    computer.reboot();
    assert_eq!(computer.sh("ls /sys/class/iommu"), "");
    let kept = "sha256sum /etc/default/grub /boot/grub/grub.cfg; ls /etc/default/grub.d";
    let before = computer.sh(kept);

    println!("{}", computer.kireji(&format!("reserve {NIC} --yes"), 0));
    computer.reboot();
    let line = computer.sh("cat /proc/cmdline");
    assert!(line.contains(" intel_iommu=on") && !line.contains("intel_iommu=off"), "{line}");
    assert!(line.contains(" no_timer_check") && line.contains(" quiet"), "{line}");
    assert_eq!(computer.driver(NIC), "vfio-pci");
    computer.kireji("verify", 0);
    computer.kireji(&format!("selftest {NIC}"), 0);

    computer.kireji("undo", 0);
    assert_eq!(computer.sh(kept), before);
    computer.reboot();
    assert_eq!(computer.sh("ls /sys/class/iommu"), "");
    assert_eq!(computer.driver(NIC), "e1000e");
}

/// A trial holds for one boot; a power cycle goes back.
fn trial(computer: &mut Computer<'_>) {
    let said = computer.kireji(&format!("reserve {NIC} --trial --yes"), 0);
    println!("{said}");
    computer.sh("sync");
    computer.reboot();
    println!("{}", computer.hook());
    assert_eq!(computer.driver(NIC), "vfio-pci", "the trial");

    computer.power_on(&rig(TWINS));
    let said = computer.hook();
    assert!(said.contains("only a trial is reserved"), "{said}");
    assert_eq!(computer.driver(NIC), "e1000e", "the power cycle");
    computer.kireji("verify", 1);
    computer.kireji("undo", 0);
}

/// What a trial showed to be good lasts.
fn kept(computer: &mut Computer<'_>) {
    computer.kireji(&format!("reserve {NIC} --trial --yes"), 0);
    computer.reboot();
    assert_eq!(computer.driver(NIC), "vfio-pci", "the second trial");
    println!("{}", computer.kireji("verify --keep", 0));
    computer.reboot();
    assert_eq!(computer.driver(NIC), "vfio-pci", "what is kept");
    computer.kireji("verify", 0);
}

#[test]
fn initramfs_tools_and_grub() {
    with_system("initramfs-tools-grub", &Firmware::Bios, |computer| {
        whole_way(computer, "update-grub");
    });
}

#[test]
#[ignore = "makes and reboots a system of its own, for minutes: `cargo xtask test --lab full` runs it"]
fn dracut_and_grub() {
    with_system("dracut-grub", &Firmware::Bios, |computer| {
        start(computer, "update-grub");
        there(computer);
        guest(computer);
        back(computer);
    });
}

/// The kernel's IOMMU is off by a parameter, which the plan takes out.
#[test]
#[ignore = "reboots for minutes: `cargo xtask test --lab full` runs it"]
fn parameters_in_the_menu_of_grub() {
    with_system("initramfs-tools-grub", &Firmware::Bios, parameters);
}

#[test]
#[ignore = "reboots for minutes: `cargo xtask test --lab full` runs it"]
fn what_the_hook_leaves_alone() {
    with_system("initramfs-tools-grub", &Firmware::Bios, left_alone);
}

#[test]
#[ignore = "reboots for minutes: `cargo xtask test --lab full` runs it"]
fn a_trial_is_one_boot() {
    with_system("initramfs-tools-grub", &Firmware::Bios, |computer| {
        start(computer, "update-grub");
        trial(computer);
        kept(computer);
    });
}

#[test]
#[ignore = "makes and reboots a system of its own, for minutes: `cargo xtask test --lab full` runs it"]
fn initramfs_tools_and_systemd_boot() {
    with_system("initramfs-tools-systemd-boot", &uefi(), |computer| {
        whole_way(computer, "update-initramfs -u");
    });
}

#[test]
#[ignore = "makes and reboots a system of its own, for minutes: `cargo xtask test --lab full` runs it"]
fn initramfs_tools_and_unified_images() {
    with_system("initramfs-tools-uki", &uefi(), |computer| {
        whole_way(computer, "update-initramfs -u");
    });
}

#[test]
#[ignore = "makes and reboots a system of its own, for minutes: `cargo xtask test --lab full` runs it"]
fn dracut_and_grub_with_entries_on_uefi() {
    with_system("dracut-grub-bls-uefi", &uefi(), |computer| whole_way(computer, ":"));
}

#[test]
#[ignore = "reboots for minutes: `cargo xtask test --lab full` runs it"]
fn a_trial_of_an_entry_on_uefi() {
    with_system("dracut-grub-bls-uefi", &uefi(), |computer| {
        start(computer, ":");
        trial(computer);
    });
}
