//! Mistakes that a real QEMU is made to complain about, and what its complaint is taken for.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest::diagnosis::{Kind, diagnose, reason};
use guest::overlay::{OverlayError, check_free};

fn complain(arguments: &[&str]) -> String {
    let output = Command::new(crate::common::qemu())
        .args(["-machine", "q35", "-accel", "tcg", "-nodefaults", "-no-user-config", "-S"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn expect(arguments: &[&str], kind: Kind, part: &str) {
    let mut all = vec!["-display", "none"];
    if arguments.contains(&"-display") {
        all.clear();
    }
    all.extend(arguments);
    let log = complain(&all);
    let cause = reason(&log).unwrap_or_else(|| panic!("nothing known in: {log}"));
    assert_eq!(cause.kind, kind, "{log}");
    assert!(cause.cause.contains(part), "{log}: {}", cause.cause);
}

#[test]
fn complaints_of_a_real_qemu_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "no image at all\n").unwrap();
    let qcow2 =
        format!("driver=qcow2,node-name=d,file.driver=file,file.filename={}", text.display());
    let absent = "driver=raw,node-name=d,file.driver=file,file.filename=/nonexistent/x";
    let twice = ["-device", "VGA,addr=01.0", "-device", "e1000e,addr=01.0"];
    for (arguments, kind, part) in [
        (&["-device", "no-such"][..], Kind::Qemu, "has not got the device"),
        (&["-device", "edu,no-such=1"], Kind::Qemu, "no property"),
        (&["-object", "no-such,id=x"], Kind::Qemu, "older than something"),
        (&["-device", "edu,bus=no-such"], Kind::Arguments, "a bus that the machine has not got"),
        (&twice, Kind::Arguments, "the same place on a bus"),
        (&["-device", "e1000e,romfile=/nonexistent"], Kind::File, "option ROM"),
        (&["-blockdev", absent], Kind::File, "cannot be opened"),
        (&["-blockdev", &qcow2], Kind::File, "not of the format"),
        (&["-object", "input-linux,id=i,evdev=/nonexistent"], Kind::File, "cannot be opened"),
        (&["-device", "vfio-pci,host=ffff:ff:1f.7"], Kind::Card, "no function at this address"),
        (&["-m", "40960G"], Kind::Host, "has not got the memory"),
    ] {
        expect(arguments, kind, part);
    }
}

#[test]
fn a_window_without_a_desktop_session_is_understood() {
    let known = crate::common::capabilities();
    let output = Command::new(crate::common::qemu())
        .args(["-machine", "none", "-display", "gtk"])
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let kind = reason(&log).unwrap_or_else(|| panic!("nothing known in: {log}")).kind;
    assert_eq!(kind, if known.displays.contains("gtk") { Kind::Host } else { Kind::Qemu }, "{log}");
}

#[test]
fn a_port_in_use_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rule = format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22");
    expect(&["-netdev", &rule], Kind::Busy, "port of the host");
}

/// A QEMU that has an image open, killed at the end.
struct Holder(Child);

impl Holder {
    fn start(image: &Path, node: &str) -> Self {
        let child = Command::new(crate::common::qemu())
            .args(["-machine", "q35", "-accel", "tcg", "-nodefaults", "-display", "none", "-S"])
            .args(["-blockdev", node, "-device", "ide-hd,drive=d,bus=ide.0"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self(child);
        let inode = {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(image).unwrap().ino().to_string()
        };
        // Its locks are in the kernel's list, by inode.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string("/proc/locks").unwrap().contains(&format!(":{inode} ")) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_image_in_use_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let path = image.display();
    let node = format!("driver=raw,node-name=d,file.driver=file,file.filename={path}");
    let holder = Holder::start(&image, &node);
    expect(
        &["-blockdev", &node, "-device", "ide-hd,drive=d,bus=ide.0"],
        Kind::Busy,
        "another process has the image open",
    );
    assert!(matches!(check_free(&image), Err(OverlayError::Busy { .. })));
    drop(holder);
    check_free(&image).unwrap();
}

#[test]
fn warnings_do_not_count_as_the_reason() {
    let log = "qemu-system-x86_64: warning: IOMMU_IOAS_MAP failed: Bad address, PCI BAR?\n";
    assert_eq!(diagnose(log).len(), 1);
    assert_eq!(reason(log), None);
}
