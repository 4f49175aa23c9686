//! Reservations on real systems, each on a disk of its own, by real reboots.
//!
//! They need a provisioned lab and the disks of the systems: `cargo xtask test` makes the first, and
//! runs its test; `cargo xtask test --lab full` makes and runs all.

mod machine;

use lab::arguments::Firmware;

use machine::{Computer, rig, with_system};

/// Two cards of one kind, and two others of another kind.
const TWINS: &str = r#"
description = "two e1000e and two edu"
iommu = "intel"
memory-mib = 1024
boot-limit-s = 1200
bridge = [
    { name = "port1", kind = "root-port", address = "05.0" },
    { name = "port2", kind = "root-port", address = "06.0" },
]
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

/// The cards are reserved, proved, there after a reboot, driven, and their own drivers' again after
/// another one; and the disk holds what it held at the start.
fn whole_way(computer: &mut Computer<'_>, settle: &str) {
    computer.power_on(&rig(TWINS));
    computer.sh(&format!("ln -s /payload/kireji /usr/bin/kireji; {settle}"));
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
    println!("{}", computer.sh(&format!("rigtest inner-machine 0000:{EDU}")));

    println!("{}", computer.kireji("undo", 0));
    computer.reboot();
    assert_eq!(computer.driver(NIC), "e1000e");
    assert_eq!(computer.driver(TWIN), "e1000e");
    assert_eq!(computer.driver(EDU), "");
    computer.sh("rm -rf /root/.local; manifest /root/after");
    let differs = computer.run("diff /root/before /root/after");
    assert_eq!(differs.out, "", "the disk is not what it was");
}

#[test]
fn initramfs_tools_and_grub() {
    with_system("initramfs-tools-grub", &Firmware::Bios, |computer| {
        whole_way(computer, "update-grub");
    });
}

#[test]
#[ignore = "a system of its own: `cargo xtask test --lab full`"]
fn dracut_and_grub() {
    with_system("dracut-grub", &Firmware::Bios, |computer| whole_way(computer, "update-grub"));
}
