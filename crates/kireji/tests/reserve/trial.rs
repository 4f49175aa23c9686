//! A reservation that holds in one boot.

use testkit::boot::{Builders, CARD};

use super::risks::{ALLOWED, host};
use super::*;

#[test]
fn a_trial_holds_once_and_is_kept_where_it_was_verified() {
    let kernel = host("arch-systemd-boot");
    let tree = &kernel.tree;
    let entry = "/boot/loader/entries/arch.conf";
    let before = tree.read(entry);
    std::fs::remove_dir_all(tree.locate("/sys/class/iommu/dmar0")).expect("a directory");
    tree.write("/sys/firmware/acpi/tables/DMAR", "");
    let programs = Builders::new(tree);
    let trial = [&["reserve", CARD, "--trial", "--yes"], &ALLOWED[..]].concat();
    let (exit, err) = kireji_with(&kernel, &trial, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert_eq!(programs.ran(), ["mkinitcpio -P", "bootctl set-oneshot kireji-trial.conf"]);
    assert_eq!(tree.read(entry), before, "no other entry changes");
    let list = tree.read("/etc/kireji/reservations");
    let id = list.lines().find_map(|line| line.strip_prefix("trial ")).expect("a trial");
    let copy = tree.read("/boot/loader/entries/kireji-trial.conf");
    assert!(copy.contains(&format!("intel_iommu=on kireji.trial={id}")), "{copy}");

    // Another boot is not the trial.
    tree.write("/sys/class/iommu/dmar0/x", "");
    let (exit, _) = kireji_with(&kernel, &["verify", "--keep"], true, &programs);
    assert_eq!(exit, Exit::No);
    assert!(programs.ran().is_empty());

    // The trial itself, with the card in a group of its own.
    let line = format!("root=UUID=1 rw intel_iommu=on kireji.trial={id}\n");
    tree.write("/proc/cmdline", line);
    tree.bind(CARD, "vfio-pci");
    let device = tree.device(CARD);
    tree.link(&format!("{device}/iommu_group"), "/sys/kernel/iommu_groups/9");
    tree.link(&format!("/sys/kernel/iommu_groups/9/devices/{CARD}"), device);
    let (exit, err) = kireji_with(&kernel, &["verify", "--keep"], true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(!tree.read("/etc/kireji/reservations").contains("trial"));
    assert!(!tree.locate("/boot/loader/entries/kireji-trial.conf").exists());
    assert_eq!(tree.read(entry), before.replace("rw", "rw intel_iommu=on"));

    for _ in 0..2 {
        let (exit, err) = kireji_with(&kernel, &["undo"], true, &programs);
        assert_eq!(exit, Exit::Done, "{err}");
    }
    assert_eq!(tree.read(entry), before);
    assert!(!tree.locate("/boot/loader/entries/kireji-trial.conf").exists());
}

/// Planned, applied, proved, and undone to the byte, on the other boot loaders that can.
#[test]
fn a_trial_is_proved_and_undone_wherever_an_entry_starts_once() {
    for name in ["fedora-43", "fedora-43-uki", "debian-13-systemd-boot"] {
        let kernel = host(name);
        let tree = &kernel.tree;
        let once = "if [ \"${next_entry}\" ] ; then\nfi\nblscfg\n";
        if name == "fedora-43" {
            tree.write("/boot/grub2/grub.cfg", once);
        }
        tree.write("/proc/self/mountinfo", "25 1 8:2 / / rw shared:1 - ext4 /dev/sda2 rw\n");
        let start = whole::all(tree);
        let programs = Builders::new(tree);
        let trial = [&["reserve", CARD, "--trial", "--yes"], &ALLOWED[..]].concat();
        let (exit, err) = kireji_with(&kernel, &trial, true, &programs);
        assert_eq!(exit, Exit::Done, "{name}: {err}");
        assert!(err.contains("run `kireji verify --keep`"), "{name}: {err}");
        let started = programs.ran().pop().expect("a command");
        assert!(started.contains("kireji-trial"), "{name}: {started}");
        let (exit, err) = kireji_with(&kernel, &["undo"], true, &programs);
        assert_eq!(exit, Exit::Done, "{name}: {err}");
        assert_eq!(whole::all(tree), start, "{name}");
    }
}
