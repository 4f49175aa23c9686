use super::*;
use std::os::unix::fs::symlink;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("sys/devices/a")).unwrap();
    std::fs::write(dir.path().join("sys/devices/a/vendor"), "0x8086\n").unwrap();
    symlink("../../../bus/drivers/e1000e", dir.path().join("sys/devices/a/driver")).unwrap();
    symlink("/sys/devices/a", dir.path().join("abs")).unwrap();
    symlink("/etc/hostname", dir.path().join("out")).unwrap();
    dir
}

#[test]
fn reads_text_links_and_names() {
    let dir = tree();
    let host = Sysroot::at(dir.path()).unwrap();
    assert_eq!(host.text("/sys/devices/a/vendor").unwrap(), "0x8086");
    assert_eq!(host.link_name("/sys/devices/a/driver").unwrap().unwrap(), "e1000e");
    assert_eq!(host.link_name("/sys/devices/a/none").unwrap(), None);
    assert_eq!(host.names("/sys/devices/a").unwrap(), ["driver", "vendor"]);
    assert!(host.names("/nothing").unwrap_err().is_absent());
}

#[test]
fn renames_elsewhere_are_in_nobodys_way() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (dir, elsewhere) = (tree(), tempfile::tempdir().unwrap());
    let host = Sysroot::at(dir.path()).unwrap();
    let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
    std::fs::write(&one, "").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::fs::rename(&one, &other).unwrap();
                std::fs::rename(&other, &one).unwrap();
            }
        });
        let path = "/sys/devices/a/../a/../a/../a/../a/../a/../a/vendor";
        let read = (0..20_000).try_for_each(|_| host.text(path).map(drop));
        done.store(true, Ordering::Relaxed);
        read.unwrap();
    });
}

#[test]
fn links_stay_inside_a_capture() {
    let dir = tree();
    let host = Sysroot::at(dir.path()).unwrap();
    assert_eq!(host.text("/abs/vendor").unwrap(), "0x8086");
    assert!(host.read("/out").unwrap_err().is_absent());
    assert!(host.read("/../../../../../../etc/hostname").unwrap_err().is_absent());
}

#[test]
fn reads_within_a_file_up_to_its_end() {
    let dir = tree();
    let host = Sysroot::at(dir.path()).unwrap();
    assert_eq!(host.read_at("/sys/devices/a/vendor", 2, 3).unwrap(), b"808");
    assert_eq!(host.read_at("/sys/devices/a/vendor", 5, 100).unwrap(), b"6\n");
    assert_eq!(host.read_at("/sys/devices/a/vendor", 1 << 40, 1).unwrap(), b"");
}

#[test]
fn tells_devices_by_their_number() {
    let host = Sysroot::host().unwrap();
    // Documentation/admin-guide/devices.txt of the kernel.
    let null = DeviceNumber { is_block: false, major: 1, minor: 3 };
    assert_eq!(host.device_number("/dev/null").unwrap(), Some(null));
    assert_eq!(host.device_number("/proc/version").unwrap(), None);
}

#[test]
fn a_manifest_tells_what_files_cannot() {
    let dir = tree();
    let manifest = Manifest {
        unreadable: ["/sys/devices/a/vendor".to_owned()].into(),
        nodes: [("/dev/kvm".to_owned(), false)].into(),
        ..Manifest::default()
    };
    std::fs::write(dir.path().join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let host = Sysroot::at(dir.path()).unwrap();
    assert!(host.text("/sys/devices/a/vendor").unwrap_err().is_denied());
    assert!(host.exists("/sys/devices/a/vendor"));
    assert_eq!(host.may_use("/dev/kvm").unwrap(), Measured::Known(false));
    assert!(host.may_use("/dev/none").unwrap_err().is_absent());
    std::fs::write(dir.path().join(MANIFEST), "{").unwrap();
    assert!(Sysroot::at(dir.path()).is_err());
}

#[test]
fn the_running_host_is_asked_who_may_use_a_node() {
    let host = Sysroot::host().unwrap();
    assert_eq!(host.may_use("/dev/null").unwrap(), Measured::Known(true));
    assert!(host.may_use("/dev/no-such-node").unwrap_err().is_absent());
}

#[test]
fn a_file_larger_than_its_limit_is_an_error() {
    let dir = tree();
    let host = Sysroot::at(dir.path()).unwrap();
    assert_eq!(host.read_limited("/sys/devices/a/vendor", 7).unwrap().len(), 7);
    let error = host.read_limited("/sys/devices/a/vendor", 6).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
}
