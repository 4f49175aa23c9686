//! The lab itself: that rigs are what they promise, and that what runs in them is told truly.
//!
//! These tests need a provisioned lab (`cargo xtask test` makes one) and fail without it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

const KIREJI: &str = env!("CARGO_BIN_EXE_kireji");

fn lab(args: &[&str]) -> Output {
    Command::new(KIREJI).args(["lab", "run"]).args(args).output().expect("kireji runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a rig's kernel says of it: each group with its functions, and who drives what.
const LOOK: &str = r#"
for group in $(ls /sys/kernel/iommu_groups | sort -n); do
    echo $(ls /sys/kernel/iommu_groups/$group/devices | cut -c6-)
done
for device in /sys/bus/pci/devices/*/driver; do
    address=${device%/driver}
    echo "${address##*/0000:} $(basename $(readlink $device))"
done"#;

fn assert_looks_like(rig: &str, expected: &str) {
    let output = lab(&[rig, "--", "/bin/sh", "-c", LOOK]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), expected);
}

/// What both kinds of IOMMU make of the same cards.
const ISOLATED: &str = "00:00.0
    00:04.0
    00:05.0
    00:06.0
    00:1f.0 00:1f.2 00:1f.3
    01:00.0
    02:00.0
    00:05.0 pcieport
    00:06.0 pcieport
    01:00.0 e1000e
    02:00.0 nvme";

#[test]
fn intel_isolates_its_cards() {
    assert_looks_like("intel", ISOLATED);
}

#[test]
fn amd_isolates_the_same_cards() {
    assert_looks_like("amd", ISOLATED);
}

#[test]
fn without_an_iommu_there_are_no_groups() {
    let drivers = "00:05.0 pcieport
        01:00.0 e1000e";
    assert_looks_like("none", drivers);
    assert_looks_like("iommu-off", drivers);
}

#[test]
fn ports_without_acs_and_bridges_share_groups() {
    assert_looks_like(
        "no-acs",
        "00:00.0
        00:05.0 01:00.0
        00:06.0
        00:1f.0 00:1f.2 00:1f.3
        02:00.0
        00:05.0 pcieport
        00:06.0 pcieport
        01:00.0 nvme
        02:00.0 e1000e",
    );
    assert_looks_like(
        "bridge",
        "00:00.0
        00:05.0
        00:1f.0 00:1f.2 00:1f.3
        01:00.0 02:01.0 02:02.0
        00:05.0 pcieport
        02:02.0 e1000",
    );
}

#[test]
fn switches_twins_and_functions_are_where_they_should_be() {
    assert_looks_like(
        "switch",
        "00:00.0
        00:05.0
        00:1f.0 00:1f.2 00:1f.3
        01:00.0
        02:00.0 03:00.0
        02:01.0 04:00.0
        00:05.0 pcieport
        01:00.0 pcieport
        02:00.0 pcieport
        02:01.0 pcieport
        03:00.0 nvme
        04:00.0 e1000e",
    );
    assert_looks_like(
        "twins",
        "00:00.0
        00:05.0
        00:06.0
        00:08.0
        00:09.0
        00:1f.0 00:1f.2 00:1f.3
        01:00.0
        02:00.0
        00:05.0 pcieport
        00:06.0 pcieport
        01:00.0 e1000e
        02:00.0 e1000e",
    );
    assert_looks_like(
        "multifunction",
        "00:00.0
        00:04.0 00:04.1
        00:05.0
        00:1f.0 00:1f.2 00:1f.3
        01:00.0 01:00.1
        00:05.0 pcieport
        01:00.0 e1000e",
    );
}

#[test]
fn disks_hold_what_the_rig_says() {
    // The numbers of the disks depend on which answers first; the addresses of their cards do not.
    let script = "disk() { echo /dev/$(basename /sys/bus/pci/devices/$1/nvme/nvme*)n1; }\n\
                  head -c 16 $(disk 0000:02:00.0)\n\
                  dd if=$(disk 0000:01:00.0) bs=1 skip=1080 count=2 | od -tx1";
    let output = lab(&["storage", "--", "/bin/sh", "-c", script]);
    let out = text(&output.stdout);
    assert!(out.starts_with("kireji sector 0\n"), "{out}");
    // The magic number of ext4.
    assert!(out.contains("53 ef"), "{out}");
}

#[test]
fn interrupt_remapping_is_as_described() {
    let script = "dmesg | grep -c 'DMAR-IR: Enabled IRQ remapping'";
    let count = |rig| text(&lab(&[rig, "--", "/bin/sh", "-c", script]).stdout);
    assert_eq!((count("none"), count("no-remap")), ("0\n".to_owned(), "0\n".to_owned()));
    assert_eq!(count("storage"), "1\n");
}

#[test]
fn output_arrives_byte_by_byte_and_streams_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    // Every byte, escape sequences among them, over many frames.
    let bytes: Vec<u8> = (0..40_000_u32).flat_map(|n| [n.to_le_bytes()[0], 0x1b, b'[']).collect();
    let file = dir.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let put = format!("{}:/data/bytes", file.display());
    let script = "cat /data/bytes; cat /data/bytes >&2; echo $GREETING; exit 7";
    let output =
        lab(&["none", "--put", &put, "--env", "GREETING=a b", "--", "/bin/sh", "-c", script]);
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stderr == bytes, "standard error differs");
    assert!(output.stdout == [&bytes[..], b"a b\n"].concat(), "standard output differs");
}

/// Runs a command in a rig, and writes to its standard input what is not yet read when the command
/// has ended.
fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(KIREJI)
        .args(["lab", "run"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kireji runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // Nobody may read all of it.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().expect("kireji ends");
    writer.join().expect("the input is written or refused");
    output
}

#[test]
fn input_reaches_the_command_byte_by_byte() {
    // Far more than pipes and serial ports hold, in both directions at once.
    let bytes: Vec<u8> = (0..60_000_u32).flat_map(|n| [n.to_le_bytes()[0], 0x1d, 0xff]).collect();
    let output = with_input(&["none", "--", "/bin/cat"], &bytes);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout == bytes, "{} bytes differ", output.stdout.len());
}

#[test]
fn input_that_nobody_reads_is_in_nobodys_way() {
    let bytes = vec![b'y'; 1 << 20];
    let output = with_input(&["none", "--", "/bin/echo", "done"], &bytes);
    assert_eq!(text(&output.stdout), "done\n");
    let script = "read line; echo $line; exec 0<&-; sleep 1; echo end";
    let lines = [&b"first\n"[..], &bytes].concat();
    let output = with_input(&["none", "--", "/bin/sh", "-c", script], &lines);
    assert_eq!(text(&output.stdout), "first\nend\n");
}

#[test]
fn input_that_is_closed_has_ended() {
    let script = "wc -c; echo $?";
    let args = ["lab", "run", "none", "--", "/bin/sh", "-c", script];
    let mut closed = Command::new("/bin/sh");
    closed.args(["-c", "exec \"$0\" \"$@\" <&-", KIREJI]).args(args);
    let mut empty = Command::new(KIREJI);
    empty.args(args).stdin(Stdio::null());
    for command in [&mut closed, &mut empty] {
        let output = command.output().expect("kireji runs");
        assert_eq!(text(&output.stdout), "0\n0\n", "{}", text(&output.stderr));
    }
    let directory = std::fs::File::open("/").expect("a directory");
    let output = Command::new(KIREJI).args(args).stdin(directory).output().expect("kireji runs");
    assert_eq!(output.status.code(), Some(90));
    assert!(text(&output.stderr).contains("cannot read the command's input"));
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    let killed = lab(&["none", "--", "/bin/sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let missing = lab(&["none", "--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("cannot start no-such-program in the rig"));
}

#[test]
fn a_process_left_behind_is_not_waited_for() {
    let output = lab(&["none", "--", "/bin/sh", "-c", "sleep 1000 & echo done"]);
    assert_eq!(text(&output.stdout), "done\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A rig that cannot come up, its exit code, and what is said.
fn assert_fails(rig: &str, args: &[&str], code: i32, said: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    std::fs::write(&path, rig).unwrap();
    let path = path.to_string_lossy();
    let output = lab(&[&[&*path], args, &["--", "/bin/true"]].concat());
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(said), "{err}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_rig_that_fails_says_why() {
    let rig = "description = \"x\"\niommu = \"none\"\n";
    assert_fails("iommu = \"via\"", &[], 2, "unknown variant `via`");
    assert_fails(&format!("{rig}cpus = 0"), &[], 2, "cpus is 0");
    let card = format!("{rig}[[card]]\ndevice = \"edx\"\naddress = \"04.0\"\n");
    assert_fails(&card, &[], 14, "this QEMU has no device edx");
    let option = format!(
        "{rig}[[card]]\ndevice = \"edu\"\naddress = \"04.0\"\noptions = {{ nothing = 1 }}\n"
    );
    assert_fails(&option, &[], 90, "Property 'edu.nothing' not found");
    assert_fails(rig, &["--kernel", KIREJI], 90, "is not a Linux kernel");
    let slow = format!("{rig}boot-limit-s = 1");
    assert_fails(&slow, &[], 90, "did not come up within 1 s");
    let module = format!("{rig}modules = [\"no_such\"]");
    assert_fails(&module, &[], 90, "no module no_such");
}

#[test]
fn a_qemu_that_cannot_be_executed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // No kernel is needed to get this far, but a file that passes for one.
    let put = |path: &str, bytes: &[u8]| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut kernel = vec![0; 0x300];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x200..0x202].copy_from_slice(b"6\0");
    put("root/boot/vmlinuz-6", &kernel);
    put("root/usr/lib/modules/6/modules.dep", b"a/vfio-pci.ko:\na/vfio_iommu_type1.ko:\n");
    put("root/usr/lib/modules/6/a/vfio-pci.ko", b"");
    put("root/usr/lib/modules/6/a/vfio_iommu_type1.ko", b"");
    put("tools.img", b"");
    put("bin/qemu-system-x86_64", b"not executable");
    let rig = "description = \"x\"\niommu = \"none\"\n";
    let lab_dir = dir.path().to_string_lossy();
    assert_fails(rig, &["--lab-dir", &lab_dir], 14, "Permission denied");
    std::fs::remove_file(dir.path().join("bin/qemu-system-x86_64")).unwrap();
    assert_fails(rig, &["--lab-dir", &lab_dir], 14, "is not a provisioned lab");
}

#[test]
fn the_end_of_the_kernels_log_is_told_when_the_rig_dies() {
    let rig = "description = \"x\"\niommu = \"none\"\nkernel-arguments = [\"rdinit=/nothing\", \
               \"init=/nothing\"]\n";
    assert_fails(rig, &[], 90, "Kernel panic - not syncing");
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let output = lab(&["none", "--time-limit", "5", "--", "/bin/sh", "-c", "echo in; sleep 1000"]);
    assert_eq!(output.status.code(), Some(90));
    assert_eq!(text(&output.stdout), "in\n");
    assert!(text(&output.stderr).contains("did not end within 5 s"));
}

/// Starts a command that sleeps in a rig, whose files are in `dir`, and waits until it runs.
fn sleeper(dir: &Path) -> Killed {
    let child = Command::new(KIREJI)
        .args(["lab", "run", "none", "--", "/bin/sh", "-c", "echo asleep; sleep 1000"])
        .env("TMPDIR", dir)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Killed(child.expect("kireji runs"));
    let mut said = [0; 7];
    let stdout = child.0.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut said).expect("the rig comes up");
    assert_eq!(&said, b"asleep\n");
    child
}

/// The QEMU processes whose rig has its files in `dir`.
fn qemu_processes(dir: &Path) -> Vec<String> {
    let dir = dir.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let line = text(&line).replace('\0', " ");
        if line.contains("-initrd") && line.contains(&*dir) {
            found.push(line);
        }
    }
    found
}

#[test]
fn nothing_is_left_after_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = sleeper(dir.path());
    assert_eq!(qemu_processes(dir.path()).len(), 1);
    let pid = Pid::from_child(&child.0);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert_eq!(qemu_processes(dir.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn qemu_ends_with_kireji_even_when_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = sleeper(dir.path());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !qemu_processes(dir.path()).is_empty() {
        assert!(Instant::now() < deadline, "QEMU outlives kireji");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A terminal: the end that kireji gets, and the end of the person.
fn terminal() -> (OwnedFd, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let end = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&end, size).unwrap();
    (end, person.into())
}

/// Reads until `wanted` has come, for a minute at most between two bytes.
fn expect(person: &mut std::fs::File, wanted: &str) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut seen = Vec::new();
    let mut byte = [0];
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    while !text(&seen).contains(wanted) {
        let ready = poll(&mut [PollFd::new(person, PollFlags::IN)], Some(&minute)).unwrap();
        let read = if ready > 0 { person.read(&mut byte).unwrap_or_default() } else { 0 };
        assert_eq!(read, 1, "{wanted:?} did not come, but {:?}", text(&seen));
        seen.push(byte[0]);
    }
}

/// A process that does not outlive the test, however that ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_person_gets_a_shell_and_the_terminal_back() {
    let (end, mut person) = terminal();
    let before = rustix::termios::tcgetattr(end.as_fd()).unwrap();
    let child = Command::new(KIREJI)
        .args(["lab", "shell", "none"])
        .stdin(end.try_clone().unwrap())
        .stdout(end.try_clone().unwrap())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Killed(child.expect("kireji runs"));
    expect(&mut person, "# ");
    let is_raw = || {
        let now = rustix::termios::tcgetattr(end.as_fd()).unwrap();
        !now.local_modes.contains(rustix::termios::LocalModes::ICANON)
    };
    assert!(is_raw());
    person.write_all(b"stty size\r").unwrap();
    expect(&mut person, "33 99");
    // Ctrl-C reaches the program inside, once that is in the foreground.
    person.write_all(b"(echo slee$((1))p; sleep 1000)\r").unwrap();
    expect(&mut person, "slee1p");
    person.write_all(b"\x03").unwrap();
    expect(&mut person, "# ");
    person.write_all(b"echo still $((1 + 1))\r").unwrap();
    expect(&mut person, "still 2");
    // Ctrl-] ends it from outside.
    person.write_all(b"\x1d").unwrap();
    assert!(child.0.wait().unwrap().success());
    let after = rustix::termios::tcgetattr(end.as_fd()).unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[test]
fn a_shell_wants_a_terminal() {
    let output = Command::new(KIREJI)
        .args(["lab", "shell", "none"])
        .stdin(Stdio::null())
        .output()
        .expect("kireji runs");
    assert_eq!(output.status.code(), Some(90));
    assert!(text(&output.stderr).contains("a shell needs a terminal"));
}
