//! `kireji driver`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use haiku::hpkg::{About, NewContent, NewEntry};
use kireji::Exit;
use testkit::package::file;

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
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["error: it has no DT_HASH", "-Wl,--hash-style=sysv", "not checked: 2 symbols"] {
        assert!(text.contains(part), "{text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&kireji(path, &["driver", "check", "--json", "default.so"]).stdout)
            .unwrap();
    assert_eq!(json["results"][0]["loadable"], false);
    let finding = &json["results"][0]["findings"][0];
    assert_eq!(finding["rule"], "read-only-segment");
    assert_eq!(finding["source"], "elf.cpp, load_kernel_add_on");
    assert!(finding["remedy"].as_str().unwrap().contains("-z"), "{finding}");
    std::fs::write(path.join("text"), "#!/bin/sh").unwrap();
    done(path, &["image", "mkfs", "disk", "--size", "12M"]);
    for words in [&["check", "text"][..], &["install", "text", "--image", "disk"]] {
        let output = kireji(path, &[&["driver"], words].concat());
        assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("text: "), "{words:?}");
    }
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
    std::fs::write(path.join("kernel"), "serial_debug_output false").unwrap();
    done(path, &["image", "mkfs", "quiet", "--size", "12M"]);
    done(path, &["image", "mkdir", "-p", "quiet", "home/config/settings/kernel/drivers"]);
    done(path, &["image", "put", "quiet", "kernel", settings]);
    for (image, told) in [("disk", false), ("quiet", true)] {
        let output = kireji(path, &["driver", "install", "sample.so", "--image", image]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.contains("`serial_debug_output` is off"), told, "{text}");
    }
    let output = kireji(path, &["driver", "install", "default.so", "--image", "disk"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("because it has no DT_HASH") && !text.contains("no soname"), "{text}");
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    done(path, &["driver", "remove", "sample", "--image", "disk"]);
    let listed = done(path, &["image", "ls", "-R", "disk"]);
    assert!(!listed.contains("sample\n") && !listed.contains("kireji"), "{listed}");
    assert_eq!(done(path, &["image", "cat", "disk", settings]), "load_symbols true");
    let output = kireji(path, &["driver", "remove", "sample", "--image", "disk"]);
    assert_eq!(output.status.code(), Some(1));
    done(path, &["image", "check", "disk"]);
}

/// The package `haiku` of a revision: a kernel, and what kernels of Haiku come with.
fn package(revision: u64, kernel: &[u8]) -> Vec<u8> {
    let entries = [
        file("kernel_x86_64", kernel),
        file("add-ons/kernel/bus_managers/pci", b"ELF"),
        file("add-ons/kernel/drivers/misc/sample", b"ELF"),
        NewEntry {
            path: "add-ons/kernel/boot/sample".to_owned(),
            content: NewContent::Symlink("../drivers/misc/sample".to_owned()),
        },
        file("lib/libroot.so", b"ELF"),
    ];
    haiku::hpkg::write(&about("haiku", revision), &entries, 1_790_000_000).unwrap()
}

fn about(name: &str, revision: u64) -> About {
    About { version: "r1~beta6_hrev59000".to_owned(), revision, ..testkit::package::about(name) }
}

#[test]
fn symbols_are_looked_up_in_the_kernel_of_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::copy(sample("legacy.so"), path.join("legacy.so")).unwrap();
    let kernel = std::fs::read(sample("kernel.so")).unwrap();
    std::fs::write(path.join("haiku-1.hpkg"), package(1, &kernel)).unwrap();
    // One that lacks what the driver wants.
    let other = std::fs::read(sample("module.so")).unwrap();
    std::fs::write(path.join("haiku-2.hpkg"), package(2, &other)).unwrap();
    for (disk, file) in [("one", "haiku-1.hpkg"), ("two", "haiku-2.hpkg")] {
        done(path, &["image", "mkfs", disk, "--size", "12M"]);
        done(path, &["image", "mkdir", "-p", disk, "system/packages"]);
        done(path, &["image", "put", disk, file, "system/packages"]);
    }
    let text = done(path, &["driver", "check", "legacy.so", "--image", "one"]);
    assert_eq!(text, "legacy.so is a legacy driver, which haiku-1.hpkg loads\n");
    let both = ["driver", "check", "legacy.so", "--image", "one", "--image", "two"];
    let output = kireji(path, &both);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("haiku-2.hpkg does not load"), "{text}");
    assert!(text.contains("the kernel has no `strcmp`"), "{text}");
    let output = kireji(path, &["driver", "install", "legacy.so", "--image", "two"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    done(path, &["driver", "install", "legacy.so", "--image", "one"]);
    assert!(done(path, &["image", "info", "one"]).contains("haiku-1.hpkg"));
}

/// Every file of an image with its content, and every link with its target.
fn everything(directory: &Path, disk: &str) -> Vec<(String, String)> {
    let listed = done(directory, &["image", "ls", "-R", "--json", disk]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut found = Vec::new();
    for entry in listed["entries"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        let content = match entry["kind"].as_str().unwrap() {
            "file" => {
                let output = kireji(directory, &["image", "cat", disk, path]);
                assert!(output.status.success());
                format!("{:x?} {}", output.stdout, entry["modified"])
            }
            _ => entry["target"].to_string(),
        };
        found.push((path.to_owned(), content));
    }
    found
}

#[test]
fn an_image_with_packages_is_as_it_was_after_a_driver_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::copy(sample("module.so"), path.join("sample.so")).unwrap();
    let kernel = std::fs::read(sample("kernel.so")).unwrap();
    std::fs::write(path.join("haiku-1.hpkg"), package(1, &kernel)).unwrap();
    std::fs::write(path.join("packages"), "Package haiku {\n\tBlockedEntries {\n\t\tx\n\t}\n}")
        .unwrap();
    let disks = ["one", "two"];
    for disk in disks {
        done(path, &["image", "mkfs", disk, "--size", "12M"]);
        done(path, &["image", "mkdir", "-p", disk, "system/packages", "system/settings"]);
        done(path, &["image", "put", disk, "haiku-1.hpkg", "system/packages"]);
        done(path, &["image", "put", disk, "packages", "system/settings"]);
    }
    let before = disks.map(|disk| everything(path, disk));
    assert!(before[0].iter().any(|(path, _)| path.ends_with("haiku-1.hpkg")), "{before:?}");
    let install = ["driver", "install", "sample.so", "--image", "one", "--image", "two", "--json"];
    let text = done(path, &install);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["images"][1]["changes"][0]["change"], "add-on");
    let settings = done(path, &["image", "cat", "one", "system/settings/packages"]);
    for entry in ["add-ons/kernel/boot/sample", "add-ons/kernel/drivers/misc/sample"] {
        assert!(settings.contains(entry), "{settings}");
    }
    for (disk, before) in disks.iter().zip(&before) {
        // By the name of the file that was installed.
        let output = kireji(path, &["driver", "remove", "sample.so", "--image", disk]);
        assert!(output.status.success());
        assert_eq!(&everything(path, disk), before);
        done(path, &["image", "check", disk]);
    }
    let twice = ["driver", "install", "sample.so", "--image", "one", "--image", "./one"];
    assert_eq!(kireji(path, &twice).status.code(), Some(i32::from(Exit::Usage as u8)));
}

#[test]
fn images_for_32_bits_have_a_code_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut narrow = std::fs::read(sample("legacy.so")).unwrap();
    narrow[4] = 1;
    std::fs::write(path.join("narrow"), narrow).unwrap();
    let output = kireji(path, &["driver", "check", "narrow"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::DriverNotLoaded as u8)));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("E-X86-GCC2"), "{text}");
}

#[test]
fn a_new_driver_is_built_against_what_an_image_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let data = |name: &str| std::fs::read(sample("sdk").join(name)).unwrap();
    let gcc = ["-shared", "-nostdlib", "-fPIC", "-fno-builtin", "-Wl,--hash-style=sysv", "-o"];
    let built = Command::new("gcc")
        .args(gcc)
        .args([path.join("kernel.so"), sample("sdk/kernel.c")])
        .status();
    assert!(built.unwrap().success());
    let kernel = std::fs::read(path.join("kernel.so")).unwrap();
    let mut entries = vec![
        file("develop/headers/os/declarations.h", &data("declarations.h")),
        file("develop/lib/_KERNEL_", &kernel),
    ];
    for name in ["Drivers", "KernelExport", "PCI", "string"] {
        let path = format!("develop/headers/os/{name}.h");
        entries.push(file(&path, b"#include <declarations.h>\n"));
    }
    let devel = haiku::hpkg::write(&about("haiku_devel", 1), &entries, 0).unwrap();
    std::fs::write(path.join("haiku_devel-1.hpkg"), devel).unwrap();
    std::fs::write(path.join("haiku-1.hpkg"), package(1, &kernel)).unwrap();
    done(path, &["image", "mkfs", "disk", "--size", "12M"]);
    done(path, &["image", "mkdir", "-p", "disk", "system/packages"]);
    done(path, &["image", "put", "disk", "haiku_devel-1.hpkg", "haiku-1.hpkg", "system/packages"]);

    done(path, &["driver", "new", "my_card"]);
    let options = done(path, &["driver", "sdk", "disk", "--output", "my_card/sdk"]);
    assert_eq!(options.lines().count(), 4, "{options}");
    let made = Command::new("make").arg("CC=gcc").current_dir(path.join("my_card")).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = done(path, &["driver", "check", "my_card/my_card", "--image", "disk"]);
    assert!(text.starts_with("my_card/my_card is a legacy driver, which haiku-1.hpkg loads\n"));
    done(path, &["driver", "install", "my_card/my_card", "--image", "disk"]);

    // The package says the same, made twice to the same bytes.
    let packed = done(path, &["driver", "pack", "my_card/my_card", "--image", "disk"]);
    assert_eq!(packed, "my_card-0.1-1-x86_64.hpkg\n");
    std::fs::create_dir(path.join("again")).unwrap();
    done(path, &["driver", "pack", "my_card/my_card", "--output", "again"]);
    let both = ["my_card-0.1-1-x86_64.hpkg", "again/my_card-0.1-1-x86_64.hpkg"]
        .map(|name| std::fs::read(path.join(name)).unwrap());
    assert!(both[0] == both[1]);
    let mut package = haiku::hpkg::Package::open(both[0].as_slice()).unwrap();
    let paths: Vec<_> = package.entries().unwrap().into_iter().map(|entry| entry.path).collect();
    assert!(paths.contains(&b"add-ons/kernel/drivers/dev/misc/my_card".to_vec()), "{paths:?}");

    // Nothing that is there is overwritten.
    for args in [
        &["driver", "new", "my_card"][..],
        &["driver", "sdk", "disk", "--output", "my_card/sdk"],
        &["driver", "pack", "my_card/my_card"],
        &["driver", "new", "My-Card"],
    ] {
        assert_eq!(
            kireji(path, args).status.code(),
            Some(i32::from(Exit::Usage as u8)),
            "{args:?}"
        );
    }
    let output = kireji(path, &["driver", "sdk", "my_card-0.1-1-x86_64.hpkg", "--output", "x"]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::Image as u8)));
}
