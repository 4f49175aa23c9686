//! How long it takes from `kireji run` to QEMU's exec, beside what QEMU itself and the start of any
//! program take on the same machine at the same time.
//!
//! Times are taken from outside, so that the start of the program itself is in them: from its
//! spawning to the event that it prints when its launcher becomes QEMU. The run has an emulated
//! card, so no time of taking a real one is in it.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::image::{self, Then};

/// What kireji may take (the guide's page on running says so too).
const GOAL: Duration = Duration::from_millis(50);
/// How often each is measured, one after the other, so that all meet the same load.
const ROUNDS: usize = 21;

fn main() {
    // `cargo test --all-targets` starts it too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("guest.image");
    image::write(&image, "up\n", Then::PowerOff);
    let qemu = std::env::var_os("KIREJI_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());

    let first = kireji(dir.path(), &image);
    let mut own = Times::default();
    let mut bare = Times::default();
    let mut program = Times::default();
    for _ in 0..ROUNDS {
        own.0.push(kireji(dir.path(), &image));
        bare.0.push(until_line(
            Command::new(&qemu).args(["-S", "-nodefaults", "-display", "none", "-qmp", "stdio"]),
            "\"QMP\"",
        ));
        let started = Instant::now();
        assert!(Command::new("true").status().unwrap().success());
        program.0.push(started.elapsed());
    }
    println!("{ROUNDS} rounds; milliseconds: least, median, most");
    own.print("kireji run, to QEMU's exec");
    bare.print("bare QEMU, to its greeting");
    program.print("the program `true`, to its end");
    println!("  the first run of all, which asks QEMU what it can do: {:.1}", ms(first));
    let median = own.median();
    println!("kireji takes {:.2} times what a bare QEMU takes to greet, and", own.over(&bare));
    println!("{:.1} times what the program `true` takes.", own.over(&program));
    let verdict = if median <= GOAL { "kept" } else { "MISSED" };
    println!("goal: {} ms; median: {:.1} ms: {verdict}", GOAL.as_millis(), ms(median));
}

/// The time until the launcher becomes QEMU. The run is then left to its end.
fn kireji(state: &Path, image: &Path) -> Duration {
    until_line(
        Command::new(env!("CARGO_BIN_EXE_kireji"))
            .arg("run")
            .arg(image)
            .args(["--json", "--emulate", "edu", "--memory", "64", "--display", "none"])
            .env("XDG_STATE_HOME", state)
            .env("XDG_CACHE_HOME", state.join("cache")),
        "\"stage\":\"executed\"",
    )
}

/// The time until a program prints a line that holds `text`. It is killed then if it goes on.
fn until_line(command: &mut Command, text: &str) -> Duration {
    let started = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).find(|line| line.contains(text));
    let took = started.elapsed();
    assert!(found.is_some(), "{command:?} never printed {text}");
    // A run of kireji ends by itself, and is to leave nothing behind.
    if command.get_program() == env!("CARGO_BIN_EXE_kireji") {
        let _ = lines.count();
    } else {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    took
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[sorted.len() / 2]
    }

    fn over(&self, other: &Self) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }

    fn print(&self, what: &str) {
        let (least, most) = (self.0.iter().min().unwrap(), self.0.iter().max().unwrap());
        println!("  {what:<32} {:6.1} {:6.1} {:6.1}", ms(*least), ms(self.median()), ms(*most));
    }
}

fn ms(duration: Duration) -> f64 {
    1000.0 * duration.as_secs_f64()
}
