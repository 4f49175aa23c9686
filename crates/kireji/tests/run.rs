//! `run`, `runs` and `log`: what goes wrong is told once, with its exit code, and changes nothing.
//!
//! Runs that work are tried with a real QEMU in `run_qemu.rs`, and with a card in the lab.

mod common;

use common::{Ended, kireji, kireji_as};
use kireji::Exit;
use testkit::fake_kernel::FakeKernel;
use testkit::image::{self, Then};
use testkit::tree::{Function, Port, Tree};

const NIC: &str = "0000:00:03.0";

fn kernel() -> FakeKernel {
    let mut tree = Tree::new();
    tree.write("/proc/self/mountinfo", "");
    tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    tree.add(Function::new(NIC, 0x8086, 0x10d3).class(0x02_0000).group(1).driver("e1000e"));
    let mut kernel = FakeKernel::new(tree);
    kernel.natural(NIC, "e1000e");
    kernel
}

struct Place {
    dir: tempfile::TempDir,
    kernel: FakeKernel,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        image::write(&dir.path().join("good.image"), "hello\r\n", Then::PowerOff);
        Self { dir, kernel: kernel() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn run(&self, image: &str, more: &[&str]) -> Ended {
        let image = if image.contains("://") { image.to_owned() } else { self.path(image) };
        kireji(&self.kernel, &[&["run", &image], more].concat())
    }

    /// Checks that a run fails so, and that neither host nor state directory has changed.
    fn fails(&self, image: &str, more: &[&str], exit: Exit, says: &str) {
        self.kernel.kill(None);
        let ended = self.run(image, more);
        assert_eq!(ended.exit, exit, "{image} {more:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{image} {more:?}: {}", ended.err);
        let errors = ended.err.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(errors, 1, "{}", ended.err);
        assert_eq!(self.kernel.writes(), []);
        let runs = self.kernel.tree.locate("/home/user/.local/state/kireji/runs");
        assert!(!runs.exists(), "{image} {more:?} left a run");
    }
}

#[test]
fn what_is_no_image_is_told_apart() {
    let place = Place::new();
    std::fs::write(place.dir.path().join("empty"), "").expect("a file");
    std::fs::create_dir(place.dir.path().join("directory")).expect("a directory");
    let whole = std::fs::read(place.dir.path().join("good.image")).expect("the image");
    std::fs::write(place.dir.path().join("cut"), &whole[..whole.len() / 2]).expect("a file");
    std::fs::write(place.dir.path().join("zip"), b"PK\x03\x04rest of it").expect("a file");
    for (image, says) in [
        ("missing", "cannot read the image"),
        ("empty", "is empty"),
        ("directory", "is a directory"),
        ("cut", "is cut off"),
        ("zip", "not an image"),
        ("https://download.example/haiku.iso", "an address on the network"),
    ] {
        place.fails(image, &[], Exit::Image, says);
    }
}

#[test]
fn a_missing_or_unfit_qemu_is_told() {
    let place = Place::new();
    let missing = place.path("no-such-qemu");
    place.fails("good.image", &["--qemu", &missing], Exit::Qemu, "cannot find");
    // A program that is not QEMU.
    place.fails("good.image", &["--qemu", "/bin/true"], Exit::Qemu, "/true");
    std::fs::write(place.dir.path().join("caps"), "{]").expect("a file");
    let damaged = place.path("caps");
    place.fails("good.image", &["--qemu-caps", &damaged], Exit::Qemu, "capabilities");
}

#[test]
fn an_unknown_card_is_told_before_anything_is_made() {
    let place = Place::new();
    place.fails(
        "good.image",
        &["--device", "77:00.0"],
        Exit::Usage,
        "there is no PCI function 0000:77:00.0",
    );
}

#[test]
fn what_qemu_cannot_do_is_told_before_the_card_is_taken() {
    let place = Place::new();
    let card = ["--device", NIC, "--accel", "tcg"];
    let with = |more: &[&'static str]| [&card[..], more].concat();
    place.fails("good.image", &with(&["--emulate", "nosuch"]), Exit::Qemu, "`nosuch`");
    place.fails("good.image", &with(&["--memory", "1"]), Exit::Usage, "memory in MiB");
    place.fails("good.image", &with(&["--cpus", "0"]), Exit::Usage, "processors");
    let forward = with(&["--net", "none", "--forward", "2222:22"]);
    place.fails("good.image", &forward, Exit::Usage, "--forward");
    place.fails("good.image", &with(&["--primary-display"]), Exit::Usage, "display card");
}

#[test]
fn a_dry_run_prints_arguments_and_makes_nothing() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its number").port();
    drop(free);
    let gdb = format!("--gdb={port}");
    let ended = place.run("good.image", &["--device", NIC, "--accel", "tcg", "--dry-run", &gdb]);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
    assert!(ended.out.lines().any(|line| line.starts_with("vfio-pci,host=0000:00:03.0")));
    // Nobody else's machine reaches the stub.
    let stub = format!("-gdb\ntcp:127.0.0.1:{port}\n");
    assert!(ended.out.contains(&stub), "{}", ended.out);
    assert!(!place.kernel.tree.locate("/home").exists());
    assert!(!place.kernel.tree.locate("/run").exists());
}

/// A card that waits on vfio-pci: the kernel lets it sleep, and the port above with it.
#[test]
fn a_sleeping_card_of_pci_express_gets_a_port_of_its_own() {
    const PORT: &str = "0000:00:1c.0";
    const CARD: &str = "0000:03:00.0";
    let plan = |link: bool| {
        let mut tree = Tree::new();
        tree.write("/proc/self/mountinfo", "");
        tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        let asleep = |function: Function| function.attribute("power/runtime_status", "suspended");
        tree.add(asleep(Function::port(PORT, Port::Root, 3)).driver("pcieport"));
        let card = Function::new(CARD, 0x8086, 0x10d3).below(PORT).class(0x02_0000).group(1);
        let card = asleep(card).driver("vfio-pci");
        let speed = |function: Function| function.attribute("max_link_speed", "2.5 GT/s PCIe\n");
        tree.add(if link { speed(card) } else { card });
        let place = Place { kernel: FakeKernel::new(tree), ..Place::new() };
        let ended = place.run("good.image", &["--device", CARD, "--accel", "tcg", "--dry-run"]);
        assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
        let line = ended.out.lines().find(|line| line.starts_with("vfio-pci,")).map(str::to_owned);
        line.expect("the card is passed")
    };
    let express = plan(true);
    assert!(express.ends_with("bus=port1,addr=00.0"), "{express}");
    // Without a link it is behind the bridge for conventional cards.
    let conventional = plan(false);
    assert!(conventional.contains("bus=bridge1,"), "{conventional}");
}

#[test]
fn a_missing_rom_file_is_told() {
    const VGA: &str = "0000:00:04.0";
    let mut place = Place::new();
    let vga = Function::new(VGA, 0x1002, 0x68c8).class(0x03_0000).group(2).driver("vfio-pci");
    place.kernel.tree.add(vga);
    let missing = place.path("no.rom");
    let words = ["--device", VGA, "--accel", "tcg", "--romfile", &missing];
    place.fails("good.image", &words, Exit::Usage, "no.rom");
}

/// What is wrong is found before the card is touched, and a dry run finds it too.
#[test]
fn what_the_host_has_not_got_is_told_before_the_card_is_taken() {
    let place = Place::new();
    place.kernel.tree.write("/sys/bus/usb/devices/1-2/idVendor", "046d\n");
    place.kernel.tree.write("/sys/bus/usb/devices/1-2/idProduct", "c31c\n");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy_port = busy.local_addr().expect("its number").port();
    let (forward, gdb) = (format!("{busy_port}:80"), format!("--gdb={busy_port}"));
    let (nowhere, file) = (place.path("nowhere"), place.path("good.image"));
    for (words, exit, says) in [
        (&["--romfile", &nowhere][..], Exit::Usage, "nowhere"),
        (&["--romfile", place.dir.path().to_str().expect("text")], Exit::Usage, "cannot read"),
        (&["--input", &nowhere], Exit::Usage, "nowhere"),
        (&["--input", &file], Exit::Usage, "no input device"),
        (&["--forward", &forward], Exit::Busy, "cannot lead to the guest"),
        (&["--forward", "2222:22", "--forward", "2222:80"], Exit::Usage, "to two places"),
        (&[&gdb], Exit::Busy, "cannot be QEMU's stub for gdb"),
        (&["--gdb=2222", "--forward", "2222:22"], Exit::Usage, "both ask for port 2222"),
        (&["--usb", "1234:5678"], Exit::Usage, "no USB device 1234:5678"),
        (&["--state", "../work"], Exit::Usage, "no name for an overlay"),
        (&["--reset", "flr"], Exit::HostCannot, "in the way `flr`"),
    ] {
        let words = [&["--device", NIC, "--accel", "tcg"], words].concat();
        place.fails("good.image", &words, exit, says);
        place.fails("good.image", &[&words[..], &["--dry-run"]].concat(), exit, says);
    }
    let words = ["--accel", "tcg", "--dry-run", "--usb", "046d:c31c"];
    let ended = place.run("good.image", &words);
    assert_eq!(ended.exit, Exit::Done, "{}", ended.err);
}

#[test]
fn an_option_that_another_makes_meaningless_is_told() {
    let place = Place::new();
    let linux = ["--guest", "linux", "--device", NIC];
    place.fails("good.image", &linux, Exit::Usage, "an image is for Haiku");
    for (words, says) in [
        (&["--guest", "linux", "--device", NIC, "--state", "work"][..], "`--state` is for Haiku"),
        (&["--guest", "linux", "--device", NIC, "--persist"], "`--persist` is for Haiku"),
        (&["--guest", "linux", "--device", NIC, "--disk-bus", "ahci"], "`--disk-bus` is for Haiku"),
        (&["--kernel", "vmlinuz"], "`--kernel` is for the reference guest"),
        (&["--dhcp"], "`--dhcp` is for the reference guest"),
        (&["--reset", "flr"], "`--reset` needs a card"),
        (&["--romfile", "card.rom"], "`--romfile` needs a card"),
        (&["--with-group"], "`--with-group` needs a card"),
        // Not even KVM is tried.
        (&["--qemu", "/nonexistent"], "an image is missing"),
    ] {
        let ended = kireji(&place.kernel, &[&["run"], words].concat());
        assert_eq!(ended.exit, Exit::Usage, "{words:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{words:?}: {}", ended.err);
    }
}

#[test]
fn a_defect_in_the_middle_of_a_run_gives_the_card_back() {
    /// Panics where the run is announced, which is after the take.
    struct Defect(Vec<u8>);
    impl std::io::Write for Defect {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend(bytes);
            assert!(!bytes.starts_with(b"run "), "a defect");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    place.kernel.tree.write("/dev/vfio/vfio", "");
    let image = place.path("good.image");
    let words = ["kireji", "run", &image, "--device", NIC, "--accel", "tcg", "--memory", "64"];
    let mut err = Defect(Vec::new());
    let host = place.kernel.tree.sysroot();
    let exit = common::kireji_to(
        &host,
        &place.kernel,
        &words[1..],
        true,
        None,
        [&mut Vec::new(), &mut err],
    );
    let said = String::from_utf8_lossy(&err.0).into_owned();
    assert_eq!(exit, Exit::Internal, "{said}");
    assert!(said.contains("because a defect"), "{said}");
    assert!(said.contains("0000:00:03.0 is back on e1000e"), "{said}");
    assert_eq!(place.kernel.binding(NIC).0.as_deref(), Some("e1000e"));
    let runs = kireji(&place.kernel, &["runs"]);
    assert!(runs.out.contains("A defect in kireji ended the run."), "{}", runs.out);
}

#[test]
fn a_run_that_fails_before_qemu_is_recorded_with_the_reason() {
    let mut place = Place::new();
    place.kernel.refuse("/sys/bus/pci/drivers_probe", 22);
    let events = "/home/user/.local/state/kireji/runs";
    let words = ["run", &place.path("good.image"), "--device", NIC, "--accel", "tcg", "--json"];
    let ended = kireji(&place.kernel, &words);
    assert_ne!(ended.exit, Exit::Done);
    let lines: Vec<serde_json::Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((&first["event"], &first["schema"]), (&"run".into(), &1.into()));
    assert_eq!(last["event"], "verdict");
    let run = place.kernel.tree.locate(events).join(first["run"].as_str().expect("its name"));
    let end = std::fs::read(run.join("end.json")).expect("the end");
    let end: serde_json::Value = serde_json::from_slice(&end).expect("JSON");
    assert_eq!((&end["exit_code"], &end["outcome"]), (&last["exit_code"], &last["outcome"]));
    assert!(!run.join("overlay.qcow2").exists());
}

#[test]
fn a_card_that_was_taken_stays_so_and_belongs_to_its_user() {
    let place = Place::new();
    let lines = "tester:x:65533:100::/home/tester:/bin/sh\n";
    place.kernel.tree.write("/etc/passwd", lines);
    place.kernel.tree.write("/dev/vfio/vfio", "");
    let image = place.path("good.image");
    let words = ["run", &image, "--device", NIC, "--accel", "tcg", "--dry-run"];
    // A user's dry run needs nothing; root's rights are asked for by a real one.
    let untaken = kireji_as(&place.kernel, &words[..6], false);
    assert_eq!(untaken.exit, Exit::Permission, "{}", untaken.err);
    // This process may be root, but is not tester.
    assert_eq!(kireji(&place.kernel, &["take", NIC, "--for", "tester"]).exit, Exit::Done);
    let others = kireji_as(&place.kernel, &words, false);
    assert_eq!(others.exit, Exit::Permission, "{}", others.err);
    assert!(others.err.contains("was taken for tester"), "{}", others.err);
    let roots = kireji(&place.kernel, &words);
    assert_eq!(roots.exit, Exit::Done, "{}", roots.err);
    assert!(roots.out.contains("vfio-pci,host=0000:00:03.0"), "{}", roots.out);
    let status = kireji(&place.kernel, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(status["leases"][0]["state"], "held");
    place.kernel.kill(None);
    let reset = kireji(
        &place.kernel,
        &["run", &image, "--device", NIC, "--accel", "tcg", "--reset", "flr"],
    );
    assert_eq!(reset.exit, Exit::Usage, "{}", reset.err);
    assert_eq!(place.kernel.writes(), [], "a card that was taken is neither taken nor returned");
    assert_eq!(place.kernel.binding(NIC).0.as_deref(), Some("vfio-pci"));
}

#[test]
fn the_functions_of_a_users_card_stay_together() {
    let (port, both) = ("0000:00:1c.0", ["0000:01:00.0", "0000:01:00.1"]);
    let mut tree = Tree::new();
    tree.add(Function::port(port, Port::Root, 1).slot().driver("pcieport").group(1));
    for address in both {
        let function = Function::new(address, 0x8086, 0x10d3).class(0x02_0000);
        let speed = ("max_link_speed", "2.5 GT/s PCIe\n");
        tree.add(function.below(port).group(2).attribute(speed.0, speed.1));
    }
    // With this below the port, it matters whether that leads to a slot.
    tree.add(Function::new("0000:01:01.0", 0x8086, 0x10d3).below(port).group(3));
    let kernel = FakeKernel::new(tree);
    let uid = rustix::process::geteuid().as_raw();
    kernel.tree.write("/etc/passwd", format!("me:x:{uid}:100::/home/me:/bin/sh\n"));
    let taken = kireji(&kernel, &["take", "01:00", "--function", "--for", "me"]);
    assert_eq!(taken.exit, Exit::Done, "{}", taken.err);
    // Of the port, a user sees the first 64 bytes: not whether it leads to a slot.
    let config = kernel.tree.locate(&format!("{}/config", kernel.tree.device(port)));
    let bytes = std::fs::read(&config).expect("its configuration space");
    std::fs::write(&config, &bytes[..64]).expect("a file");
    let place = Place { dir: tempfile::tempdir().expect("a directory"), kernel };
    image::write(&place.dir.path().join("good.image"), "hello\r\n", Then::PowerOff);
    let image = place.path("good.image");
    let words = ["run", &image, "--device", "01:00.1", "--accel", "tcg", "--dry-run"];
    let planned = kireji_as(&place.kernel, &words, false);
    assert_eq!(planned.exit, Exit::Done, "{}", planned.err);
    let devices: Vec<_> =
        planned.out.lines().filter(|line| line.starts_with("vfio-pci,")).collect();
    let of = |line: &str, name: &str| {
        line.split(',').find_map(|part| Some(part.strip_prefix(name)?.to_owned()))
    };
    assert_eq!(devices.len(), 2, "{}", planned.out);
    assert_eq!(of(devices[0], "bus="), of(devices[1], "bus="), "{devices:?}");
    assert_eq!(of(devices[1], "addr="), Some("00.1".into()), "{devices:?}");
}

#[test]
fn there_is_no_run_yet() {
    let kernel = kernel();
    let runs = kireji(&kernel, &["runs"]);
    assert_eq!(runs.exit, Exit::Done);
    assert_eq!(runs.err, "There was no run yet.\n");
    let log = kireji(&kernel, &["log"]);
    assert_eq!(log.exit, Exit::HostCannot);
    let named = kireji(&kernel, &["log", "nope"]);
    assert_eq!(named.exit, Exit::Usage, "{}", named.err);
}
