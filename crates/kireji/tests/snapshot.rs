//! `snapshot`: what is captured says the same as the host, and nothing that is secret.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use clap::Parser;
use common::{kireji, kireji_at};
use host::{Finished, Program, RunError, Runner, Sysroot, SystemClock};
use kireji::cli::Cli;
use kireji::{Context, Exit, Vars};
use testkit::boot::{ALL, Builders, CARD, archive};
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Function, Port, Tree};

const RELEASE: &str = "6.12.0";

/// A machine with Intel's IOMMU, which the kernel does not use unless it is told to, with GRUB.
fn machine() -> Tree {
    let mut tree = Tree::new();
    tree.add(Function::new("0000:00:00.0", 0x8086, 0x29c0).class(0x06_0000).group(0));
    tree.add(Function::port("0000:00:1c.0", Port::Root, 0x29).slot().driver("pcieport").group(2));
    let card = |address, device, class| {
        Function::new(address, 0x8086, device).class(class).below("0000:00:1c.0").group(3)
    };
    tree.add(card("0000:29:00.0", 0x10d3, 0x02_0000).subsystem(0x1043, 0x85b0).driver("e1000e"));
    tree.add(card("0000:29:00.1", 0x10d4, 0x04_0300));
    tree.write("/sys/firmware/acpi/tables/DMAR", "");
    tree.write(
        &format!("/lib/modules/{RELEASE}/modules.dep"),
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
    );
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 quiet\n");
    tree.write("/proc/sys/kernel/osrelease", format!("{RELEASE}\n"));
    tree.write("/etc/modprobe.d/blacklist.conf", "options snd_hda_intel power_save=1\n");
    tree.write("/proc/mounts", "");
    tree
}

/// As Debian builds it: initramfs-tools (mkinitramfs), and GRUB that reads drop-ins.
fn debian() -> (Tree, Program) {
    let tree = machine();
    tree.write("/usr/sbin/grub-mkconfig", "for x in /etc/default/grub.d/*.cfg ; do\n");
    tree.write("/usr/sbin/update-grub", "");
    tree.write(
        "/boot/grub/grub.cfg",
        "menuentry 'Debian' {\n\tlinux\t/boot/vmlinuz root=/dev/sda1 quiet\n}\n",
    );
    tree.write(
        "/etc/default/grub",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
    );
    (tree, Program::new("update-initramfs").args(["-u", "-k", "all"]))
}

/// As distributions with dracut and a plain GRUB do: dracut.sh, grub2-mkconfig.
fn dracut() -> (Tree, Program) {
    let tree = machine();
    let image = format!("/boot/initramfs-{RELEASE}.img");
    tree.write("/usr/sbin/grub2-mkconfig", "# it reads no drop-ins\n");
    tree.write(
        "/boot/grub2/grub.cfg",
        "menuentry 'Void' {\n\tlinux /boot/vmlinuz root=/dev/sda1 quiet\n}\n",
    );
    tree.write("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\nGRUB_TIMEOUT=5\n");
    tree.write("/etc/dracut.conf.d/own.conf", "hostonly=yes\n");
    tree.write(&image, "");
    (tree, Program::new("dracut").args(["--force", &image, RELEASE]))
}

/// The programs of distributions, and one that makes GRUB's menu, which has no parameter here that
/// anything is compared with.
#[derive(Debug)]
struct Programs<'a>(Builders<'a>);

impl Runner for Programs<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let menu = ["update-grub", "grub2-mkconfig"];
        if menu.iter().any(|name| program.executable.as_os_str() == *name) {
            let status = ExitStatus::from_raw(0);
            return Ok(Finished { status, stdout: Vec::new(), stderr: Vec::new() });
        }
        self.0.run(program)
    }
}

/// Captures a host as root does.
fn capture(kernel: &FakeKernel) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("snapshot");
    let ended = kireji(kernel, &["snapshot", file.to_str().expect("UTF-8")]);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    std::fs::read(file).expect("the snapshot")
}

/// Compares what the host says with what its capture says, of all that plans and proves.
fn compare(kernel: &FakeKernel, card: &str, state: &str) {
    let captured = Sysroot::unpack(&capture(kernel)[..]).expect("a captured host");
    let mut said = 0;
    for args in [
        &["reserve", card, "--dry-run", "--allow", "E-UNMEASURED"][..],
        &["release", card, "--dry-run"],
        &["verify"],
        &["verify", "--json"],
        &["status"],
        &["list"],
        &["doctor", card],
    ] {
        let host = kireji(kernel, args);
        let again = kireji_at(&captured, kernel, args, true);
        assert_eq!(again.exit, host.exit, "{state}: {args:?}: {}", again.err);
        let other = host.out.lines().zip(again.out.lines()).find(|(one, other)| one != other);
        assert_eq!(other, None, "{state}: {args:?}");
        assert_eq!(again.out.len(), host.out.len(), "{state}: {args:?}");
        assert_eq!(again.err, host.err, "{state}: {args:?}");
        said += usize::from(!host.out.is_empty());
    }
    assert!(said >= 5, "{state}: only {said} said anything");
}

#[test]
fn plans_and_proofs_are_the_same_on_a_capture() {
    for (name, (tree, build)) in [("debian", debian()), ("dracut", dracut())] {
        let kernel = FakeKernel::new(tree);
        let programs = Programs(Builders::new(&kernel.tree));
        programs.run(&build).expect("it builds");
        compare(&kernel, "29:00", name);
        let host = kernel.tree.sysroot();
        let mut err = Vec::new();
        let mut context = Context {
            host: &host,
            writable: true,
            runner: &programs,
            writer: &kernel,
            clock: &SystemClock,
            vars: Vars { is_root: true, ..Vars::default() },
            out: &mut std::io::sink(),
            err: &mut err,
            width: None,
        };
        let args = ["kireji", "reserve", "29:00", "--yes", "--allow", "E-UNMEASURED"];
        let cli = Cli::try_parse_from(args).expect("a valid command line");
        // The menu is not made again, which is seen.
        let _ = kireji::run(cli, &mut context);
        let err = String::from_utf8_lossy(&err);
        assert!(kernel.tree.locate("/etc/kireji/reservations").exists(), "{name}: {err}");
        compare(&kernel, "29:00", &format!("{name}, reserved"));
    }
}

#[test]
fn every_distribution_is_captured_with_all_that_a_plan_reads() {
    for distribution in ALL {
        compare(&FakeKernel::new(distribution.tree()), CARD, distribution.name);
    }
}

#[test]
fn of_an_initramfs_only_what_is_checked_is_captured() {
    let (tree, _) = debian();
    let order = b"/scripts/init-top/udev \"$@\"\n";
    let image = archive([
        ("scripts/init-top/ORDER", 0o100_644, &order[..]),
        ("cryptroot/keyfiles/home.key", 0o100_600, b"KEYMATERIAL"),
        ("etc/ssh/id_alice", 0o100_600, b"KEYMATERIAL"),
        ("etc/hostname", 0o100_644, b"workstation7\n"),
    ]);
    tree.write(&format!("/boot/initrd.img-{RELEASE}"), image);
    tree.write("/etc/hostname", "workstation7\n");
    tree.write("/etc/passwd", "alice:x:1000:1000::/home/alice:/bin/sh\n");
    let kernel = FakeKernel::new(tree);
    let packed = capture(&kernel);
    let bytes = zstd::decode_all(&packed[..]).expect("zstd");
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    for secret in ["KEYMATERIAL", "workstation7", "alice"] {
        assert!(!holds(secret), "{secret}");
    }
    for kept in ["cryptroot/keyfiles/home.key", "/scripts/init-top/udev"] {
        assert!(holds(kept), "{kept}");
    }
}
