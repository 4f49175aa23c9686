//! The driver loop on a real Haiku image: `cargo xtask test --haiku IMAGE` and `demo --haiku IMAGE`.
//!
//! The example drivers are built, put into an overlay of the image, and booted with QEMU's `edu`. What
//! rests on readings of Haiku's sources alone is known for good once this has passed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::report::Report;

/// A guest may take so long in all, in seconds: a translated processor is slow.
const LIMIT: &str = "600";

/// One run.
struct Case {
    name: &'static str,
    driver: &'static str,
    arguments: &'static [&'static str],
    code: i32,
    /// What it must say.
    says: &'static str,
}

const CASES: [Case; 9] = [
    Case {
        name: "the legacy driver takes the card",
        driver: "edu_legacy",
        arguments: &[],
        code: 0,
        says: "Passed: edu_legacy was loaded",
    },
    Case {
        name: "the new driver takes the card",
        driver: "edu_driver",
        arguments: &["--test", "ls /dev/misc"],
        code: 0,
        says: "Passed: edu_driver was loaded",
    },
    Case {
        name: "a test that succeeds comes back with its output",
        driver: "edu_legacy",
        arguments: &["--test", "cat /dev/misc/edu_legacy"],
        code: 0,
        says: "3628800",
    },
    Case {
        name: "a test that fails is told",
        driver: "edu_legacy",
        arguments: &["--test", "echo no; exit 3"],
        code: 20,
        says: "failed with exit code 3",
    },
    Case {
        name: "a line that never comes proves nothing",
        driver: "edu_legacy",
        arguments: &["--until", "never said", "--test", "shutdown"],
        code: 28,
        says: "no line matches",
    },
    Case {
        name: "a null dereference has its source line",
        driver: "edu_legacy",
        arguments: &["--test", "echo null > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy.c:",
    },
    Case {
        name: "a failed assertion has its source line",
        driver: "edu_legacy",
        arguments: &["--test", "echo assert > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy.c:",
    },
    Case {
        name: "a deadlock is told",
        driver: "edu_legacy",
        arguments: &["--test", "echo deadlock > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy",
    },
    Case {
        name: "the log of a boot is copied out",
        driver: "edu_legacy",
        arguments: &["--get", "/boot/system/var/log/syslog"],
        code: 0,
        says: "/boot/system/var/log/syslog ->",
    },
];

/// Runs every case; one that fails does not keep the others from running.
pub fn test(report: &Report, image: &Path) -> Result<()> {
    let (kireji, drivers) = build(report)?;
    let mut failed = Vec::new();
    for case in &CASES {
        let done = report.stage(case.name, || run(&kireji, &drivers, image, case).map(drop));
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
    bail!("{} of {count} runs of Haiku failed: {}", failed.len(), failed.join("; "))
}

/// Shows a driver on its card, then a panic with its source line.
pub fn demo(report: &Report, image: &Path) -> Result<()> {
    let (kireji, drivers) = build(report)?;
    for case in [&CASES[0], &CASES[5]] {
        let said = report.stage(case.name, || run(&kireji, &drivers, image, case))?;
        report.say(said.trim_end());
    }
    Ok(())
}

fn build(report: &Report) -> Result<(PathBuf, PathBuf)> {
    let drivers = process::target().join("examples-edu");
    report.stage("building kireji and the example drivers", || {
        process::run(process::cargo().args(["build", "--package", "kireji", "--quiet"]))?;
        let out = format!("OUT={}", drivers.display());
        let examples = process::workspace().join("examples/edu");
        process::run(Command::new("make").arg("--silent").arg("-C").arg(examples).arg(out))
    })?;
    Ok((process::target().join("debug/kireji"), drivers))
}

/// Runs a case, and returns what kireji said.
fn run(kireji: &Path, drivers: &Path, image: &Path, case: &Case) -> Result<String> {
    let output = Command::new(kireji)
        .arg("run")
        .arg(image)
        .args(["--emulate", "edu", "--display", "none", "--quiet", "--timeout", LIMIT])
        .arg("--driver")
        .arg(drivers.join(case.driver))
        .args(case.arguments)
        .output()
        .context("cannot start kireji")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.code() != Some(case.code) {
        bail!("{} rather than exit code {}\n{said}", output.status, case.code);
    }
    if !said.contains(case.says) {
        bail!("it did not say `{}`\n{said}", case.says);
    }
    Ok(said)
}
