//! `cargo xtask ci`: what has to hold for every change.

use anyhow::Result;

use crate::ask::Consent;
use crate::process;
use crate::report::Report;
use crate::test::{self, Systems};

/// Checks form, lints, documentation and licences, then runs all tests.
pub fn ci(report: &Report, consent: Consent) -> Result<()> {
    let cargo = |words: &'static [&'static str]| move || process::run(process::cargo().args(words));
    report.stage("formatting", cargo(&["fmt", "--all", "--check"]))?;
    let clippy = cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "--deny=warnings",
    ]);
    report.stage("lints", clippy)?;
    let seeds =
        cargo(&["test", "--manifest-path=fuzz/Cargo.toml", "--target-dir=target", "--quiet"]);
    report.stage("fuzz targets on their seeds", seeds)?;
    report.stage("documentation", || {
        let mut cargo = process::cargo();
        cargo.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
        process::run(cargo.env("RUSTDOCFLAGS", "--deny=warnings"))
    })?;
    let has_deny = process::output(process::cargo().args(["deny", "--version"])).is_ok();
    if !has_deny {
        consent.ask("install cargo-deny with `cargo install`, to check licences")?;
        let install = cargo(&["install", "cargo-deny", "--locked", "--quiet"]);
        report.stage("installing cargo-deny", install)?;
    }
    let deny = cargo(&["deny", "--log-level=error", "check", "bans", "licenses", "sources"]);
    report.stage("licences and sources", deny)?;
    test::test(report, consent, Systems::One)
}
