//! What a change of what is booted could break, and the way back.

use testkit::boot::{ALL, Builders, CARD};

use super::*;

/// A host of a distribution, whose IOMMU is in use.
pub fn host(name: &str) -> FakeKernel {
    let distribution = ALL.iter().find(|one| one.name == name).expect("a distribution");
    let tree = distribution.tree();
    tree.write("/sys/class/iommu/dmar0/x", "");
    FakeKernel::new(tree)
}

pub const ALLOWED: [&str; 4] = ["--allow", "E-UNMEASURED", "--allow", "E-NO-IOMMU-GROUP"];

#[test]
fn an_image_that_nobody_signs_is_refused_under_secure_boot() {
    let kernel = host("arch-uki");
    let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    kernel.tree.write(variable, [6, 0, 0, 0, 1]);
    let programs = Builders::new(&kernel.tree);
    let dry = [&["reserve", CARD, "--dry-run"], &ALLOWED[..]].concat();
    let (exit, err) = kireji_with(&kernel, &dry, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(err.contains("risk (signature): Secure Boot is on"), "{err}");
    let yes = [&["reserve", CARD, "--yes"], &ALLOWED[..]].concat();
    let (exit, err) = kireji_with(&kernel, &yes, true, &programs);
    assert_eq!(exit, Exit::Refused, "{err}");
    assert!(err.contains("`--accept signature` changes it all the same"), "{err}");
    assert!(!kernel.tree.locate("/etc/kireji").exists());
    assert!(programs.ran().is_empty());
    let accepted = [&yes[..], &["--accept", "signature"]].concat();
    let (exit, err) = kireji_with(&kernel, &accepted, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    // The menu cannot edit what is in a signed image.
    assert!(err.contains("Secure Boot forbids to edit entries"), "{err}");
}

#[test]
fn a_volume_that_is_sealed_to_what_is_booted_needs_its_recovery_key_at_hand() {
    let kernel = host("debian-12");
    kernel.tree.write("/etc/crypttab", "root UUID=1 - luks,tpm2-device=auto\n");
    let yes = [&["reserve", CARD, "--yes"], &ALLOWED[..]].concat();
    let programs = Builders::new(&kernel.tree);
    let (exit, err) = kireji_with(&kernel, &yes, true, &programs);
    assert_eq!(exit, Exit::Refused, "{err}");
    assert!(err.contains("because /etc/crypttab: a TPM unlocks root (UUID=1)"), "{err}");
    assert!(err.contains("recovery key at hand"), "{err}");
}

#[test]
fn a_display_of_a_host_without_a_screen_needs_a_word() {
    let mut tree = debian();
    tree.add(Function::new("0000:00:08.0", 0x10de, 0x1c03).class(0x03_8000).group(8));
    let kernel = FakeKernel::new(tree);
    let args = ["reserve", "00:08.0", "--dry-run", "--allow", "E-UNMEASURED"];
    let ended = kireji(&kernel, &args);
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.err.contains("[E-HEADLESS]"), "{}", ended.err);
    let ended = kireji(&kernel, &[&args[..], &["--allow", "headless"]].concat());
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(ended.err.contains("allowed: 0000:00:08.0 is a display"), "{}", ended.err);
}

#[test]
fn what_is_known_by_hearsay_is_shown_and_not_done() {
    let kernel = host("cachyos-limine");
    let yes = [&["reserve", CARD, "--yes"], &ALLOWED[..]].concat();
    let programs = Builders::new(&kernel.tree);
    let (exit, err) = kireji_with(&kernel, &yes, true, &programs);
    assert_eq!(exit, Exit::HostCannot, "{err}");
    assert!(err.contains("limine-entry-tool is known by hearsay alone, and not changed"), "{err}");
    assert!(programs.ran().is_empty() && !kernel.tree.locate("/etc/kireji").exists());
}

#[test]
fn the_rescue_card_can_be_shown_again() {
    let ended = kireji(&host("debian-12"), &["explain", "rescue"]);
    assert_eq!(ended.exit, Exit::Done);
    assert!(ended.out.contains("Type a space and kireji.off"), "{}", ended.out);
}

#[test]
fn a_system_that_is_told_by_a_person_gets_words() {
    let kernel = host("nixos");
    let dry = [&["reserve", CARD, "--dry-run"], &ALLOWED[..]].concat();
    let ended = kireji(&kernel, &dry);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    insta::assert_snapshot!(ended.out, @r#"
    # Add this to the configuration, then run `nixos-rebuild boot`.
    {
      boot.initrd.kernelModules = [ "vfio_pci" "vfio_iommu_type1" ];
      boot.kernelParams = [ "vfio-pci.ids=8086:10d3:1043:85b0" ];
    }
    "#);
    let yes = [&["reserve", CARD, "--yes"], &ALLOWED[..]].concat();
    assert_eq!(kireji(&kernel, &yes).exit, Exit::HostCannot);

    // A card just like it would be taken as well.
    let mut tree = ALL.iter().find(|one| one.name == "bazzite").expect("bazzite").tree();
    tree.write("/sys/class/iommu/dmar0/x", "");
    let twin = Function::new("0000:00:09.0", 0x8086, 0x10d3).class(0x02_0000);
    tree.add(twin.subsystem(0x1043, 0x85b0));
    let ended = kireji(&FakeKernel::new(tree), &dry);
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.err.contains("0000:00:09.0 has the same"), "{}", ended.err);
}
