//! What looking tells of rigs, whose hosts are real: in the rig itself, and from a snapshot of it.
//!
//! These tests need a provisioned lab (`cargo xtask test` makes one) and fail without it.

mod captures;

use std::path::Path;
use std::process::{Command, Output};

use host::Sysroot;
use pci::Host;
use serde_json::Value;
use testkit::lspci;

fn lab(rig: &str, command: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["lab", "run", rig, "--"])
        .args(command)
        .output()
        .expect("kireji runs")
}

/// Captures a rig in a file.
fn capture(rig: &str, file: &Path) {
    let script = "kireji snapshot /tmp/snapshot >&2 && cat /tmp/snapshot";
    let output = lab(rig, &["/bin/sh", "-c", script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(file, output.stdout).expect("a file");
}

/// What the doctor finds of a captured rig: whether it is ready, and each finding that fails.
fn findings(rig: &str, card: &str) -> (bool, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("snapshot");
    capture(rig, &file);
    let output = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .arg("--sysroot")
        .arg(file)
        .args(["doctor", card, "--json"])
        .output()
        .expect("kireji runs");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = document["findings"].as_array().expect("findings").iter();
    let failed = findings.filter(|finding| finding["status"] == "fail");
    let codes = failed.map(|finding| finding["code"].as_str().expect("a code").to_owned());
    (output.status.success(), codes.collect())
}

/// Every configuration space of a captured host, as root sees it.
fn spaces(sysroot: &Sysroot) -> Vec<Vec<u8>> {
    let host = Host::read(sysroot).expect("a host");
    let read = |function: &pci::Function| Some(function.config(sysroot).ok()??.bytes().to_vec());
    host.functions().filter_map(read).collect()
}

#[test]
fn a_rig_with_an_iommu_is_ready_inside_and_outside() {
    let inside = lab("intel", &["kireji", "doctor", "01:00"]);
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stdout));
    for rig in ["intel", "amd"] {
        let (is_ready, failed) = findings(rig, "01:00");
        assert!(is_ready, "{rig}: {failed:?}");
    }
}

#[test]
fn each_cause_is_found_where_it_really_is() {
    for (rig, card, code) in [
        ("none", "01:00", "E-IOMMU-HARDWARE"),
        ("iommu-off", "01:00", "E-IOMMU-KERNEL"),
        ("no-remap", "01:00", "E-NO-INTERRUPT-REMAPPING"),
        ("no-acs", "01:00", "E-ACS"),
        ("bridge", "02:02", "E-ACS"),
    ] {
        let (is_ready, failed) = findings(rig, card);
        assert!(failed.iter().any(|found| found == code), "{rig}: {failed:?}");
        // A port without ACS is no reason by itself.
        assert!(!is_ready || code == "E-ACS", "{rig}: {failed:?}");
    }
}

#[test]
fn capabilities_of_real_functions_are_decoded_as_lspci_does() {
    let mut compared = 0;
    for rig in ["intel", "switch", "multifunction", "storage"] {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("snapshot");
        capture(rig, &file);
        let packed = std::fs::read(file).expect("the snapshot");
        let sysroot = Sysroot::unpack(&packed[..]).expect("a captured host");
        compared += lspci::compare(&spaces(&sysroot));
    }
    assert!(compared > 100, "only {compared} fields were compared");
}

/// What is said but for the processor, which is this machine's where it has KVM.
fn without_processor(said: &str) -> String {
    let parts = said.split("\n\n").filter(|part| !part.contains("[E-CPU-VIRTUALISATION]"));
    parts.collect::<Vec<_>>().join("\n\n")
}

/// What is said of a capture that was made once is said of the rig that is made now.
#[test]
fn the_captures_of_the_corpus_are_what_the_rigs_are() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, card) in captures::CAPTURED {
        let file = dir.path().join(name);
        let rig = match name {
            "amd" => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/amd.toml"),
            name => name,
        };
        capture(rig, &file);
        if std::env::var_os("KIREJI_CAPTURE").is_some() {
            std::fs::copy(&file, captures::place(name)).expect("a file of the corpus");
            continue;
        }
        let now = without_processor(&captures::said(&file, card));
        let once = without_processor(&captures::said(&captures::place(name), card));
        let differs = once.lines().zip(now.lines()).find(|(once, now)| once != now);
        assert_eq!(differs, None, "{name}");
        assert_eq!(once.lines().count(), now.lines().count(), "{name}");
    }
}
