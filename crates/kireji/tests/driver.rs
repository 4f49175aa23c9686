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
        "load_symbols true\nbluescreen false\t# kireji\n"
    );
    let output = kireji(path, &["driver", "install", "default.so", "--image", "disk"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    done(path, &["driver", "remove", "sample", "--image", "disk"]);
    let listed = done(path, &["image", "ls", "-R", "disk"]);
    assert!(!listed.contains("sample\n") && !listed.contains("kireji"), "{listed}");
    assert_eq!(done(path, &["image", "cat", "disk", settings]), "load_symbols true\n");
    let output = kireji(path, &["driver", "remove", "sample", "--image", "disk"]);
    assert_eq!(output.status.code(), Some(1));
    done(path, &["image", "check", "disk"]);
}
