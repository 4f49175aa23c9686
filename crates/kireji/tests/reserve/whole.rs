//! The whole way: reserved, proved, shown, released, undone.

use std::collections::BTreeMap;

use testkit::boot::Builders;

use super::*;

const YES: [&str; 5] = ["reserve", "29:00", "--yes", "--allow", "E-UNMEASURED"];

/// Debian as its own programs built it, with a second card.
fn two_cards() -> FakeKernel {
    let mut tree = debian();
    tree.add(Function::new("0000:00:07.0", 0x10de, 0x1234).class(0x04_0300).group(7));
    let kernel = FakeKernel::new(tree);
    let build = Program::new("update-initramfs").args(["-u", "-k", "all"]);
    Builders::new(&kernel.tree).run(&build).expect("it builds");
    kernel
}

/// Every file of the host's configuration and of what is booted, and every directory.
pub fn all(tree: &Tree) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut ahead = ["etc", "boot", "usr"].map(|name| tree.locate(name)).to_vec();
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let contents = (!path.is_dir()).then(|| std::fs::read(&path).expect("a file"));
            if contents.is_none() {
                ahead.push(path.clone());
            }
            let name = path.strip_prefix(tree.root()).expect("below the root");
            found.insert(name.display().to_string(), contents);
        }
    }
    found
}

#[test]
fn what_is_reserved_is_proved_released_and_undone() {
    let kernel = two_cards();
    let programs = Builders::new(&kernel.tree);
    let start = all(&kernel.tree);

    let (exit, err) = kireji_with(&kernel, &YES, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(err.ends_with("reboot now, then run `kireji verify`\n"), "{err}");
    assert!(err.contains("Type a space and kireji.off"), "{err}");
    assert_eq!(programs.ran(), ["update-initramfs -u -k all"]);
    let reserved = all(&kernel.tree);

    let other = ["reserve", "00:07.0", "--yes", "--allow", "E-UNMEASURED"];
    let (exit, err) = kireji_with(&kernel, &other, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    // As it was reserved, once more: nothing runs.
    programs.ran();
    let (exit, err) = kireji_with(&kernel, &other, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(err.contains("nothing would change"), "{err}");
    assert!(programs.ran().is_empty());

    let ended = kireji(&kernel, &["release", "00:07.0", "--dry-run"]);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(ended.out.contains("-0000:00:07.0 0000:00:07.0 10de 1234"), "{}", ended.out);
    let (exit, err) = kireji_with(&kernel, &["release", "00:07.0", "--yes"], true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(err.contains("0000:00:07.0: its own driver has it again from the next boot on"));
    assert_eq!(all(&kernel.tree), reserved);

    // A function of it can stay behind, and the last takes everything of ours with it.
    let one = ["release", "29:00.1", "--function", "--yes"];
    let (exit, err) = kireji_with(&kernel, &one, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    let (exit, err) = kireji_with(&kernel, &["release", "29:00", "--yes"], true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    let released = all(&kernel.tree);
    assert!(!released.contains_key("etc/kireji"), "{:?}", released.keys());
    assert!(!released.keys().any(|path| path.ends_with("kireji")), "{:?}", released.keys());

    // Back through all five, and the start is there again.
    for _ in 0..5 {
        let (exit, err) = kireji_with(&kernel, &["undo"], true, &programs);
        assert_eq!(exit, Exit::Done, "{err}");
    }
    assert_eq!(all(&kernel.tree), start);
}

#[test]
fn what_was_added_to_the_command_line_goes_with_the_last_reservation() {
    let kernel = two_cards();
    std::fs::remove_dir_all(kernel.tree.locate("/sys/class/iommu/dmar0")).expect("a directory");
    let runner = FirstFails(RefCell::new(vec!["something that failed".to_owned()]));
    let (_, err) = kireji_with(&kernel, &YES, true, &runner);
    assert_eq!(kernel.tree.read("/etc/kireji/parameters"), "intel_iommu=on\n", "{err}");
    assert!(kernel.tree.locate("/etc/default/grub.d/zz-kireji.cfg").exists());
    // The next boot has it; the parameter is needed no less.
    kernel.tree.write("/sys/class/iommu/dmar0/x", "");
    let again = kireji(&kernel, &DRY);
    assert_eq!((again.out.as_str(), Code::from(Exit::Done)), ("", again.exit), "{}", again.err);
    let (_, err) = kireji_with(&kernel, &["release", "29:00", "--yes"], true, &runner);
    assert!(!kernel.tree.locate("/etc/default/grub.d/zz-kireji.cfg").exists(), "{err}");
    assert!(!kernel.tree.locate("/etc/kireji").exists(), "{err}");
    assert_eq!(runner.0.borrow()[3..], ["update-initramfs", "update-grub"]);
}

#[test]
fn a_person_is_asked_where_there_is_a_terminal() {
    let kernel = two_cards();
    let programs = Builders::new(&kernel.tree);
    let start = all(&kernel.tree);
    let args = ["reserve", "29:00", "--allow", "E-UNMEASURED"];
    let asked = |args: &[&str], answer| kireji_asked(&kernel, args, true, &programs, answer);

    let ended = asked(&args, None);
    assert_eq!(ended.exit, Exit::Usage);
    assert!(ended.err.contains("there is no terminal to ask on"), "{}", ended.err);
    assert_eq!(ended.out, "");

    let no: fn() -> io::Result<String> = || Ok("\n".to_owned());
    let ended = asked(&args, Some(no));
    assert_eq!(ended.exit, Exit::No);
    assert!(ended.out.contains("+++ b/etc/kireji/reservations"), "{}", ended.out);
    assert!(ended.err.ends_with("[y/N] nothing was changed\n"), "{}", ended.err);
    assert_eq!(all(&kernel.tree), start);

    let yes: fn() -> io::Result<String> = || Ok("y\n".to_owned());
    assert_eq!(asked(&args, Some(yes)).exit, Exit::Done);
    assert_eq!(asked(&["release", "29:00"], Some(yes)).exit, Exit::Done);
}

#[test]
fn what_is_not_reserved_is_not_released() {
    let kernel = two_cards();
    let ended = kireji(&kernel, &["release", "29:00", "--dry-run"]);
    assert_eq!(ended.exit, Exit::Usage);
    assert!(ended.err.contains("0000:29:00.0 is not reserved"), "{}", ended.err);
    let (exit, _) = kireji_with(&kernel, &YES, true, &Builders::new(&kernel.tree));
    assert_eq!(exit, Exit::Done);
    let ended = kireji(&kernel, &["release", "00:07.0", "--dry-run"]);
    assert!(ended.err.contains("reserved is: 0000:29:00.0 0000:29:00.1"), "{}", ended.err);
    let (exit, _) =
        kireji_with(&kernel, &["release", "29:00", "--yes"], false, &Builders::new(&kernel.tree));
    assert_eq!(exit, Exit::Permission);
}

#[test]
fn status_shows_what_is_reserved_and_where_it_went() {
    let before = two_cards();
    let (exit, err) = kireji_with(&before, &YES, true, &Builders::new(&before.tree));
    assert_eq!(exit, Exit::Done, "{err}");
    // After a reboot with another card in its slot, and itself in the next.
    let mut tree = debian_with(0x9999);
    tree.add(Function::port("0000:00:1c.4", Port::Root, 0x2a).slot().group(8));
    tree.add(
        Function::new("0000:2a:00.0", 0x8086, 0x10d3)
            .class(0x02_0000)
            .subsystem(0x1043, 0x85b0)
            .below("0000:00:1c.4")
            .group(9),
    );
    tree.bind("0000:29:00.1", "vfio-pci");
    tree.write("/etc/kireji/reservations", before.tree.read("/etc/kireji/reservations"));
    let kernel = FakeKernel::new(tree);
    let ended = kireji(&kernel, &["status"]);
    insta::assert_snapshot!(ended.out, @r"
    No card is held.

    RESERVED AT BOOT  CARD          NOW
    0000:29:00.0      0000:29:00.0  the card moved to 0000:2a:00.0; `kireji reserve 0000:2a:00.0` points the reservation there
    0000:29:00.1      0000:29:00.0  vfio-pci has it
    ");
    let ended = kireji(&kernel, &["status", "--json"]);
    assert!(ended.out.contains("\"standing\": \"moved\""), "{}", ended.out);
    let point = ["reserve", "2a:00", "--dry-run", "--allow", "E-UNMEASURED"];
    let ended = kireji(&kernel, &point);
    let lines =
        ended.out.lines().filter(|line| line.starts_with(['+', '-']) && line.contains(" 10d3 "));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    -0000:29:00.0 0000:29:00.0 8086 10d3 1043 85b0 020000 0000:00:1c.0
    +0000:2a:00.0 0000:2a:00.0 8086 10d3 1043 85b0 020000 0000:00:1c.4
    ");
}

#[test]
fn recover_takes_a_change_back_that_was_cut_off() {
    let kernel = two_cards();
    let programs = Builders::new(&kernel.tree);
    let start = all(&kernel.tree);
    let (exit, err) = kireji_with(&kernel, &YES, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    // As if the process had died behind the first command.
    let journal = "{\"header\":{\"number\":1,\"is_undo\":false}}\n{\"intent\":{\"Command\":0}}\n";
    kernel.tree.write("/var/lib/kireji/journal", journal);
    programs.ran();
    // Who only looks says so.
    for looks in [&["status"][..], &["verify"], &["release", "29:00", "--dry-run"]] {
        let ended = kireji(&kernel, looks);
        let says = "pending: a change of what this host boots with was cut off";
        assert!(ended.err.contains(says), "{looks:?}: {}", ended.err);
    }
    assert!(programs.ran().is_empty());
    let (exit, err) = kireji_with(&kernel, &["recover"], true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(err.contains("was cut off: taking it back"), "{err}");
    assert_eq!(programs.ran(), ["update-initramfs -u -k all"]);
    assert_eq!(all(&kernel.tree), start);
}

#[test]
fn what_was_reserved_by_hand_is_taken_over_by_the_same_plan() {
    let kernel = two_cards();
    let tree = &kernel.tree;
    tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=8086:10d3,8086:10d4\n");
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz quiet vfio-pci.ids=8086:10d3\n");
    let defaults = "GRUB_CMDLINE_LINUX=\"quiet vfio-pci.ids=8086:10d3\"\n";
    tree.write("/etc/default/grub", defaults);
    let programs = Builders::new(tree);
    let menu = Program::new("update-grub");
    programs.run(&menu).expect("it runs");
    let start = all(tree);
    let args = [&YES[..], &["--adopt"]].concat();
    let (exit, err) = kireji_with(&kernel, &args, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert_eq!(tree.read("/etc/default/grub"), "GRUB_CMDLINE_LINUX=\"quiet\"\n");
    assert!(!tree.locate("/etc/modprobe.d/vfio.conf").exists());
    assert!(err.contains("its parameters are right"), "{err}");
    let (exit, err) = kireji_with(&kernel, &["undo"], true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    assert_eq!(all(tree), start);
}

#[test]
fn verify_says_since_when_and_whether_this_boot_is_the_one_that_was_proved() {
    let kernel = two_cards();
    std::fs::remove_dir_all(kernel.tree.locate("/sys/class/iommu/dmar0")).expect("a directory");
    let programs = Builders::new(&kernel.tree);
    let (exit, err) = kireji_with(&kernel, &YES, true, &programs);
    assert_eq!(exit, Exit::Done, "{err}");
    // After the reboot.
    kernel.tree.write("/sys/class/iommu/dmar0/x", "");
    for function in ["0000:29:00.0", "0000:29:00.1"] {
        kernel.tree.bind(function, "vfio-pci");
    }
    let line = "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 quiet intel_iommu=on";
    kernel.tree.write("/proc/cmdline", format!("{line}\n"));
    let said = "6,0,0,-;Linux version 6.12\n SUBSYSTEM=x\n\
                6,2,2345678,-;kireji: 0000:29:00.0: vfio-pci has it\n";
    kernel.tree.write("/dev/kmsg", said);
    let ended = kireji(&kernel, &["verify"]);
    insta::assert_snapshot!(ended.out, @r"
    PASS        0000:29:00.0: vfio-pci has it: vfio-pci, since 2.3 s after the start, by the hook in the initramfs
    PASS        0000:29:00.0: its IOMMU group can be given away: group 3, whose functions no host driver has
    PASS        0000:29:00.1: vfio-pci has it: vfio-pci, from somebody later: the hook said nothing of it in this boot
    PASS        0000:29:00.1: its IOMMU group can be given away: group 3, whose functions no host driver has
    PASS        this boot: its command line has what was added: intel_iommu=on
    PASS        the files of the reservation: they are as they were written: nothing was changed since
    PASS        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: the hook runs before udev: /scripts/init-top/00-kireji, before udev in scripts/init-top/ORDER
    PASS        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: the list of reservations is the one of the host: /etc/kireji/reservations
    PASS        kernel 6.12.0-amd64, /boot/initrd.img-6.12.0-amd64: vfio-pci can be loaded: vfio_pci
    PASS        entry `Linux 6.12.0-amd64` of /boot/grub/grub.cfg: its parameters are right: root=UUID=1 ro intel_iommu=on quiet
    ");
    assert_eq!(ended.exit, Exit::Done);

    // Where the start of the log is gone, so is what the hook said.
    kernel.tree.write("/dev/kmsg", "6,7,2345678,-;usb 1-1: new device\n");
    let ended = kireji(&kernel, &["verify"]);
    let says = "vfio-pci; the kernel's log has lost its start, and what the hook said";
    assert!(ended.out.contains(says), "{}", ended.out);

    // Started without it, and a file changed.
    kernel
        .tree
        .write("/proc/cmdline", format!("{line} kireji.off\n").replace("intel_iommu=on", ""));
    kernel.tree.write("/etc/initramfs-tools/hooks/kireji", "#!/bin/sh\n");
    let ended = kireji(&kernel, &["verify"]);
    assert_eq!(ended.exit, Exit::No);
    let failed = ended.out.lines().filter(|line| line.starts_with("FAIL"));
    insta::assert_snapshot!(failed.collect::<Vec<_>>().join("\n"), @r"
    FAIL        this boot: reservations hold in it: it was started with kireji.off
    FAIL        this boot: its command line has what was added: no intel_iommu=on
    FAIL        the files of the reservation: they are as they were written: to be done again: /etc/initramfs-tools/hooks/kireji, `update-initramfs -u -k all`
    ");
}
