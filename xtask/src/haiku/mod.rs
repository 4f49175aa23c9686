//! The driver loop on a real Haiku image: `cargo xtask test --haiku IMAGE` and `demo --haiku IMAGE`.
//!
//! The example drivers are built, put into an overlay of the image, and booted with QEMU's `edu`. What
//! rests on readings of Haiku's sources alone is known for good once this has passed. The tests run
//! the same cases with a guest that only speaks like Haiku, so that a failure is the image's.

mod cases;
#[cfg(test)]
mod played;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process;
use crate::report::Report;
use cases::{CASES, Case, Guilty, SETTINGS};

/// A guest may take so long in all, in seconds: a translated processor is slow.
const LIMIT: &str = "600";
/// A guest that hangs says nothing for so long, in seconds.
const IDLE: &str = "60";
/// The exit code of a guest that hung.
const HUNG: i32 = 22;

/// What every case needs.
struct Suite {
    kireji: PathBuf,
    /// Where the drivers are built.
    drivers: PathBuf,
    image: PathBuf,
    /// Where the runs are kept (`XDG_STATE_HOME`).
    state: PathBuf,
    /// Seconds of silence that mean a hang, where there is to be one.
    idle: &'static str,
}

/// Runs every case; one that fails does not keep the others from running.
pub fn test(report: &Report, image: &Path) -> Result<()> {
    let suite = open(report, image)?;
    let mut failed = Vec::new();
    for case in &CASES {
        let done = report.stage(case.name, || suite.run(case, suite.begin()).map(drop));
        if let Err(error) = done {
            report.note(&format!("{error:#}"));
            failed.push(case.name);
        }
    }
    let count = CASES.len();
    if failed.is_empty() {
        report.say(&format!("{count} runs of Haiku passed"));
        return Ok(());
    }
    report.say(&format!("the runs are in {}", suite.state.display()));
    bail!("{} of {count} runs of Haiku failed: {}", failed.len(), failed.join("; "))
}

/// Shows a driver on its card, then a panic with its source line.
pub fn demo(report: &Report, image: &Path) -> Result<()> {
    let suite = open(report, image)?;
    let panics = CASES.iter().find(|case| case.guilty.is_some());
    for case in CASES.iter().take(1).chain(panics) {
        let said = report.stage(case.name, || suite.run(case, suite.begin()))?;
        report.say(said.trim_end());
    }
    Ok(())
}

impl Suite {
    fn build(report: &Report, image: PathBuf, state: PathBuf) -> Result<Self> {
        let drivers = process::target().join("examples-edu");
        report.stage("building kireji and the example drivers", || {
            process::run(process::cargo().args(["build", "--package", "kireji", "--quiet"]))?;
            build_drivers(&drivers)?;
            // What earlier runs left is worth nothing now.
            match std::fs::remove_dir_all(&state) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        })?;
        Ok(Self {
            kireji: process::target().join("debug/kireji"),
            drivers,
            image,
            state,
            idle: IDLE,
        })
    }

    /// `kireji run`, to be given its arguments.
    fn begin(&self) -> Command {
        let mut command = Command::new(&self.kireji);
        command.arg("run").env("XDG_STATE_HOME", &self.state);
        command
    }

    /// Runs a case, and returns what kireji said.
    fn run(&self, case: &Case, mut command: Command) -> Result<String> {
        command
            .arg(&self.image)
            .args(["--emulate", case.card, "--display", "none", "--timeout", LIMIT])
            .args(case.driver.iter().flat_map(|driver| ["--driver", driver]))
            .args((case.code == HUNG).then_some(["--idle-timeout", self.idle]).iter().flatten())
            .args(case.arguments)
            .current_dir(&self.drivers);
        let output = command.output().context("cannot start kireji")?;
        let said = words(&output);
        if output.status.code() != Some(case.code) {
            bail!("{} rather than exit code {}\n{said}", output.status, case.code);
        }
        ensure!(said.contains(case.says), "it did not say `{}`\n{said}", case.says);
        if let (Some(guilty), Some(driver)) = (&case.guilty, case.driver) {
            self.trace(guilty, driver)?;
        }
        Ok(said)
    }

    /// Asks `kireji backtrace` of the last run, and compares what it finds with the source.
    fn trace(&self, guilty: &Guilty, driver: &str) -> Result<()> {
        let output = Command::new(&self.kireji)
            .args(["backtrace", "--json", "--driver", driver])
            .current_dir(&self.drivers)
            .env("XDG_STATE_HOME", &self.state)
            .output()
            .context("cannot start kireji")?;
        ensure!(output.status.success(), "`kireji backtrace` failed\n{}", words(&output));
        let document: Value = serde_json::from_slice(&output.stdout)?;
        let found = &document["panic"]["guilty"];
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        ensure!(text("symbol").ends_with(guilty.function), "the guilty frame is {found}");
        let source = std::fs::read_to_string(text("file"))
            .with_context(|| format!("the guilty frame is {found}"))?;
        let line = found["line"].as_u64().and_then(|line| usize::try_from(line).ok());
        let line = line.and_then(|line| source.lines().nth(line.checked_sub(1)?));
        ensure!(line.map(str::trim) == Some(guilty.line), "the guilty frame is {found}: {line:?}");
        Ok(())
    }
}

/// Builds everything for an image. The runs are kept, for whoever wants to look into one that failed.
fn open(report: &Report, image: &Path) -> Result<Suite> {
    ensure!(image.is_file(), "there is no image {}", image.display());
    Suite::build(report, std::path::absolute(image)?, process::target().join("haiku-runs"))
}

/// Builds the drivers and what else the cases put into the image.
fn build_drivers(directory: &Path) -> Result<()> {
    let examples = process::workspace().join("examples/edu");
    let out = format!("OUT={}", directory.display());
    let rejected = directory.join("edu_rejected");
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(examples).arg(out).arg("all").arg(rejected);
    process::run(&mut make)?;
    std::fs::write(directory.join("packages"), SETTINGS)?;
    Ok(())
}

/// All that a program said.
fn words(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}
