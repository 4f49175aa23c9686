//! `cargo xtask demo`: the main job, as a newcomer wants to see it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::ask::Consent;
use crate::report::Report;
use crate::{process, test};

/// What is done in the rig, by busybox's shell there.
const SCRIPT: &str = include_str!("demo.sh");

/// What to do with a card of one's own.
const NEXT: &str = "
With a card of your own:

  kireji doctor                                  # whether this machine can give one away, and which
  sudo kireji selftest 29:00 --take              # whether one can be given away, in a second
  sudo kireji run haiku.iso --device 29:00       # Haiku with the card
";

/// Builds kireji, looks at this machine, then does the main job in a rig.
pub fn demo(report: &Report, consent: Consent) -> Result<()> {
    let kireji = report.stage("building", build)?;
    report
        .stage("the cards of this machine", || process::run(Command::new(&kireji).arg("list")))?;
    let lab = test::prepare(report, consent)?;
    report
        .stage("the main job, in a rig with an Intel IOMMU", || in_rig(&kireji, lab.as_deref()))?;
    report.say(NEXT);
    Ok(())
}

fn build() -> Result<PathBuf> {
    process::run(process::cargo().args(["build", "--package", "kireji", "--quiet"]))?;
    Ok(process::target().join("debug/kireji"))
}

fn in_rig(kireji: &Path, lab: Option<&Path>) -> Result<()> {
    let mut command = Command::new(kireji);
    command.args(["lab", "run", "intel", "--times", "--", "/bin/sh", "-ec", SCRIPT]);
    if let Some(lab) = lab {
        command.env(lab::tools::LAB_DIR_VARIABLE, lab);
    }
    process::run(&mut command)
}
