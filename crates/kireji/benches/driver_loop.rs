//! What the driver loop costs outside the guest: check, install, QEMU's start and the verdict, on an
//! image of 1.4 GB, bare and with the packages of an installation, with a fake guest that takes no
//! time itself.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use haiku::hpkg::{NewEntry, write};
use testkit::fake_guest::{self, Script};
use testkit::package::{about, file};

/// What all of it may take, in milliseconds (the guide's page on the driver loop says so too).
const GOAL: u64 = 200;
/// How often it is measured.
const ROUNDS: usize = 21;
/// Packages of a full installation, about.
const PACKAGES: usize = 200;
/// The stages that are kireji's, not the guest's.
const OWN: [&str; 4] = ["check", "install", "QEMU", "verdict"];
/// A boot whose driver takes the card, so that a run ends by itself as soon as that is proven.
const GUEST: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, revision 10\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n\
    legacy: found at 0:2.0, registers at 0xc1000000\r\n\
    loaded driver /boot/home/config/non-packaged/add-ons/kernel/drivers/dev/misc/legacy\r\n";

fn main() {
    // `cargo test --all-targets` starts it too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let kireji = Path::new(env!("CARGO_BIN_EXE_kireji"));
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("haiku.image");
    testkit::image::volume(kireji, &image, "1400M");
    measure(kireji, dir.path(), &image, "without packages");
    install_packages(kireji, dir.path(), &image);
    measure(kireji, dir.path(), &image, &format!("with {PACKAGES} packages"));
}

/// Runs the guest again and again, and prints how long it took.
fn measure(kireji: &Path, dir: &Path, image: &Path, what: &str) {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data/legacy.so");
    let mut rounds: Vec<Vec<u64>> = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..ROUNDS {
        let script = Script::default().say(GUEST);
        let mut command = script.command(kireji, fake_guest::program(kireji), dir);
        let started = Instant::now();
        let output = command
            .arg(image)
            .args(["--emulate", "edu", "--json", "--driver"])
            .arg(&driver)
            .output()
            .unwrap();
        whole.push(u64::try_from(started.elapsed().as_millis()).unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        rounds.push(times(&String::from_utf8_lossy(&output.stdout)));
    }
    println!("{ROUNDS} rounds on an image of 1.4 GB {what}; milliseconds: least, median, most");
    for (index, stage) in OWN.iter().enumerate() {
        print(stage, rounds.iter().map(|round| round[index]).collect());
    }
    let median = print("all", rounds.iter().map(|round| round.iter().sum()).collect());
    let verdict = if median <= GOAL { "kept" } else { "MISSED" };
    // From its start to its end, with the two seconds that a guest has to panic after it succeeded.
    print("program", whole);
    println!("goal: {GOAL} ms; median: {median} ms: {verdict}");
}

/// What an installation has, in numbers: the system with its kernel, and packages of some files each.
fn install_packages(kireji: &Path, dir: &Path, image: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data");
    let packages = dir.join("packages");
    std::fs::create_dir(&packages).unwrap();
    let noise = |length: u32| -> Vec<u8> {
        (0..length).map(|n| n.wrapping_mul(n ^ 0x9e37).to_le_bytes()[2]).collect()
    };
    let mut kernel = std::fs::read(data.join("kernel.so")).unwrap();
    kernel.extend(noise(4 << 20));
    let add_on = |n| file(&format!("add-ons/kernel/drivers/bin/driver{n}"), &noise(40_000));
    let system = (0..300).map(add_on).chain([file("kernel_x86_64", &kernel)]);
    let save = |name: &str, entries: &[NewEntry]| {
        let bytes = write(&about(name), entries, 0).unwrap();
        std::fs::write(packages.join(format!("{name}-1.0-1-x86_64.hpkg")), bytes).unwrap();
    };
    save("haiku", &system.collect::<Vec<_>>());
    for number in 1..PACKAGES {
        let part = |n| file(&format!("data/part{number}/file{n}"), &noise(10_000));
        save(&format!("part{number}"), &(0..40).map(part).collect::<Vec<_>>());
    }
    for words in [&["mkdir", "-p"][..], &["put", "-r"]] {
        let mut command = Command::new(kireji);
        command.arg("image").args(words).arg(image);
        match words[0] {
            "mkdir" => command.arg("system"),
            _ => command.arg(&packages).arg("system/packages"),
        };
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What each of kireji's stages took, by the run's own events.
fn times(events: &str) -> Vec<u64> {
    let line = events.lines().find(|line| line.contains("\"event\":\"times\"")).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let stages = event["stages"].as_array().unwrap();
    let took = |stage: &&str| {
        let found = stages.iter().find(|known| known[0] == **stage);
        found.and_then(|found| found[1].as_u64()).unwrap_or_default()
    };
    OWN.iter().map(took).collect()
}

fn print(name: &str, mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("  {name:8} {:5} {median:5} {:5}", times[0], times[times.len() - 1]);
    median
}
