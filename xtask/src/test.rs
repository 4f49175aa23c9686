//! `cargo xtask test`: every test, the lab's included.

use std::path::PathBuf;

use anyhow::Result;

use crate::ask::Consent;
use crate::report::Report;
use crate::{host_packages, process, provision, systems};

/// What these tests are not.
const SKIPPED: &str = "1 skipped: the driver loop on a real image of Haiku (`cargo xtask test --haiku \
                       IMAGE`)";
const SKIPPED_SYSTEMS: &str = "skipped: the reboots of all systems but one (`cargo xtask test --lab \
                               full`)";

/// The variable that names the file where tests that only root can run leave a line each.
const SKIPPED_FILE: &str = "KIREJI_TEST_SKIPPED";

/// What cargo is to test.
const ALL: &[&str] = &["--workspace"];
const REBOOTS: &[&str] = &["--package", "kireji", "--test", "reboots"];

/// How many systems are rebooted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Systems {
    /// The first, with every other test.
    One,
    /// All of them, and no other test.
    Full,
}

/// Installs and downloads what is missing, builds, and runs the tests.
pub fn test(report: &Report, consent: Consent, systems: Systems) -> Result<()> {
    let lab = prepare(report, consent)?;
    let (stacks, words) = match systems {
        Systems::One => (&systems::STACKS[..1], ALL),
        Systems::Full => (&systems::STACKS[..], REBOOTS),
    };
    systems::provide(report, consent, stacks)?;
    report.stage("building", || {
        process::run(process::cargo().arg("test").args(words).args(["--no-run", "--quiet"]))
    })?;
    let skipped = tempfile::NamedTempFile::new()?;
    report.stage("testing", || {
        let mut cargo = process::cargo();
        cargo.arg("test").args(words).arg("--no-fail-fast");
        if systems == Systems::Full {
            // Two at once, on processors that are emulated, are slower than one after the other.
            cargo.args(["--", "--include-ignored", "--test-threads=1", "--nocapture"]);
        }
        if let Some(lab) = lab {
            cargo.env(lab::tools::LAB_DIR_VARIABLE, lab);
        }
        cargo.env(SKIPPED_FILE, skipped.path());
        process::run(&mut cargo)
    })?;
    let roots = std::fs::read_to_string(skipped.path())?.lines().count();
    if roots > 0 {
        report.say(&format!("{roots} skipped: tests of what root alone can do"));
    }
    if systems == Systems::One {
        report.say(SKIPPED);
        report.say(SKIPPED_SYSTEMS);
    }
    Ok(())
}

/// Installs and downloads what the lab needs; returns the provisioned lab, where there is one.
pub fn prepare(report: &Report, consent: Consent) -> Result<Option<PathBuf>> {
    host_packages::install(consent)?;
    provision::provision(report, consent)
}

#[cfg(test)]
mod tests {
    #[test]
    fn skipped_tests_are_counted_where_they_say_so() {
        assert_eq!(super::SKIPPED_FILE, testkit::only_root::SKIPPED);
    }
}
