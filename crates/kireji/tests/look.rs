//! `list`, `show` and `status` on a synthetic host.

mod common;

use std::path::{Path, PathBuf};

use common::{kireji, kireji_at, kireji_to, kireji_with};
use host::Sysroot;
use kireji::Exit;
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Bar, Function, Port, Tree};

/// A desktop: a NIC of the chipset, a graphics card of two functions below a root port.
fn desktop() -> FakeKernel {
    let mut tree = Tree::new();
    tree.add(Function::new("0000:00:00.0", 0x8086, 0x29c0).class(0x06_0000).group(0));
    tree.add(
        Function::new("0000:00:19.0", 0x8086, 0x10d3)
            .class(0x02_0000)
            .subsystem(0x1af4, 0x1100)
            .group(1)
            .driver("e1000e"),
    );
    tree.add(Function::port("0000:00:1c.0", Port::Root, 0x29).slot().driver("pcieport").group(2));
    let card = |address, device, class| {
        Function::new(address, 0x1002, device).class(class).below("0000:00:1c.0").group(3)
    };
    tree.add(
        card("0000:29:00.0", 0x68c8, 0x03_0000)
            .subsystem(0x1002, 0x2245)
            .driver("radeon")
            .bar(0, 0xe000_0000, 0x1000_0000, Bar::Memory64)
            .bar(2, 0xfea0_0000, 0x2_0000, Bar::Memory32)
            .bar(4, 0xe000, 0x100, Bar::Io)
            .attribute("reset_method", "pm bus\n"),
    );
    tree.add(card("0000:29:00.1", 0xaa60, 0x04_0300).driver("snd_hda_intel"));
    tree.slot("4", "0000:29:00");
    FakeKernel::new(tree)
}

#[test]
fn list_shows_every_function_with_its_card() {
    let ended = kireji(&desktop(), &["list"]);
    assert_eq!(ended.exit, Exit::Done);
    insta::assert_snapshot!(ended.out);
}

#[test]
fn list_as_json() {
    let ended = kireji(&desktop(), &["list", "--json"]);
    assert_eq!(ended.exit, Exit::Done);
    let document: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(document["schema"], 1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&document["functions"][3]).expect("JSON"));
}

#[test]
fn show_means_the_whole_card() {
    let kernel = desktop();
    for named in ["29:00", "29:00.0", "0000:29:00.1"] {
        let ended = kireji(&kernel, &["show", named]);
        assert_eq!(ended.exit, Exit::Done);
        insta::allow_duplicates! { insta::assert_snapshot!(ended.out); }
    }
    let one = kireji(&kernel, &["show", "29:00.1", "--function"]);
    assert!(one.out.contains("29:00.1 ") && !one.out.contains("29:00.0 Display"), "{}", one.out);
}

#[test]
fn an_unknown_address_is_told() {
    let ended = kireji(&desktop(), &["show", "77:00.0"]);
    assert_eq!(ended.exit, Exit::Usage);
    insta::assert_snapshot!(ended.err);
}

#[test]
fn a_host_without_pci_lists_nothing() {
    let kernel = FakeKernel::new(Tree::new());
    let ended = kireji(&kernel, &["list"]);
    assert_eq!(ended.exit, Exit::Done);
    assert_eq!(ended.out, "");
    assert_eq!(ended.err, "This host has no PCI function.\n");
}

#[test]
fn what_only_root_can_read_is_unmeasured_not_guessed() {
    let mut tree = Tree::new();
    // Two devices below a port whose capabilities an ordinary user does not see: whether they are
    // one card depends on the port's slot.
    tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot().visible(64));
    tree.add(Function::port("0000:01:00.0", Port::ToPci, 2).below("0000:00:1c.0").visible(64));
    tree.add(Function::new("0000:02:01.0", 0x8086, 0x100e).below("0000:01:00.0").visible(64));
    tree.add(Function::new("0000:02:02.0", 0x8086, 0x100e).below("0000:01:00.0").visible(64));
    let kernel = FakeKernel::new(tree);
    let list = kireji(&kernel, &["list", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let card = &document["functions"][2]["card"];
    assert!(card["unmeasured"].as_str().is_some_and(|why| why.contains("root")), "{card}");
    let show = kireji(&kernel, &["show", "02:01"]);
    assert_eq!(show.exit, Exit::Permission);
    insta::assert_snapshot!(show.err);
}

#[test]
fn status_of_a_host_with_nothing_held() {
    let ended = kireji(&desktop(), &["status"]);
    assert_eq!(ended.exit, Exit::Done);
    assert_eq!(ended.out, "No card is held.\n");
    let json = kireji(&desktop(), &["status", "--json"]);
    assert_eq!(json.out, "{\n  \"schema\": 1,\n  \"leases\": []\n}\n");
}

#[test]
fn list_is_narrowed_by_what_is_asked_for() {
    let kernel = desktop();
    for (args, addresses) in [
        (&["--class", "03"][..], &["29:00.0"][..]),
        (&["--class", "ethernet"], &["00:19.0"]),
        (&["--class", "0403"], &["29:00.1"]),
        (&["--driver", "none"], &["00:00.0"]),
        (&["--driver", "radeon"], &["29:00.0"]),
        (&["--group", "3"], &["29:00.0", "29:00.1"]),
        (&["--group", "none"], &[]),
        (&["--vendor", "1002", "--driver", "snd_hda_intel"], &["29:00.1"]),
        (&["--vendor", "INTEL"], &["00:00.0", "00:19.0"]),
    ] {
        let ended = kireji(&kernel, &[&["list"], args].concat());
        assert_eq!(ended.exit, Exit::Done);
        let listed: Vec<_> =
            ended.out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(listed, addresses, "{args:?}");
    }
}

#[test]
fn the_topology_is_a_picture_too() {
    let kernel = desktop();
    let file = kernel.tree.locate("/tree.svg");
    let ended = kireji(&kernel, &["list", "--svg", file.to_str().expect("UTF-8")]);
    assert_eq!(ended.exit, Exit::Done);
    let picture = std::fs::read_to_string(&file).expect("the picture");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<rect x=").count(), 5, "a badge for each function");
    assert_eq!(picture.matches("<path ").count(), 2, "a line for each function below a bridge");
    assert!(picture.contains("29:00.0 VGA compatible controller"));
    for unsafe_part in ["<script", "href", "<image"] {
        assert!(!picture.contains(unsafe_part));
    }
}

/// Runs the lab of a user who has no provisioned one, with these programs in `PATH`.
fn unprovisioned(programs: &std::path::Path, rig: &str) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["lab", "run", rig, "--", "true"])
        .env_remove("KIREJI_LAB_DIR")
        .env("XDG_CACHE_HOME", programs.join("cache"))
        .env("PATH", programs)
        .output()
        .expect("kireji runs")
}

#[test]
fn what_a_rig_needs_and_the_host_has_not_is_told_with_the_command_that_helps() {
    let dir = tempfile::tempdir().expect("a directory");
    let without_qemu = unprovisioned(dir.path(), "none");
    let err = String::from_utf8_lossy(&without_qemu.stderr).into_owned();
    assert_eq!(without_qemu.status.code(), Some(14), "{err}");
    assert!(err.contains("hint: install QEMU for x86"), "{err}");
    std::fs::write(dir.path().join("qemu-system-x86_64"), "").expect("a file");
    let without_disk = unprovisioned(dir.path(), "intel");
    let err = String::from_utf8_lossy(&without_disk.stderr).into_owned();
    assert_eq!(without_disk.status.code(), Some(14), "{err}");
    insta::assert_snapshot!(err);
}

/// A host with so many functions of different cards.
fn host_of(count: usize) -> Tree {
    let mut tree = Tree::new();
    for number in 0..count {
        let address = format!("0000:{:02x}:{:02x}.{}", number / 256, number / 8 % 32, number % 8);
        let group = u32::try_from(number).expect("a small number");
        tree.add(Function::new(&address, 0x8086, 0x10d3).class(0x02_0000).group(group));
    }
    tree
}

/// A stream that counts how often it is written.
#[derive(Default)]
struct Counted {
    writes: usize,
    bytes: usize,
}

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writes += 1;
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How much the host is asked for grows with its functions, and no faster.
#[test]
fn looking_takes_as_many_steps_as_there_are_functions() {
    for command in ["list", "doctor"] {
        let steps = |count: usize| {
            let kernel = FakeKernel::new(host_of(count));
            let mut host = kernel.tree.sysroot();
            host.record();
            let opens = host.opens();
            let ended = kireji_at(&host, &kernel, &[command, "--json"], true);
            assert!(ended.err.is_empty(), "{}", ended.err);
            (host.recorded().operations, host.opens() - opens)
        };
        let [few, more, many] = [64, 128, 256].map(steps);
        for (few, more, many) in [(few.0, more.0, many.0), (few.1, more.1, many.1)] {
            assert_eq!(many - more, 2 * (more - few), "{command}: {few}, {more}, {many}");
        }
        let each = ((more.0 - few.0) / 64, (more.1 - few.1) / 64);
        // For the list the directory and the `uevent` are opened, and three links are read beside
        // it; for the doctor also what decides for each function and its group.
        let most = if command == "list" { (4, 2) } else { (24, 32) };
        assert!(each.0 <= most.0 && each.1 <= most.1, "{command}: {each:?} for a function");
    }
}

/// Standard output is written by the line unless it is collected before.
#[test]
fn a_document_is_written_in_large_pieces() {
    let kernel = FakeKernel::new(host_of(256));
    let (mut out, mut err) = (Counted::default(), Vec::new());
    let host = kernel.tree.sysroot();
    let exit = kireji_to(&host, &kernel, &["list", "--json"], true, None, [&mut out, &mut err]);
    assert_eq!(exit, Exit::Done);
    assert!(out.bytes > 100 << 10, "only {} bytes", out.bytes);
    assert!(out.writes <= out.bytes / (32 << 10) + 2, "{} writes", out.writes);
}

/// The kernel would resume a bridge or a card that sleeps, to let its configuration space be read.
#[test]
fn what_sleeps_is_not_woken() {
    let mut tree = Tree::new();
    let asleep = |function: Function| {
        function
            .attribute("power_state", "D3cold\n")
            .attribute("power/runtime_status", "suspended\n")
    };
    tree.add(asleep(Function::port("0000:00:1c.0", Port::Root, 1).slot().group(1)));
    let card = Function::new("0000:01:00.0", 0x8086, 0x10d3).class(0x02_0000).express();
    tree.add(asleep(card.below("0000:00:1c.0").group(2)));
    let kernel = FakeKernel::new(tree);
    for args in [&["list"][..], &["list", "--tree"], &["show", "01:00.0"], &["doctor"]] {
        let mut host = kernel.tree.sysroot();
        host.record();
        let ended = kireji_at(&host, &kernel, args, true);
        let woke = host.recorded().files.into_keys().find(|path| {
            path.ends_with("config")
                || path.ends_with("current_link_speed")
                || path.ends_with("rom")
        });
        assert_eq!(woke.as_deref(), None, "{args:?}: {}", ended.err);
    }
}

/// Status and words of one finding, with this QEMU.
fn finding(qemu: &Path, code: &str) -> Option<(String, String)> {
    let kernel = FakeKernel::new(Tree::new());
    let host = Sysroot::host().expect("the running host");
    let ended = kireji_with(&host, &kernel, &["doctor", "--json"], true, Some(qemu.to_owned()));
    let document: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    let findings = document["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["code"] == code)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("says")))
}

#[test]
fn qemu_is_asked_what_it_can_do() {
    let none = finding(Path::new("/nonexistent/qemu"), "E-QEMU").expect("a finding");
    assert_eq!(none.0, "fail");
    assert_eq!(finding(Path::new("/nonexistent/qemu"), "E-QEMU-DEVICES"), None);
    // It runs, and says nothing.
    let mute = finding(Path::new("/bin/true"), "E-QEMU").expect("a finding");
    assert_eq!(mute.0, "unmeasured", "{}", mute.1);
    let qemu = std::env::var_os("KIREJI_QEMU").map(PathBuf::from);
    let qemu = qemu.unwrap_or_else(|| "/usr/bin/qemu-system-x86_64".into());
    for code in ["E-QEMU", "E-QEMU-DEVICES"] {
        let there = finding(&qemu, code).expect("a finding");
        assert_eq!(there.0, "pass", "{code}: {}", there.1);
    }
}

/// Starts kireji as sudo does for a user whose files lie in `home`, with all that the user may enter.
fn under_sudo(home: &Path, args: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(args)
        .envs([("SUDO_UID", "54321"), ("SUDO_GID", "54321"), ("HOME", "/root")])
        .env("XDG_CACHE_HOME", home)
        .env("KIREJI_QEMU", home.join("qemu"))
        .output()
        .expect("kireji runs")
}

/// What root writes for a user is the user's, and where the user may not write, it is not written;
/// and the QEMU that the user has chosen is asked with the user's rights.
#[test]
fn under_sudo_files_and_programs_are_the_users() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let dir = tempfile::tempdir().expect("a directory");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    set(dir.path(), 0o755);
    let home = dir.path().join("home");
    let closed = dir.path().join("closed");
    for place in [&home, &closed] {
        std::fs::create_dir(place).expect("a directory");
        set(place, 0o755);
    }
    chown(&home, Some(54321), Some(54321)).expect("this test runs as root");
    let ids = home.join("ids");
    let script = format!("#!/bin/sh\nid -u >> {}\nexit 1\n", ids.display());
    std::fs::write(home.join("qemu"), script).expect("a file");
    set(&home.join("qemu"), 0o755);
    let tree = host_of(2);
    let root = tree.root().to_str().expect("UTF-8");
    for (place, code) in [(&home, 0), (&closed, 13)] {
        let picture = place.join("picture.svg");
        let file = picture.to_str().expect("UTF-8");
        let ended = under_sudo(&home, &["--sysroot", root, "list", "--svg", file]);
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{err}");
        let owner = std::fs::metadata(&picture).map(|metadata| metadata.uid()).ok();
        assert_eq!(owner, (code == 0).then_some(54321), "{err}");
    }
    let snapshot = home.join("snapshot");
    let file = snapshot.to_str().expect("UTF-8");
    let ended = under_sudo(&home, &["--sysroot", root, "snapshot", file]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(std::fs::metadata(&snapshot).expect("the snapshot").uid(), 54321);
    let _ = under_sudo(&home, &["doctor"]);
    let ids = std::fs::read_to_string(ids).expect("QEMU was asked");
    assert!(!ids.is_empty() && ids.lines().all(|id| id == "54321"), "{ids}");
}
