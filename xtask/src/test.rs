//! `cargo xtask test`: every test, the lab's included.

use std::path::PathBuf;

use anyhow::Result;

use crate::ask::Consent;
use crate::report::Report;
use crate::{host_packages, process, provision};

/// What these tests are not.
const SKIPPED: &str = "1 skipped: the driver loop on a real image of Haiku (`cargo xtask test --haiku \
                       IMAGE`)";

/// Installs and downloads what is missing, builds, and runs all tests.
pub fn test(report: &Report, consent: Consent) -> Result<()> {
    let lab = prepare(report, consent)?;
    report.stage("building", || {
        process::run(process::cargo().args(["test", "--workspace", "--no-run", "--quiet"]))
    })?;
    report.stage("testing", || {
        let mut cargo = process::cargo();
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        if let Some(lab) = lab {
            cargo.env(lab::tools::LAB_DIR_VARIABLE, lab);
        }
        process::run(&mut cargo)
    })?;
    report.say(SKIPPED);
    Ok(())
}

/// Installs and downloads what the lab needs; returns the provisioned lab, where there is one.
pub fn prepare(report: &Report, consent: Consent) -> Result<Option<PathBuf>> {
    host_packages::install(consent)?;
    provision::provision(report, consent)
}
