use std::os::unix::fs::PermissionsExt;

use testkit::boot::{archive, pe};
use testkit::tree::Tree;

use super::*;

const IMAGE: &str = "/boot/initrd.img-6";
const UKI: &str = "/efi/EFI/Linux/six.efi";
const MENU: &str = "/boot/grub/grub.cfg";

type Member<'a> = (&'a str, u32, &'a [u8]);

const CALL: &str = "usr/lib/dracut/build-parameter.txt";

const MEMBERS: [Member<'_>; 4] = [
    (CALL, 0o100_644, b"--force"),
    ("init", 0o100_755, b"#!/bin/sh\n"),
    ("lib", 0o120_777, b"usr/lib"),
    ("usr/lib/libc.so", 0o100_644, b"code"),
];

fn packed(members: &[Member<'_>]) -> Vec<u8> {
    zstd::encode_all(&archive(members.iter().copied())[..], 3).unwrap()
}

fn unified(line: &str, members: &[Member<'_>]) -> Vec<u8> {
    let image = packed(members);
    let digest = image.len().to_le_bytes();
    pe(&[(".cmdline", line.as_bytes()), (".initrd", &image), (".pcrsig", &digest)])
}

fn tree() -> Tree {
    let tree = Tree::new();
    tree.write(IMAGE, packed(&MEMBERS));
    tree.write(UKI, unified("quiet", &MEMBERS));
    tree.write(MENU, "menuentry 'x' {\n}\n");
    tree.write("/boot/vmlinuz-6", [0xff, 0, 1]);
    tree.link_text("/boot/vmlinuz", "vmlinuz-6");
    tree.write("/lib/modules/6/modules.dep", "a.ko:\n");
    tree.write("/lib/modules/6/kernel/a.ko", "not built by anybody here");
    tree
}

/// What is said of a tree after `change`, a line each; `*` before what others did.
fn told(tree: &Tree, change: impl FnOnce(&Tree)) -> String {
    let host = tree.sysroot();
    let (before, marks) = (Built::read(&host).unwrap(), Marks::read(&host).unwrap());
    change(tree);
    let now = Built::read(&host).unwrap();
    let differences = before.differences(&now, (&marks, &marks), &host);
    let lines = differences.iter().flat_map(|difference| {
        let mark = if difference.is_foreign { "*" } else { "" };
        difference.details.iter().map(move |detail| format!("{mark}{}: {detail}", difference.path))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_packed_in_another_way_is_the_same() {
    let tree = tree();
    let said = told(&tree, |tree| {
        let mut reversed = MEMBERS.to_vec();
        reversed.reverse();
        // Built by another call.
        reversed[3] = (CALL, 0o100_644, b"-q --force");
        tree.write(IMAGE, archive(MEMBERS));
        tree.write(UKI, unified("quiet", &reversed));
        tree.write("/boot/grub/grubenv", "a boot writes it");
        tree.write("/boot/loader/random-seed", "and this");
        tree.write("/lib/modules/6/kernel/a.ko", "a package does");
    });
    assert_eq!(said, "");
}

#[test]
fn each_difference_is_told() {
    let changed: [Member<'_>; 4] = [
        (CALL, 0o100_644, b"--force"),
        ("init", 0o100_644, b"#!/bin/sh\n"),
        ("lib", 0o120_777, b"lib64"),
        ("etc/new", 0o100_644, b""),
    ];
    let tree = tree();
    let said = told(&tree, |tree| {
        tree.write(IMAGE, packed(&changed));
        tree.write(UKI, unified("quiet vfio", &changed[..2]));
        tree.write(MENU, "menuentry 'y' {\n}\n");
        tree.remove("/boot/vmlinuz");
        tree.link_text("/boot/vmlinuz", "vmlinuz-5");
        tree.write("/boot/vmlinuz-5", [0xff, 0]);
        tree.remove("/boot/vmlinuz-6");
        tree.write("/lib/modules/6/modules.dep", "a.ko:\nb.ko:\n");
    });
    insta::assert_snapshot!(said, @r"
    /boot/grub/grub.cfg: it has other contents
    /boot/initrd.img-6: etc/new was not in it
    /boot/initrd.img-6: init has mode 0644, and had 0755
    /boot/initrd.img-6: lib has other contents
    /boot/initrd.img-6: usr/lib/libc.so is gone from it
    /boot/vmlinuz: it leads to vmlinuz-5, and led to vmlinuz-6
    /boot/vmlinuz-5: it was not there
    /boot/vmlinuz-6: it is gone
    /efi/EFI/Linux/six.efi: section .cmdline has other contents
    /efi/EFI/Linux/six.efi: init has mode 0644, and had 0755
    /efi/EFI/Linux/six.efi: lib is gone from it
    /efi/EFI/Linux/six.efi: usr/lib/libc.so is gone from it
    /lib/modules/6/modules.dep: it has other contents
    ");
    let said = told(&tree, |tree| {
        tree.write(IMAGE, "damaged");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(tree.locate(MENU), mode).unwrap();
    });
    let said: Vec<_> = said.lines().collect();
    assert!(said[0].starts_with("/boot/grub/grub.cfg: mode 0600 of"), "{said:?}");
    assert_eq!(said[1..], ["/boot/initrd.img-6: it has other contents"]);
}

#[test]
fn what_the_host_itself_has_is_not_ours_to_answer_for() {
    let tree = tree();
    tree.write("/usr/lib/libc.so", "newer code");
    let newer: [Member<'_>; 4] =
        [MEMBERS[0], MEMBERS[1], MEMBERS[2], ("usr/lib/libc.so", 0o100_644, b"newer code")];
    let said = told(&tree, |tree| tree.write(IMAGE, packed(&newer)));
    assert_eq!(
        said,
        "*/boot/initrd.img-6: usr/lib/libc.so has other contents, which are those of the host's own \
         file"
    );
}

#[test]
fn what_others_touched_between_is_theirs() {
    let tree = tree();
    let host = tree.sysroot();
    let (before, left) = (Built::read(&host).unwrap(), Marks::read(&host).unwrap());
    tree.write(MENU, "menuentry 'y' {\n}\n");
    tree.write("/boot/vmlinuz-7", "new");
    let found = Marks::read(&host).unwrap();
    tree.write("/boot/vmlinuz-6", "ours");
    let now = Built::read(&host).unwrap();
    let differences = before.differences(&now, (&left, &found), &host);
    let told: Vec<_> = differences.iter().map(|one| (one.path.as_str(), one.is_foreign)).collect();
    assert_eq!(told, [(MENU, true), ("/boot/vmlinuz-6", false), ("/boot/vmlinuz-7", true)]);
    let texts = differences[0].texts.as_ref().unwrap();
    assert_eq!(texts.1, "menuentry 'y' {\n}\n");
}

#[test]
fn what_is_kept_is_read_again() {
    let host = tree().sysroot();
    let built = Built::read(&host).unwrap();
    let text = serde_json::to_string(&built).unwrap();
    assert_eq!(serde_json::from_str::<Built>(&text).unwrap(), built);
}
