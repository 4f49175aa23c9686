//! What the driver loop costs outside the guest: check, install, QEMU's start and the verdict, on an
//! image of 1.4 GB, with a fake guest that takes no time itself.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use testkit::fake_guest::Script;

/// What all of it may take, in milliseconds (the guide's page on the driver loop says so too).
const GOAL: u64 = 200;
/// How often it is measured.
const ROUNDS: usize = 21;
/// The stages that are kireji's, not the guest's.
const OWN: [&str; 4] = ["check", "install", "QEMU", "verdict"];
const GUEST: &str = "Welcome to the Haiku boot loader!\r\nall well\r\n";

fn main() {
    // `cargo test --all-targets` starts it too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let kireji = Path::new(env!("CARGO_BIN_EXE_kireji"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--package", "kireji-testkit"])
        .args(["--bin", "fake-qemu"])
        .status()
        .unwrap();
    assert!(built.success());
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("haiku.image");
    let made = Command::new(kireji).args(["image", "mkfs", "--size", "1400M"]).arg(&image).output();
    assert!(made.unwrap().status.success());
    // What a BIOS takes for boot code.
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[0xeb, 0xfe], 0).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data/legacy.so");
    let mut rounds: Vec<Vec<u64>> = Vec::new();
    for _ in 0..ROUNDS {
        let script = Script::default().say(GUEST).await_places().shut_down();
        let mut command = script.command(kireji, &kireji.with_file_name("fake-qemu"), dir.path());
        let output = command
            .arg(&image)
            .args(["--emulate", "edu", "--json", "--driver"])
            .arg(&driver)
            .output()
            .unwrap();
        rounds.push(times(&String::from_utf8_lossy(&output.stdout)));
    }
    println!("{ROUNDS} rounds on an image of 1.4 GB; milliseconds: least, median, most");
    for (index, stage) in OWN.iter().enumerate() {
        print(stage, rounds.iter().map(|round| round[index]).collect());
    }
    let median = print("all", rounds.iter().map(|round| round.iter().sum()).collect());
    let verdict = if median <= GOAL { "kept" } else { "MISSED" };
    println!("goal: {GOAL} ms; median: {median} ms: {verdict}");
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
