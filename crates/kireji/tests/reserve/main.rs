//! `reserve` on synthetic hosts.

#[path = "../common/mod.rs"]
mod common;
mod others;
mod refusals;
mod risks;
mod traced;
mod trial;
mod whole;

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use clap::Parser;
use common::{Ended, kireji};
use host::{Finished, Program, RunError, Runner, SystemClock};
use kireji::cli::Cli;
use kireji::{Code, Context, Exit, Vars};
use testkit::boot::archive;
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Function, Port, Tree};

const RELEASE: &str = "6.12.0-amd64";

/// An archive of one file, not packed.
fn image(name: &str) -> Vec<u8> {
    archive([(name, 0o100_644, &b""[..])])
}

/// Debian on a machine with Intel's IOMMU in use: GRUB and initramfs-tools, a network card to spare.
fn debian() -> Tree {
    debian_with(0x10d3)
}

/// The same with another network card.
fn debian_with(device: u16) -> Tree {
    let mut tree = Tree::new();
    tree.add(Function::new("0000:00:00.0", 0x8086, 0x29c0).class(0x06_0000).group(0));
    tree.add(Function::port("0000:00:1c.0", Port::Root, 0x29).slot().driver("pcieport").group(2));
    let card = |address, device, class| {
        Function::new(address, 0x8086, device).class(class).below("0000:00:1c.0").group(3)
    };
    tree.add(card("0000:29:00.0", device, 0x02_0000).subsystem(0x1043, 0x85b0).driver("e1000e"));
    tree.add(card("0000:29:00.1", 0x10d4, 0x04_0300));
    tree.write("/sys/class/iommu/dmar0/x", "");
    tree.write("/sys/firmware/acpi/tables/DMAR", "");
    tree.write(
        &format!("/lib/modules/{RELEASE}/modules.dep"),
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
    );
    tree.write(&format!("/boot/initrd.img-{RELEASE}"), image("scripts/init-top/ORDER"));
    tree.write(
        "/boot/grub/grub.cfg",
        "menuentry 'Debian' {\nlinux /boot/vmlinuz root=UUID=1 quiet\n}\n",
    );
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 quiet\n");
    tree.write("/proc/sys/kernel/osrelease", format!("{RELEASE}\n"));
    tree.write("/usr/sbin/grub-mkconfig", "for x in /etc/default/grub.d/*.cfg ; do\n");
    tree.write("/usr/sbin/update-grub", "");
    tree.write(
        "/etc/default/grub",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
    );
    tree.write("/proc/mounts", "");
    tree
}

#[test]
fn a_dry_run_is_a_patch_and_commands() {
    let kernel = FakeKernel::new(debian());
    let ended = kireji(&kernel, &DRY);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    // The hook has its own tests.
    let start = ended.out.find("--- ").expect("a patch");
    assert!(start == 0 || ended.out.starts_with("# mode: "), "{}", ended.out);
    let list = ended.out.lines().filter(|line| line.starts_with("+0000:"));
    let list: Vec<_> = list.collect();
    let commands: Vec<_> = ended.out.lines().filter(|line| line.starts_with("# ")).collect();
    insta::assert_snapshot!(format!("{}\n{}", list.join("\n"), commands.join("\n")), @r"
    +0000:29:00.0 0000:29:00.0 8086 10d3 1043 85b0 020000 0000:00:1c.0
    +0000:29:00.0 0000:29:00.1 8086 10d4 0000 0000 040300 0000:00:1c.0
    # mode: 0644 /etc/kireji/reservations
    # mode: 0755 /etc/initramfs-tools/scripts/init-top/00-kireji
    # mode: 0755 /etc/initramfs-tools/hooks/kireji
    # run: update-initramfs -u -k all
    ");
    let mut child = Command::new("patch")
        .args(["-p1", "--silent"])
        .current_dir(kernel.tree.root())
        .stdin(Stdio::piped())
        .spawn()
        .expect("patch");
    child.stdin.take().expect("a pipe").write_all(ended.out.as_bytes()).expect("patch reads");
    assert!(child.wait().expect("patch ends").success());
    let again = kireji(&kernel, &DRY);
    // A patch has no permission bits.
    assert!(again.out.lines().all(|line| line.starts_with("# ")), "{}", again.out);
}

const DRY: [&str; 5] = ["reserve", "29:00", "--dry-run", "--allow", "E-UNMEASURED"];

#[test]
fn an_iommu_that_only_a_parameter_keeps_off_is_turned_on() {
    let tree = debian();
    tree.remove("/sys/class/iommu/dmar0/x");
    std::fs::remove_dir(tree.locate("/sys/class/iommu/dmar0")).expect("an empty directory");
    let ended = kireji(&FakeKernel::new(tree), &DRY);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(ended.out.contains("+GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on\""));
    let commands: Vec<_> = ended.out.lines().filter(|line| line.starts_with("# run")).collect();
    assert_eq!(commands, ["# run: update-initramfs -u -k all", "# run: update-grub"]);
}

#[test]
fn what_is_reserved_by_hand_is_shown_and_not_stacked() {
    let tree = debian();
    tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=8086:10d3\n");
    let ended = kireji(&FakeKernel::new(tree), &DRY);
    assert_eq!(ended.exit, Exit::Refused);
    assert!(
        ended.err.contains("/etc/modprobe.d/vfio.conf: line 1: ids=8086:10d3"),
        "{}",
        ended.err
    );
    assert_eq!(ended.out, "");
}

#[test]
fn contradicting_images_stop_the_plan_and_are_both_shown() {
    let tree = debian();
    tree.write("/lib/modules/6.12.9/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko:\n");
    tree.write("/boot/initrd.img-6.12.9", image("usr/lib/dracut/build-parameter.txt"));
    let ended = kireji(&FakeKernel::new(tree), &DRY);
    assert_eq!(ended.exit, Exit::HostCannot);
    assert!(
        ended.err.contains("initrd.img-6.12.9: it has usr/lib/dracut says dracut"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("says initramfs-tools"), "{}", ended.err);
}

#[test]
fn contradicting_boot_loaders_stop_the_plan_and_are_both_shown() {
    let tree = debian();
    let info = "systemd-boot 257\0".encode_utf16().flat_map(u16::to_le_bytes);
    let info: Vec<u8> = [6, 0, 0, 0].into_iter().chain(info).collect();
    let variable = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    tree.write(variable, info);
    let kernel = FakeKernel::new(tree);
    let ended = kireji(&kernel, &DRY);
    assert_eq!(ended.exit, Exit::HostCannot);
    assert!(ended.err.contains("systemd-boot 257 says systemd-boot"), "{}", ended.err);
    assert!(ended.err.contains("BOOT_IMAGE=/boot/vmlinuz says GRUB"), "{}", ended.err);
    // What was once written down for all kernels shows no loader of today.
    kernel.tree.write("/etc/kernel/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=UUID=1\n");
    assert_eq!(kireji(&kernel, &DRY).exit, Exit::Done);
}

#[test]
fn a_parameter_that_comes_from_nowhere_stops_the_plan() {
    let tree = debian();
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 vfio-pci.ids=8086:10d3\n");
    tree.write(
        "/boot/grub/grub.cfg",
        "menuentry 'x' {\nlinux /boot/vmlinuz root=UUID=1 vfio-pci.ids=8086:10d3\n}\n",
    );
    let kernel = FakeKernel::new(tree);
    let adopt = [&DRY[..], &["--adopt"]].concat();
    let ended = kireji(&kernel, &adopt);
    assert_eq!(ended.exit, Exit::HostCannot);
    let says =
        "the parameter vfio-pci.ids=8086:10d3 of /boot/grub/grub.cfg comes from was not found";
    assert!(ended.err.contains(says), "{}", ended.err);
    let defaults = "GRUB_CMDLINE_LINUX=\"vfio_pci.ids=8086:10d3\"\n";
    kernel.tree.write("/etc/default/grub.d/vfio.cfg", defaults);
    let ended = kireji(&kernel, &adopt);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(
        ended.out.contains("-GRUB_CMDLINE_LINUX=\"vfio_pci.ids=8086:10d3\"\n"),
        "{}",
        ended.out
    );
}

#[test]
fn a_kernel_without_vfio_pci_stops_the_plan() {
    let tree = debian();
    tree.write("/lib/modules/6.12.9/modules.dep", "kernel/net/e1000e.ko:\n");
    let kernel = FakeKernel::new(tree);
    // Modules without a kernel boot nothing.
    assert_eq!(kireji(&kernel, &DRY).exit, Exit::Done);
    kernel.tree.write("/boot/vmlinuz-6.12.9", "MZ");
    let ended = kireji(&kernel, &DRY);
    assert_eq!(ended.exit, Exit::HostCannot);
    assert!(ended.err.contains("kernel 6.12.9 has no vfio-pci"), "{}", ended.err);
}

/// Runs a command with a runner of programs in place of the machine's.
fn kireji_with(
    kernel: &FakeKernel,
    args: &[&str],
    is_root: bool,
    runner: &dyn Runner,
) -> (Code, String) {
    let ended = kireji_asked(kernel, args, is_root, runner, None);
    (ended.exit, ended.err)
}

/// The same at a terminal, where there is an answer.
fn kireji_asked(
    kernel: &FakeKernel,
    args: &[&str],
    is_root: bool,
    runner: &dyn Runner,
    answer: Option<fn() -> io::Result<String>>,
) -> Ended {
    kireji_for(kernel, args, runner, Vars { is_root, answer, ..Vars::default() })
}

/// The same with all that the command knows of who called it.
fn kireji_for(kernel: &FakeKernel, args: &[&str], runner: &dyn Runner, vars: Vars) -> Ended {
    let host = kernel.tree.sysroot();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut context = Context {
        host: &host,
        writable: true,
        runner,
        writer: kernel,
        clock: &SystemClock,
        vars,
        out: &mut out,
        err: &mut err,
        width: None,
    };
    let cli = Cli::try_parse_from([&["kireji"], args].concat()).expect("a valid command line");
    let exit = kireji::run(cli, &mut context);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { exit, out: text(out), err: text(err) }
}

/// Programs of which none is really run; the first fails.
#[derive(Debug, Default)]
struct FirstFails(RefCell<Vec<String>>);

impl Runner for FirstFails {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let mut ran = self.0.borrow_mut();
        ran.push(program.executable.display().to_string());
        let status = ExitStatus::from_raw(if ran.len() == 1 { 1 << 8 } else { 0 });
        Ok(Finished { status, stdout: Vec::new(), stderr: b"no space left on device".to_vec() })
    }
}

#[test]
fn a_plan_whose_command_fails_leaves_the_host_as_it_was() {
    let kernel = FakeKernel::new(debian());
    let runner = FirstFails::default();
    let args = ["reserve", "29:00", "--yes", "--allow", "E-UNMEASURED"];
    let (exit, err) = kireji_with(&kernel, &args, true, &runner);
    assert_eq!(exit, Exit::HostCannot);
    assert!(err.contains("update-initramfs"), "{}", err);
    assert!(err.contains("no space left on device"), "{}", err);
    assert!(!kernel.tree.locate("/etc/kireji").exists());
    assert!(!kernel.tree.locate("/etc/initramfs-tools").exists());
    assert_eq!(*runner.0.borrow(), ["update-initramfs", "update-initramfs"]);

    // It succeeds now, but builds nothing, which is seen.
    let (exit, err) = kireji_with(&kernel, &args, true, &runner);
    assert_eq!(exit, Exit::Unproven, "{}", err);
    assert!(kernel.tree.locate("/etc/kireji/reservations").exists());
    let (exit, err) = kireji_with(&kernel, &["undo"], true, &runner);
    assert_eq!(exit, Exit::Done, "{}", err);
    assert!(!kernel.tree.locate("/etc/kireji").exists());
    let (exit, _) = kireji_with(&kernel, &["undo"], true, &runner);
    assert_eq!(exit, Exit::Usage);
    let (exit, _) = kireji_with(&kernel, &args, false, &runner);
    assert_eq!(exit, Exit::Permission);
}

#[test]
fn verify_says_what_is_not_so() {
    let kernel = FakeKernel::new(debian());
    let ended = kireji(&kernel, &DRY);
    let list: String = ended
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("+0000"))
        .map(|line| format!("0000{line}\n"))
        .collect();
    kernel.tree.write("/etc/kireji/reservations", list);
    let ended = kireji(&kernel, &["verify"]);
    assert_eq!(ended.exit, Exit::No);
    insta::assert_snapshot!(ended.out, @r"
    FAIL        0000:29:00.0: vfio-pci has it: e1000e has it; what the hook said is unmeasured: /dev/kmsg: No such file or directory (os error 2)
    FAIL        0000:29:00.0: its IOMMU group can be given away: group 3: 0000:29:00.0 is held by e1000e
    FAIL        0000:29:00.1: vfio-pci has it: no driver has it; what the hook said is unmeasured: /dev/kmsg: No such file or directory (os error 2)
    FAIL        0000:29:00.1: its IOMMU group can be given away: group 3: 0000:29:00.0 is held by e1000e
    FAIL        the files of the reservation: they are as they were written: to be done again: /etc/kireji/reservations, /etc/initramfs-tools/scripts/init-top/00-kireji, /etc/initramfs-tools/hooks/kireji, `update-initramfs -u -k all`
    FAIL        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: the hook runs before udev: scripts/init-top/ORDER does not call /scripts/init-top/00-kireji
    FAIL        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: the list of reservations is the one of the host: there is no /etc/kireji/reservations
    FAIL        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: vfio-pci can be loaded: it has no vfio_pci
    ");
    let ended = kireji(&kernel, &["verify", "--json"]);
    assert!(ended.out.contains("\"outcome\": \"fail\""), "{}", ended.out);

    // Whether its driver could have been kept from it by an initramfs.
    kernel.tree.write("/sys/module/e1000e/version", "3.2.6-k\n");
    let says = "vfio-pci has it: e1000e, which is built into the kernel, has it";
    let out = kireji(&kernel, &["verify"]).out;
    assert!(out.contains(says), "{out}");
    kernel.tree.write("/sys/module/e1000e/initstate", "live\n");
    assert!(kireji(&kernel, &["verify"]).out.contains("vfio-pci has it: e1000e has it"));
}
