//! Disks against what QEMU's own tools make of the same files.

use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{FlockOperation, fcntl_lock};

use super::super::samples;
use super::*;

const SIZE: usize = 3 << 20;

fn tool(program: &str, directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("tests need {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{error}");
    text
}

fn qemu_img(directory: &Path, arguments: &[&str]) -> String {
    tool("qemu-img", directory, arguments)
}

/// Bytes that differ everywhere, with zeros in the middle.
fn pattern(length: usize) -> Vec<u8> {
    let byte = |number: usize| number.wrapping_mul(2_654_435_761).to_le_bytes()[3];
    let mut bytes: Vec<_> = (0..length).map(byte).collect();
    bytes[length / 3..length / 2].fill(0);
    bytes
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    std::fs::write(path.join("base"), pattern(SIZE)).unwrap();
    (directory, path)
}

fn content(disk: &Disk) -> Vec<u8> {
    disk.read_up_to(0, u64::MAX).unwrap()
}

/// The content of an image, as QEMU shows it; its tables must be right.
fn shown(directory: &Path, image: &str) -> Vec<u8> {
    qemu_img(directory, &["check", "-q", image]);
    qemu_img(directory, &["convert", "-O", "raw", image, "shown"]);
    std::fs::read(directory.join("shown")).unwrap()
}

/// Every form that is read and written.
const FORMS: [&[&str]; 8] = [
    &[],
    &["-c"],
    &["-o", "cluster_size=512"],
    &["-o", "cluster_size=2M"],
    &["-o", "compat=0.10"],
    &["-o", "preallocation=metadata"],
    &["-o", "refcount_bits=1"],
    &["-o", "lazy_refcounts=on"],
];

fn converted(directory: &Path, form: &[&str]) {
    let mut arguments = vec!["convert", "-O", "qcow2"];
    arguments.extend(form);
    arguments.extend(["base", "image"]);
    qemu_img(directory, &arguments);
}

/// Writes to a disk and to its model.
fn write(disk: &mut Disk, model: &mut [u8], at: usize, bytes: &[u8]) {
    disk.write_at(bytes, at as u64).unwrap();
    model[at..at + bytes.len()].copy_from_slice(bytes);
}

fn write_here_and_there(disk: &mut Disk, model: &mut [u8]) {
    let mark = [0xa5; 200_000];
    for (at, length) in [(0, 1), (511, 2), (65_535, 65_537), (1 << 20, 200_000), (SIZE - 3, 3)] {
        write(disk, model, at, &mark[..length]);
    }
}

#[test]
fn each_form_of_qcow2_is_read_and_written_as_qemu_does() {
    let (_guard, path) = directory();
    for form in FORMS {
        converted(&path, form);
        let image = path.join("image");
        let disk = Disk::open(&image).unwrap();
        assert!(content(&disk) == pattern(SIZE), "{form:?}");
        drop(disk);
        let mut model = pattern(SIZE);
        let mut disk = Disk::open_to_write(&image).unwrap();
        write_here_and_there(&mut disk, &mut model);
        assert!(content(&disk) == model, "{form:?}, before it is closed");
        disk.flush().unwrap();
        drop(disk);
        assert!(shown(&path, "image") == model, "{form:?}, as QEMU shows it");
        assert!(content(&Disk::open(&image).unwrap()) == model, "{form:?}");
    }
}

#[test]
fn snapshots_keep_what_they_had() {
    let (_guard, path) = directory();
    converted(&path, &[]);
    qemu_img(&path, &["snapshot", "-c", "before", "image"]);
    let mut model = pattern(SIZE);
    let mut disk = Disk::open_to_write(&path.join("image")).unwrap();
    write_here_and_there(&mut disk, &mut model);
    drop(disk);
    assert!(shown(&path, "image") == model);
    qemu_img(&path, &["snapshot", "-a", "before", "image"]);
    assert!(shown(&path, "image") == pattern(SIZE));
}

/// Makes a chain: `top`, larger than `middle`, which hides a part of `base`.
fn chain(path: &Path, cluster: &str) -> Vec<u8> {
    let options = format!("cluster_size={cluster}");
    let create = ["create", "-q", "-f", "qcow2", "-o", &options, "-b"];
    qemu_img(path, &[&create[..], &["base", "-F", "raw", "middle"]].concat());
    let hide = ["-f", "qcow2", "-c", "write -P 7 100k 300k", "-c", "write -z 1M 128k", "middle"];
    tool("qemu-io", path, &hide);
    let larger = (SIZE + 100_000).next_multiple_of(512).to_string();
    qemu_img(path, &[&create[..], &["middle", "-F", "qcow2", "top", &larger]].concat());
    let mut model = pattern(SIZE);
    model[100 << 10..400 << 10].fill(7);
    model[1 << 20..(1 << 20) + (128 << 10)].fill(0);
    model.resize(larger.parse().unwrap(), 0);
    model
}

#[test]
fn backing_files_are_read_and_never_written() {
    for cluster in ["4k", "64k", "2M"] {
        let (_guard, path) = directory();
        let mut model = chain(&path, cluster);
        let below = || ["base", "middle"].map(|name| std::fs::read(path.join(name)).unwrap());
        let before = below();
        let mut disk = Disk::open_to_write(&path.join("top")).unwrap();
        assert!(content(&disk) == model, "{cluster}");
        write_here_and_there(&mut disk, &mut model);
        // Over the end of what lies below, and at the very end.
        write(&mut disk, &mut model, SIZE - 10, &[3; 20]);
        let end = model.len();
        write(&mut disk, &mut model, end - 1, &[4]);
        assert!(content(&disk) == model, "{cluster}");
        assert!(disk.write_at(&[0; 2], end as u64 - 1).is_err());
        drop(disk);
        assert!(shown(&path, "top") == model, "{cluster}");
        assert!(below() == before, "{cluster}");
    }
}

#[test]
fn a_disk_behind_a_header_may_lie_below() {
    let (_guard, path) = directory();
    std::fs::write(path.join("disk, 1.vmdk"), samples::vmdk()).unwrap();
    let name = format!(
        r#"json:{{"driver":"raw","offset":65536,"file":{{"driver":"file","filename":"{}"}}}}"#,
        path.join("disk, 1.vmdk").display()
    );
    qemu_img(&path, &["create", "-q", "-f", "qcow2", "-b", &name, "-F", "raw", "top"]);
    assert!(shown(&path, "top") == samples::bfs(32));
    let disk = Disk::open(&path.join("top")).unwrap();
    assert!(content(&disk) == samples::bfs(32));
    assert_eq!(disk.find_volume(None).unwrap().size, 65536);
}

#[test]
fn what_cannot_lie_below_is_named() {
    let (_guard, path) = directory();
    let create = |arguments: &[&str]| {
        // Without -u it would look for the file.
        qemu_img(
            &path,
            &[&["create", "-q", "-u", "-f", "qcow2"], arguments, &["top", "1M"]].concat(),
        );
        Disk::open(&path.join("top")).unwrap_err().to_string()
    };
    for (name, format, what) in [
        ("nbd://localhost", "raw", "is not a file"),
        ("base", "vmdk", "is neither raw nor qcow2"),
        ("json:{\"driver\":\"nbd\"}", "raw", "is a description that is not known here"),
        ("none", "raw", "cannot be read"),
        ("base", "qcow2", "cannot be read"),
    ] {
        let error = create(&["-b", name, "-F", format]);
        assert!(error.contains("backing file of") && error.contains(what), "{name}: {error}");
    }
}

#[test]
fn a_circle_of_backing_files_ends() {
    let (_guard, path) = directory();
    for (above, below) in [("a", "b"), ("b", "a")] {
        let create = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, above, "1M"];
        qemu_img(&path, &create);
    }
    let mut error: &dyn std::error::Error = &Disk::open(&path.join("a")).unwrap_err();
    while let Some(source) = error.source() {
        error = source;
    }
    assert!(error.to_string().contains("goes round in a circle"), "{error}");
}

#[test]
fn what_is_not_read_here_is_refused_by_name() {
    let (_guard, path) = directory();
    let secret = ["--object", "secret,id=key,data=abc"];
    // Not LUKS, for which qemu-img first measures the processor, and gives up on a busy one.
    let encrypted = ["-o", "encrypt.format=aes,encrypt.key-secret=key"];
    for (form, what) in [
        (&["-o", "extended_l2=on,cluster_size=128k"][..], "extended_l2"),
        (&["-c", "-o", "compression_type=zstd"], "something else than zlib"),
        (&["-o", "data_file=data"], "in another file"),
        (&[&secret[..], &encrypted].concat(), "encrypted"),
    ] {
        converted(&path, form);
        let error = Disk::open(&path.join("image")).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        std::fs::remove_file(path.join("image")).unwrap();
    }
    for (bit, what) in [(1, "did not close it"), (2, "marked it as damaged"), (0x40, "not known")] {
        converted(&path, &[]);
        let mut bytes = std::fs::read(path.join("image")).unwrap();
        bytes[79] = bit;
        std::fs::write(path.join("image"), &bytes).unwrap();
        let error = Disk::open_to_write(&path.join("image")).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(std::fs::read(path.join("image")).unwrap() == bytes, "{what}");
    }
}

#[test]
fn one_writes_or_many_read() {
    let (_guard, path) = directory();
    chain(&path, "64k");
    let [base, top] = ["base", "top"].map(|name| path.join(name));
    // The locks of one process do not keep it from itself: another asks.
    let writable = |file: &Path| {
        let script =
            "import fcntl,sys; fcntl.lockf(open(sys.argv[1],'r+'),fcntl.LOCK_EX|fcntl.LOCK_NB)";
        let asked = Command::new("python3").args(["-c", script]).arg(file).output();
        asked.expect("tests need python3").status.success()
    };
    let disk = Disk::open(&top).unwrap();
    assert!(!writable(&top) && !writable(&base), "a disk that is read, and what lies below");
    drop(disk);
    assert!(writable(&top) && writable(&base));
    let mut disk = Disk::open(&top).unwrap();
    let error = disk.write_at(&[1], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    drop(disk);
    let other = File::options().read(true).write(true).open(&top).unwrap();
    fcntl_lock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any writes, in any order, over a chain.
    #[test]
    fn writes_are_found_again(
        writes in prop::collection::vec((0..SIZE, 1..90_000_usize, any::<u8>()), 1..12)
    ) {
        let (_guard, path) = directory();
        let mut model = chain(&path, "16k");
        let mut disk = Disk::open_to_write(&path.join("top")).unwrap();
        for (at, length, value) in writes {
            write(&mut disk, &mut model, at, &vec![value; length]);
        }
        prop_assert!(content(&disk) == model);
        drop(disk);
        prop_assert!(shown(&path, "top") == model);
    }

    /// A file of somebody's: whatever is in its header and tables, an answer or an error.
    #[test]
    fn a_damaged_file_is_survived(
        version in 2_u32..4,
        changes in prop::collection::vec((0..6_usize * 512, any::<u8>()), 1..6)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let mut bytes = samples::qcow2(version);
        for (at, value) in changes {
            bytes[at] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(disk) = Disk::open(&path) {
            let size = Storage::size(&disk).unwrap();
            for at in [0, 512, size.saturating_sub(512)] {
                drop(disk.read_at(&mut [0; 512], at));
            }
        }
        if let Ok(mut disk) = Disk::open_to_write(&path) {
            drop(disk.write_at(&[1; 700], 0));
            drop(disk.flush());
        }
    }
}
