use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;

fn image(path: PathBuf, size: u64) -> Source {
    File::create(&path).unwrap().set_len(size).unwrap();
    Source { path, format: DiskFormat::Raw, offset: 0 }
}

/// What `qemu-img` says of a file, after it has checked it.
fn info(path: &Path) -> serde_json::Value {
    let run = |arguments: &[&str]| {
        let output = Command::new("qemu-img").args(arguments).arg(path).output();
        let output = output.expect("tests need qemu-img");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        output.stdout
    };
    run(&["check", "-q"]);
    serde_json::from_slice(&run(&["info", "--output=json"])).unwrap()
}

#[test]
fn an_overlay_shows_the_image_and_takes_little_room() {
    let dir = tempfile::tempdir().unwrap();
    // The last is larger than one cluster of the first-level table can describe.
    for (name, size) in [("a, b: c.iso", 64 << 20), ("odd", 1000), ("large", 5 << 40)] {
        let image = image(dir.path().join(name), size);
        let overlay = dir.path().join(format!("{name}.qcow2"));
        create(&image, &overlay).unwrap();
        let said = info(&overlay);
        assert_eq!(said["virtual-size"], size.next_multiple_of(512));
        assert_eq!(said["format"], "qcow2");
        assert_eq!(said["backing-filename"], image.path.to_str().unwrap());
        assert_eq!(said["backing-filename-format"], "raw");
        assert!(std::fs::metadata(&overlay).unwrap().len() < 1 << 20);
    }
}

#[test]
fn what_is_written_goes_into_the_overlay_and_the_image_stays() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path().join("haiku.iso"), 1 << 20);
    std::fs::write(&image.path, vec![0x11; 1 << 20]).unwrap();
    let overlay = dir.path().join("overlay.qcow2");
    create(&image, &overlay).unwrap();
    let output = Command::new("qemu-io")
        .args(["-c", "read -P 0x11 0 1M", "-c", "write -P 0x22 64k 64k"])
        .args(["-c", "read -P 0x22 64k 64k", "-c", "read -P 0x11 128k 64k"])
        .arg(&overlay)
        .output()
        .expect("tests need qemu-io");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !text.contains("failed"), "{text}");
    info(&overlay);
    assert_eq!(std::fs::read(&image.path).unwrap(), vec![0x11; 1 << 20]);
}

#[test]
fn an_image_may_be_qcow2_or_lie_behind_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let vmdk = Source { offset: 65536, ..image(dir.path().join("haiku.vmdk"), 1 << 20) };
    let first = dir.path().join("first.qcow2");
    create(&vmdk, &first).unwrap();
    assert_eq!(info(&first)["virtual-size"], (1 << 20) - 65536);
    let chained = Source { path: first, format: DiskFormat::Qcow2, offset: 0 };
    let second = dir.path().join("second.qcow2");
    create(&chained, &second).unwrap();
    let said = info(&second);
    assert_eq!(said["virtual-size"], (1 << 20) - 65536);
    assert_eq!(said["backing-filename-format"], "qcow2");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("overlay.qcow2");
    std::fs::write(&overlay, "part of a header").unwrap();
    let error = whole(Err(io::ErrorKind::StorageFull.into()), &overlay).unwrap_err();
    assert!(matches!(error, OverlayError::Full { .. }), "{error}");
    assert!(!overlay.exists());
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path().join("haiku.iso"), 1 << 20);
    let taken = dir.path().join("taken");
    std::fs::write(&taken, "somebody's").unwrap();
    let error = create(&image, &taken).unwrap_err();
    assert!(matches!(error, OverlayError::Io { verb: "create", .. }), "{error}");
    assert_eq!(std::fs::read(&taken).unwrap(), b"somebody's");
}

#[test]
fn a_lasting_overlay_is_made_once_and_for_one_state_of_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/overlays");
    let first = image(dir.path().join("haiku.iso"), 1 << 20);
    let other = image(dir.path().join("other.iso"), 1 << 20);
    let overlay = lasting(&state, "work", &first).unwrap();
    let made = std::fs::metadata(&overlay).unwrap().ino();
    assert_eq!(lasting(&state, "work", &first).unwrap(), overlay);
    assert_eq!(std::fs::metadata(&overlay).unwrap().ino(), made);
    let error = lasting(&state, "work", &other).unwrap_err();
    assert!(matches!(error, OverlayError::OtherImage { .. }), "{error}");
    let later = SystemTime::now() + Duration::from_secs(60);
    File::options().write(true).open(&first.path).unwrap().set_modified(later).unwrap();
    let error = lasting(&state, "work", &first).unwrap_err();
    assert!(matches!(error, OverlayError::Changed { .. }), "{error}");
    for name in ["", ".", "../work", "a/b", "a b", &"x".repeat(101)] {
        let error = lasting(&state, name, &first).unwrap_err();
        assert!(matches!(error, OverlayError::Name { .. }), "{name}");
    }
}

#[test]
fn an_overlay_that_was_never_finished_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path().join("haiku.iso"), 1 << 20);
    std::fs::write(dir.path().join("work.qcow2"), "part of a header").unwrap();
    let overlay = lasting(dir.path(), "work", &image).unwrap();
    assert_eq!(info(&overlay)["virtual-size"], 1 << 20);
}

#[test]
fn what_cannot_be_under_an_overlay_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("overlay.qcow2");
    let missing = Source { path: "/nonexistent".into(), format: DiskFormat::Raw, offset: 0 };
    assert!(matches!(create(&missing, &overlay), Err(OverlayError::Io { verb: "read", .. })));
    let empty = image(dir.path().join("empty"), 0);
    assert!(matches!(create(&empty, &overlay), Err(OverlayError::Unfit { .. })));
    let raw = Source { format: DiskFormat::Qcow2, ..image(dir.path().join("raw"), 4096) };
    assert!(matches!(create(&raw, &overlay), Err(OverlayError::Unfit { .. })));
    assert!(qcow2::overlay(512, OsStr::new(&"x".repeat(1024)), "raw").is_none());
    assert!(!overlay.exists());
}
