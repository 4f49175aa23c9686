//! `kireji image`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kireji::Exit;
use rustix::fs::{FlockOperation, fcntl_lock};

fn kireji(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["image"])
        .args(args)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

fn done(directory: &Path, args: &[&str]) -> String {
    let output = kireji(directory, args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(directory: &Path, args: &[&str], exit: Exit) -> String {
    let output = kireji(directory, args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit as u8)), "{args:?}: {err}");
    err
}

fn made() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    done(directory.path(), &["mkfs", "disk", "--size", "12M", "--name", "Test"]);
    directory
}

#[test]
fn files_go_in_and_come_out() {
    let directory = made();
    let path = directory.path();
    fs::create_dir_all(path.join("tree/below")).unwrap();
    fs::write(path.join("tree/one"), "\x1b[1m\0one").unwrap();
    fs::write(path.join("tree/below/two"), vec![2; 300_000]).unwrap();
    std::os::unix::fs::symlink("../one", path.join("tree/below/link")).unwrap();
    fails(path, &["put", "disk", "tree", "/"], Exit::Usage);
    done(path, &["put", "-r", "disk", "tree", "/"]);
    done(path, &["put", "disk", "tree/one", "/copy"]);
    fails(path, &["put", "disk", "tree/one", "tree/one", "/nowhere"], Exit::No);
    assert_eq!(done(path, &["cat", "disk", "copy", "tree/o?e"]), "\x1b[1m\0one\x1b[1m\0one");
    done(path, &["check", "disk"]);
    done(path, &["get", "-r", "disk", "tree", "back"]);
    assert_eq!(fs::read(path.join("back/below/two")).unwrap(), vec![2; 300_000]);
    assert_eq!(fs::read_link(path.join("back/below/link")).unwrap(), Path::new("../one"));
    let listed = done(path, &["ls", "-R", "disk"]);
    for line in ["drwxr-xr-x", "tree/below/two", "tree/below/link -> ../one"] {
        assert!(listed.contains(line), "{listed}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&done(path, &["ls", "--json", "disk", "tree/below"])).unwrap();
    let names: Vec<_> =
        json["entries"].as_array().unwrap().iter().map(|entry| &entry["path"]).collect();
    assert_eq!(names, ["tree/below/link", "tree/below/two"]);
    fails(path, &["rm", "disk", "tree"], Exit::No);
    done(path, &["rm", "-r", "disk", "tree", "c*"]);
    assert_eq!(done(path, &["ls", "--json", "disk"]).matches("path").count(), 0);
    done(path, &["check", "disk"]);
}

#[test]
fn directories_links_and_attributes_are_made() {
    let directory = made();
    let path = directory.path();
    done(path, &["mkdir", "-p", "disk", "home/config/settings"]);
    fails(path, &["mkdir", "disk", "home"], Exit::No);
    done(path, &["ln", "disk", "../bin/driver", "home/driver"]);
    done(path, &["attr", "disk", "home", "BEOS:TYPE", "--set", "directory", "--type", "MIMS"]);
    done(path, &["attr", "disk", "home", "META:title", "--set", "text"]);
    assert_eq!(done(path, &["attr", "disk", "home", "BEOS:TYPE"]), "directory");
    assert_eq!(done(path, &["attr", "disk", "home", "META:title"]), "text\0");
    assert!(done(path, &["attr", "disk", "home"]).contains("MIMS"));
    done(path, &["attr", "disk", "home", "META:title", "--remove"]);
    fails(path, &["attr", "disk", "home", "META:title"], Exit::No);
    fails(path, &["attr", "disk", "home", "name", "--set", "x"], Exit::No);
    done(path, &["check", "disk"]);
    let info = done(path, &["info", "disk"]);
    for text in ["Test, blocks of 2048", "12.0 MiB", "cleanly"] {
        assert!(info.contains(text), "{info}");
    }
}

#[test]
fn damage_is_told_and_repaired() {
    let directory = made();
    let path = directory.path();
    let disk = path.join("disk");
    let mut bytes = fs::read(&disk).unwrap();
    // Blocks of the bitmap after those in use.
    bytes[2048 + 300] = 0xff;
    fs::write(&disk, &bytes).unwrap();
    let output = kireji(path, &["check", "disk"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("bitmap: block 1, block bitmap: 8 blocks from 2400 on"), "{text}");
    assert_eq!(fs::read(&disk).unwrap(), bytes);
    let json: serde_json::Value =
        serde_json::from_slice(&kireji(path, &["check", "--json", "disk"]).stdout).unwrap();
    assert_eq!(json["lost_blocks"], 8);
    done(path, &["check", "--repair", "disk"]);
    done(path, &["check", "disk"]);
}

#[test]
fn an_image_in_use_is_not_written() {
    let directory = made();
    let path = directory.path();
    let file = fs::OpenOptions::new().read(true).write(true).open(path.join("disk")).unwrap();
    fcntl_lock(&file, FlockOperation::LockShared).unwrap();
    let error = fails(path, &["mkdir", "disk", "x"], Exit::Refused);
    assert!(error.contains("in use by another process"), "{error}");
    // What only reads goes on.
    done(path, &["ls", "disk"]);
    drop(file);
    done(path, &["mkdir", "disk", "x"]);
}

#[test]
fn what_is_no_volume_is_named() {
    let directory = made();
    let path = directory.path();
    fs::write(path.join("zip"), b"PK\x03\x04").unwrap();
    assert!(fails(path, &["ls", "zip"], Exit::Image).contains("a zip archive"));
    assert!(fails(path, &["ls", "none"], Exit::Image).contains("cannot read"));
    assert!(fails(path, &["ls", "disk:3"], Exit::Image).contains("no partition 3"));
    assert!(fails(path, &["cat", "disk", "none"], Exit::No).contains("`none` does not exist"));
    fails(path, &["mkfs", "disk"], Exit::Usage);
    fails(path, &["mkfs", "disk", "--size", "12M"], Exit::HostCannot);
    fails(path, &["mkfs", "small", "--size", "1M"], Exit::Usage);
    assert!(!path.join("small").exists());
    done(path, &["mkfs", "disk", "--force", "--block-size", "1024"]);
    assert!(done(path, &["info", "disk"]).contains("blocks of 1024"));
}

/// A QEMU that has a disk open, until it is dropped.
struct Qemu(std::process::Child);

impl Qemu {
    fn start(directory: &Path, image: &str, format: &str) -> Self {
        let child = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"])
            .args(["-blockdev", &format!("driver=file,node-name=file,filename={image}")])
            .args(["-blockdev", &format!("driver={format},node-name=disk,file=file")])
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests need qemu-system-x86_64");
        let mut this = Self(child);
        // The prompt comes early; an answer when the disks are open.
        this.0.stdin.as_mut().unwrap().write_all(b"info status\n").unwrap();
        let mut output = this.0.stdout.take().unwrap();
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(b"VM status: paused") {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        this
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_a_qemu_has_open_is_not_written() {
    let directory = made();
    let path = directory.path();
    qemu_img(path, &["create", "-q", "-f", "qcow2", "-b", "disk", "-F", "raw", "overlay"]);
    for (open, format) in [("disk", "raw"), ("overlay", "qcow2")] {
        let qemu = Qemu::start(path, open, format);
        let before = ["disk", "overlay"].map(|name| fs::read(path.join(name)).unwrap());
        let error = fails(path, &["mkdir", open, "x"], Exit::Refused);
        assert!(error.contains("in use by another process"), "{error}");
        // Nor what lies below an overlay that is in use.
        fails(path, &["mkdir", "disk", "x"], Exit::Refused);
        fails(path, &["check", "--repair", "disk"], Exit::Refused);
        fails(path, &["mkfs", "--force", "disk"], Exit::Refused);
        assert!(["disk", "overlay"].map(|name| fs::read(path.join(name)).unwrap()) == before);
        drop(qemu);
        done(path, &["mkdir", open, "x"]);
        done(path, &["rm", open, "x"]);
        // Written after the overlay was made, the image is another below it.
        qemu_img(path, &["create", "-q", "-f", "qcow2", "-b", "disk", "-F", "raw", "overlay"]);
    }
}

fn qemu_img(directory: &Path, args: &[&str]) {
    let status = Command::new("qemu-img").args(args).current_dir(directory).status();
    assert!(status.expect("tests need qemu-img").success(), "{args:?}");
}

#[test]
fn qcow2_images_and_overlays_are_written_and_what_lies_below_is_not() {
    let directory = made();
    let path = directory.path();
    fs::write(path.join("file"), vec![7; 300_000]).unwrap();
    done(path, &["put", "disk", "file", "/below"]);
    qemu_img(path, &["convert", "-O", "qcow2", "-c", "disk", "packed"]);
    qemu_img(path, &["create", "-q", "-f", "qcow2", "-b", "packed", "-F", "qcow2", "overlay"]);
    let below = fs::read(path.join("packed")).unwrap();
    let info = done(path, &["info", "overlay"]);
    assert!(info.contains("container:  qcow2, version 3"), "{info}");
    done(path, &["put", "overlay", "file", "/above"]);
    done(path, &["check", "overlay"]);
    qemu_img(path, &["check", "-q", "overlay"]);
    assert!(fs::read(path.join("packed")).unwrap() == below);
    // What QEMU sees of it is the same volume.
    qemu_img(path, &["convert", "-O", "raw", "overlay", "flat"]);
    for image in ["overlay", "flat"] {
        done(path, &["get", image, "above", "back"]);
        assert_eq!(fs::read(path.join("back")).unwrap(), vec![7; 300_000], "{image}");
    }
    assert!(!done(path, &["ls", "packed"]).contains("above"));
    done(path, &["mkfs", "--force", "packed", "--name", "Anew"]);
    assert!(done(path, &["info", "packed"]).contains("Anew"));
}

/// A driver's image or a disk of hundreds of gigabytes: what is kept of it in memory is the same.
#[test]
fn memory_does_not_grow_with_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::File::create(path.join("large")).unwrap().set_len(300 << 20).unwrap();
    let limited = |args: &[&str]| {
        let output = Command::new("prlimit")
            .args(["--data=33554432", env!("CARGO_BIN_EXE_kireji"), "image"])
            .args(args)
            .current_dir(path)
            .output()
            .expect("tests need prlimit");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}");
    };
    limited(&["mkfs", "disk", "--size", "100G"]);
    limited(&["put", "disk", "large", "/"]);
    fs::remove_file(path.join("large")).unwrap();
    limited(&["get", "disk", "large", "."]);
    limited(&["ls", "-R", "disk"]);
    qemu_img(path, &["create", "-q", "-f", "qcow2", "-b", "disk", "-F", "raw", "overlay"]);
    limited(&["put", "overlay", "large", "/again"]);
}

#[test]
fn a_volume_is_made_in_an_empty_partition_for_one_and_in_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut disk = vec![0; 32 << 20];
    for (index, kind, start) in [(0, 0x0c, 2048_u32), (1, 0xeb, 32768)] {
        let entry = &mut disk[446 + 16 * index..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&24576_u32.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path.join("disk"), &disk).unwrap();
    let output = kireji(path, &["info", "disk"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("partition:  2") && listed.contains("for a BFS volume"), "{listed}");
    assert_eq!(output.status.code(), Some(i32::from(Exit::Image as u8)));
    for bad in ["disk:1", "disk:3", "disk"] {
        fails(path, &["mkfs", bad, "--force"], Exit::Image);
    }
    assert!(fs::read(path.join("disk")).unwrap() == disk);
    done(path, &["mkfs", "disk:2", "--force", "--name", "New"]);
    assert!(done(path, &["info", "disk"]).contains("New, blocks of 2048"));
    done(path, &["check", "disk:2"]);
    assert!(fs::read(path.join("disk")).unwrap()[..16 << 20] == disk[..16 << 20]);
    done(path, &["mkdir", "disk", "below"]);
    let told = fails(path, &["cat", "disk", "below"], Exit::No);
    assert!(told.contains("`below` is a directory"), "{told}");
}
