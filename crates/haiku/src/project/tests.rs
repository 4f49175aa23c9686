use std::path::Path;
use std::process::Command;

use super::*;
use crate::driver::{Kernel, Kind, check};
use crate::hpkg::Package;
use crate::hpkg::samples::{file, link, package};

fn data(name: &str) -> String {
    format!("{}/tests/data/sdk/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn run(directory: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).current_dir(directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    assert!(!text.contains("warning"), "{text}");
}

/// What `driver sdk` would unpack, of declarations of our own.
fn sdk(directory: &Path) {
    let headers = directory.join("sdk/develop/headers");
    std::fs::create_dir_all(headers.join("os/bus")).unwrap();
    std::fs::create_dir_all(directory.join("sdk/develop/lib")).unwrap();
    std::fs::copy(data("declarations.h"), headers.join("os/declarations.h")).unwrap();
    for name in ["Drivers", "KernelExport", "PCI", "device_manager", "bus/PCI", "string", "stdlib"]
    {
        let path = headers.join(format!("os/{name}.h"));
        std::fs::write(path, "#include <declarations.h>\n").unwrap();
    }
    let kernel = data("kernel.c");
    let options = ["-shared", "-nostdlib", "-fPIC", "-fno-builtin", "-Wl,--hash-style=sysv"];
    let files = ["-o", "sdk/develop/lib/_KERNEL_", kernel.as_str()];
    run(directory, "gcc", &[&options[..], &files[..]].concat());
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn a_new_project_builds_into_a_driver_that_the_kernel_loads() {
    let mut compilers = vec!["gcc"];
    if there("clang") && there("ld.lld") {
        compilers.push("clang");
    }
    for compiler in compilers {
        for (style, kind) in [(Style::Legacy, Kind::Legacy), (Style::Module, Kind::Driver)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            for (name, text) in files("my_card", style).unwrap() {
                assert!(!text.contains("@NAME") && !text.contains("S@"), "{text}");
                std::fs::write(path.join(name), text).unwrap();
            }
            sdk(path);
            run(path, "make", &[&format!("CC={compiler}"), "CFLAGS=-O2 -g -Wall -Werror"]);
            let kernel = std::fs::read(path.join("sdk/develop/lib/_KERNEL_")).unwrap();
            let kernel = Kernel::parse(&kernel).unwrap();
            let driver = std::fs::read(path.join("my_card")).unwrap();
            let report = check(&driver, Some(&kernel), Some("drivers/misc/my_card")).unwrap();
            assert_eq!(report.findings, [], "{compiler} {style:?}");
            assert_eq!(report.kind, kind);
            let uses = match style {
                Style::Legacy => "bus_managers/pci/v1",
                Style::Module => "system/device_manager/v1",
            };
            assert_eq!(report.uses, [uses]);
        }
    }
}

#[test]
fn names_do_for_files_and_modules() {
    for name in ["a", "my_card2"] {
        assert!(files(name, Style::Module).is_ok());
    }
    for name in ["", "2a", "a-b", "A", "../x", "a b", "_a"] {
        assert!(files(name, Style::Legacy).is_err(), "{name}");
    }
}

#[test]
fn the_options_are_those_of_the_makefile() {
    let makefile = &files("x", Style::Legacy).unwrap()[0].1;
    for compiler in [Compiler::Gcc, Compiler::Clang] {
        let options = compiler.compile("sdk") + " " + &compiler.link("sdk", "x");
        for option in options.split(' ').filter(|option| option.starts_with("-f")) {
            assert!(makefile.contains(option), "{option}");
        }
    }
}

#[test]
fn an_sdk_is_what_a_package_has_to_build_against() {
    let devel = package(
        "haiku_devel",
        &[
            ("develop/headers/os/PCI.h", file(b"pci")),
            ("develop/headers/os/same.h", link("PCI.h")),
            ("develop/headers/os/out.h", link("../../../../../etc/passwd")),
            ("develop/headers/os/far.h", link("/etc/passwd")),
            ("develop/lib/_KERNEL_", file(b"kernel")),
            ("develop/lib/libbe.so", file(b"more")),
        ],
    );
    let sdk = Sdk::read(&mut Package::open(devel.as_slice()).unwrap()).unwrap();
    assert_eq!(sdk.package, "haiku_devel 1-1");
    let files: Vec<_> = sdk.files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
    assert_eq!(
        files,
        [
            ("develop/headers/os/PCI.h", &b"pci"[..]),
            ("develop/headers/os/same.h", b"pci"),
            ("develop/lib/_KERNEL_", b"kernel"),
        ]
    );
    assert!(sdk.has_headers() && sdk.has_kernel());

    // Of the package `haiku`, the kernel as a shared object.
    let haiku = package("haiku", &[("kernel_x86_64", file(b"\x7fELF............\x02\0more"))]);
    let sdk = Sdk::read(&mut Package::open(haiku.as_slice()).unwrap()).unwrap();
    assert!(!sdk.has_headers() && sdk.has_kernel());
    assert_eq!(&sdk.files[0].1[16..18], [3, 0]);

    let other = package("other", &[("bin/x", file(b"x"))]);
    let error = Sdk::read(&mut Package::open(other.as_slice()).unwrap()).unwrap_err();
    assert!(matches!(error, SdkError::Nothing(_)), "{error}");
}
