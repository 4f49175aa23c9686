//! What is read of an image agrees with what the tools of distributions read, on images that they
//! made. The tools must be there: `cargo xtask test` installs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use host::Sysroot;
use reserve::image::{Image, Kind, Packing, Uki};

fn run(command: &mut Command) -> Vec<u8> {
    let done = command.stderr(Stdio::inherit()).output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}");
    done.stdout
}

fn shell(directory: &Path, script: &str) -> Vec<u8> {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(directory))
}

/// A tree with every kind of member, and names that need care.
fn tree(directory: &Path) {
    let root = directory.join("root");
    std::fs::create_dir_all(root.join("usr/lib/modules/6.1.0/kernel")).unwrap();
    std::fs::create_dir_all(root.join("scripts/init-top")).unwrap();
    std::fs::write(root.join("init"), "#!/bin/sh\n").unwrap();
    std::fs::write(root.join("scripts/init-top/ORDER"), "/scripts/init-top/udev \"$@\"\n").unwrap();
    std::fs::write(root.join("usr/lib/a name"), vec![7; 9 << 20]).unwrap();
    std::fs::hard_link(root.join("init"), root.join("usr/lib/init-again")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    shell(&root, "mkfifo fifo; printf x > usr/lib/empty-not; : > usr/lib/empty");
}

fn image(directory: &Path, name: &str) -> Image {
    let host = Sysroot::at(directory).unwrap();
    Image::open(&host, format!("/{name}"), |_| true).unwrap()
}

fn listing(image: &Image) -> String {
    image.members().iter().map(|member| format!("{}\n", member.path.display())).collect()
}

const PACKERS: [(&str, Packing); 8] = [
    ("cat", Packing::None),
    ("gzip -n9", Packing::Gzip),
    ("xz --check=crc32 -T2", Packing::Xz),
    ("lzma -9", Packing::Lzma),
    ("zstd -q -1 -T0", Packing::Zstd),
    ("zstd -q --ultra -22 --long=27", Packing::Zstd),
    ("lz4 -lq", Packing::Lz4),
    ("bzip2", Packing::Bzip2),
];

#[test]
fn every_packer_and_cpio_agree() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    tree(directory);
    shell(
        directory,
        "mkdir -p early/kernel/x86/microcode && echo code > early/kernel/x86/microcode/GenuineIntel.bin",
    );
    shell(directory, "cd early && find . | cpio -o -H newc --quiet > ../early.cpio");
    let expected = shell(
        directory,
        "cd root && find . | sort | cpio -o -H newc --quiet > ../main.cpio && cpio -t --quiet < ../main.cpio",
    );
    let expected = String::from_utf8(expected).unwrap();
    for (packer, packing) in PACKERS {
        shell(directory, &format!("(cat early.cpio; {packer} < main.cpio) > image"));
        let image = image(directory, "image");
        assert_eq!(image.parts()[1].packing, packing, "{packer}");
        let early = listing(&image).find("kernel/x86/microcode/GenuineIntel.bin\n").unwrap();
        let rest = &listing(&image)[early..];
        assert_eq!(rest.split_once('\n').unwrap().1, expected, "{packer}");
        assert_eq!(image.contents("lib/a name").map(<[u8]>::len), Some(9 << 20), "{packer}");
        assert_eq!(image.contents("init"), Some(&b"#!/bin/sh\n"[..]), "{packer}");
        assert_eq!(image.contents("usr/lib/init-again"), Some(&b"#!/bin/sh\n"[..]), "{packer}");
        assert_eq!(image.find("fifo").unwrap().kind, Kind::Other);
    }
}

#[test]
fn lsinitramfs_lists_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    tree(directory);
    // It takes what is not packed for microcode, behind which more must come.
    for (packer, _) in PACKERS.into_iter().skip(1) {
        shell(
            directory,
            &format!("cd root && find . | cpio -o -H newc --quiet | {packer} > ../image"),
        );
        let listed = run(Command::new("lsinitramfs").arg(directory.join("image")));
        assert_eq!(
            listing(&image(directory, "image")),
            String::from_utf8(listed).unwrap(),
            "{packer}"
        );
    }
}

#[test]
fn objdump_finds_the_same_sections() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    tree(directory);
    shell(directory, "cd root && find . | cpio -o -H newc --quiet | zstd -q > ../initrd");
    shell(
        directory,
        "printf 'root=/dev/vda1 quiet' > cmdline; printf 'ID=test\\n' > osrel; printf 6.1.0 > uname; head -c 70001 /dev/urandom > linux",
    );
    // A stub of a program, as systemd's is one, with the sections added as ukify adds them.
    shell(
        directory,
        "printf '.globl _start\\n_start: ret\\n' | as -o stub.o - && \
         ld -m i386pep --subsystem 10 -e _start -o stub.efi stub.o && \
         objcopy \
           --add-section .osrel=osrel --change-section-vma .osrel=0x200000000 \
           --add-section .uname=uname --change-section-vma .uname=0x200010000 \
           --add-section .cmdline=cmdline --change-section-vma .cmdline=0x200020000 \
           --add-section .linux=linux --change-section-vma .linux=0x200030000 \
           --add-section .initrd=initrd --change-section-vma .initrd=0x202000000 \
           stub.efi uki.efi",
    );
    let host = Sysroot::at(directory).unwrap();
    let uki = Uki::open(&host, "/uki.efi").unwrap();
    assert_eq!(uki.text(&host, ".cmdline").unwrap().as_deref(), Some("root=/dev/vda1 quiet"));
    assert_eq!(uki.text(&host, ".uname").unwrap().as_deref(), Some("6.1.0"));
    let listed = String::from_utf8(shell(directory, "objdump -h uki.efi")).unwrap();
    for section in uki.sections() {
        let row = listed.lines().find(|line| line.split_whitespace().nth(1) == Some(&section.name));
        let row: Vec<_> = row.unwrap().split_whitespace().collect();
        assert_eq!(u64::from_str_radix(row[5], 16).unwrap(), section.offset, "{}", section.name);
    }
    assert!(uki.sections().iter().any(|section| section.name == ".linux"));
    let whole = uki.initramfs(&host, |_| true).unwrap();
    assert_eq!(whole, image(directory, "initrd"));
}
