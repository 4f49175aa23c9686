//! `kireji driver`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kireji::Exit;

fn kireji(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(args)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

fn done(directory: &Path, args: &[&str]) -> String {
    let output = kireji(directory, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data").join(name)
}

#[test]
fn a_driver_is_judged_with_reasons_and_remedies() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["legacy.so", "default.so", "kernel.so"] {
        std::fs::copy(sample(name), directory.path().join(name)).unwrap();
    }
    let path = directory.path();
    let text = done(path, &["driver", "check", "legacy.so", "--kernel", "kernel.so"]);
    assert_eq!(text, "legacy.so is a legacy driver, which kernel.so loads\n");
    let output = kireji(path, &["driver", "check", "default.so"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["error: it has no DT_HASH", "-Wl,--hash-style=sysv", "not checked: 2 symbols"] {
        assert!(text.contains(part), "{text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&kireji(path, &["driver", "check", "--json", "default.so"]).stdout)
            .unwrap();
    assert_eq!(json["results"][0]["loadable"], false);
    assert_eq!(json["results"][0]["findings"][0]["rule"], "read-only-segment");
    std::fs::write(path.join("text"), "#!/bin/sh").unwrap();
    let output = kireji(path, &["driver", "check", "text"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
}

#[test]
fn a_driver_goes_in_and_comes_out_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::copy(sample("legacy.so"), path.join("sample.so")).unwrap();
    std::fs::copy(sample("default.so"), path.join("default.so")).unwrap();
    done(path, &["image", "mkfs", "disk", "--size", "12M"]);
    done(path, &["image", "mkdir", "-p", "disk", "home/config/settings/kernel/drivers"]);
    std::fs::write(path.join("kernel"), "load_symbols true").unwrap();
    let settings = "home/config/settings/kernel/drivers/kernel";
    done(path, &["image", "put", "disk", "kernel", settings]);
    let install = ["driver", "install", "sample.so", "--image", "disk", "--as", "misc/sample"];
    done(path, &install);
    done(path, &install);
    done(path, &["image", "check", "disk"]);
    let base = "home/config/non-packaged/add-ons/kernel/drivers";
    let listed = done(path, &["image", "ls", "-R", "disk"]);
    for part in [
        format!("{base}/bin/sample\n"),
        format!("{base}/dev/misc/sample -> ../../bin/sample\n"),
        "system/settings/launch/kireji-sample\n".to_owned(),
    ] {
        assert!(listed.contains(&part), "{listed}");
    }
    assert_eq!(
        done(path, &["image", "cat", "disk", settings]),
        "load_symbols true\n# kireji: begin\nbluescreen false\n# kireji: end\n"
    );
    let output = kireji(path, &["driver", "install", "default.so", "--image", "disk"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    done(path, &["driver", "remove", "sample", "--image", "disk"]);
    let listed = done(path, &["image", "ls", "-R", "disk"]);
    assert!(!listed.contains("sample\n") && !listed.contains("kireji"), "{listed}");
    assert_eq!(done(path, &["image", "cat", "disk", settings]), "load_symbols true");
    let output = kireji(path, &["driver", "remove", "sample", "--image", "disk"]);
    assert_eq!(output.status.code(), Some(1));
    done(path, &["image", "check", "disk"]);
}

/// A number of 7 bits a byte, as packages have it.
fn leb(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = number;
    loop {
        let low = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            return bytes;
        }
    }
}

/// A package with one file, neither compressed nor more than a reader of it needs.
fn package(name: &str, content: &[u8]) -> Vec<u8> {
    let tag = |id: usize, kind: usize, children: usize, encoding: usize| {
        leb((encoding << 11) + (children << 10) + (kind << 7) + id + 1)
    };
    let mut contents = vec![0];
    contents.extend(tag(0, 3, 1, 0));
    contents.extend([name.as_bytes(), b"\0"].concat());
    contents.extend(tag(13, 4, 0, 1));
    contents.extend([leb(content.len()), leb(0)].concat());
    contents.extend([0, 0]);
    let about = [0, 0];
    let heap = [content, &contents, &about].concat();
    let mut header = b"hpkg\0\x50\0\x02".to_vec();
    let wide = |number: usize| (number as u64).to_be_bytes();
    let narrow = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    header.extend(wide(80 + heap.len()));
    header.extend([0, 1, 0, 0]);
    header.extend(narrow(65536));
    header.extend([wide(heap.len()), wide(heap.len())].concat());
    header.extend([narrow(about.len()), narrow(1), narrow(0), narrow(0)].concat());
    header.extend([wide(contents.len()), wide(1), wide(0)].concat());
    [header, heap].concat()
}

#[test]
fn symbols_are_looked_up_in_the_kernel_of_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::copy(sample("legacy.so"), path.join("legacy.so")).unwrap();
    let kernel = std::fs::read(sample("kernel.so")).unwrap();
    std::fs::write(path.join("haiku-1.hpkg"), package("kernel_x86_64", &kernel)).unwrap();
    // One that lacks what the driver wants.
    let other = std::fs::read(sample("module.so")).unwrap();
    std::fs::write(path.join("haiku-2.hpkg"), package("kernel_x86_64", &other)).unwrap();
    for (disk, file) in [("one", "haiku-1.hpkg"), ("two", "haiku-2.hpkg")] {
        done(path, &["image", "mkfs", disk, "--size", "12M"]);
        done(path, &["image", "mkdir", "-p", disk, "system/packages"]);
        done(path, &["image", "put", disk, file, "system/packages"]);
    }
    let text = done(path, &["driver", "check", "legacy.so", "--image", "one"]);
    assert_eq!(text, "legacy.so is a legacy driver, which haiku-1.hpkg loads\n");
    let both = ["driver", "check", "legacy.so", "--image", "one", "--image", "two"];
    let output = kireji(path, &both);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("haiku-2.hpkg does not load"), "{text}");
    assert!(text.contains("the kernel has no `strcmp`"), "{text}");
    let output = kireji(path, &["driver", "install", "legacy.so", "--image", "two"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    done(path, &["driver", "install", "legacy.so", "--image", "one"]);
    assert!(done(path, &["image", "info", "one"]).contains("haiku-1.hpkg"));
}
