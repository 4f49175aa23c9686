use std::io::Write;

use testkit::tree::Tree;

use super::*;

/// An image with these files, uncompressed.
pub(crate) fn image(files: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in files {
        let mut writer = cpio::NewcBuilder::new(name)
            .mode(0o100_644)
            .write(bytes, u32::try_from(contents.len()).unwrap());
        writer.write_all(contents.as_bytes()).unwrap();
        bytes = writer.finish().unwrap();
    }
    cpio::newc::trailer(bytes).unwrap()
}

fn debian() -> Tree {
    let tree = Tree::new();
    for release in ["6.1.0-25-amd64", "6.1.0-27-amd64"] {
        tree.write(&format!("/lib/modules/{release}/modules.dep"), "");
        let image = image(&[("scripts/init-top/ORDER", ""), ("init", "")]);
        tree.write(&format!("/boot/initrd.img-{release}"), image);
    }
    tree.write(
        "/boot/grub/grub.cfg",
        "menuentry 'x' {\nlinux /boot/vmlinuz-6.1.0-27-amd64 ro\n}\n",
    );
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.1.0-27-amd64 root=UUID=1 ro\n");
    tree
}

#[test]
fn agreeing_evidence_is_a_verdict() {
    let tree = debian();
    let boot = Boot::read(&tree.sysroot()).unwrap();
    assert_eq!(boot.builder.agreed(), Some(Builder::InitramfsTools));
    assert_eq!(boot.loader.agreed(), Some(Loader::Grub));
    let Verdict::Agreed { clues, .. } = &boot.builder else { panic!() };
    assert_eq!(clues[1].path, std::path::Path::new("/boot/initrd.img-6.1.0-27-amd64"));
}

#[test]
fn contradicting_evidence_is_shown_from_both_sides() {
    let tree = debian();
    tree.write(
        "/boot/initrd.img-6.1.0-27-amd64",
        image(&[("usr/lib/dracut/build-parameter.txt", "")]),
    );
    let info: Vec<u8> = [6, 0, 0, 0]
        .into_iter()
        .chain("systemd-boot 257.9\0".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    tree.write("/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", info);
    let boot = Boot::read(&tree.sysroot()).unwrap();
    let Verdict::Disagreed { clues } = &boot.builder else { panic!("{:?}", boot.builder) };
    assert_eq!(clues.len(), 2);
    let Verdict::Disagreed { clues } = &boot.loader else { panic!("{:?}", boot.loader) };
    assert_eq!(clues[0].what, "systemd-boot 257.9");
}

#[test]
fn without_evidence_nothing_is_guessed() {
    let tree = debian();
    for release in ["6.1.0-25-amd64", "6.1.0-27-amd64"] {
        tree.write(&format!("/boot/initrd.img-{release}"), "junk");
    }
    tree.write("/proc/cmdline", "root=UUID=1\n");
    // Their files say nothing.
    tree.write("/etc/dracut.conf", "");
    tree.write("/etc/initramfs-tools/initramfs.conf", "");
    let boot = Boot::read(&tree.sysroot()).unwrap();
    let Verdict::Unmeasured { why } = &boot.builder else { panic!("{:?}", boot.builder) };
    assert!(why.contains("/boot/initrd.img-6.1.0-25-amd64: at byte 0 is no archive"), "{why}");
    assert!(matches!(boot.loader, Verdict::Unmeasured { .. }));
}

#[test]
fn a_menu_of_entries_is_told_by_its_command() {
    for (line, expected) in [
        ("blscfg", true),
        ("  blscfg --path /boot/loader/entries", true),
        ("insmod blscfg", false),
        ("# blscfg", false),
    ] {
        let tree = debian();
        let boot = Boot::read(&tree.sysroot()).unwrap();
        tree.write("/boot/grub/grub.cfg", format!("set timeout=1\n{line}\n"));
        assert_eq!(boot.grub_uses_bls(&tree.sysroot()).unwrap(), expected, "{line}");
    }
}
