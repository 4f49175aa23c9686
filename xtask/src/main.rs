//! The project's own commands, run as `cargo xtask COMMAND`.

mod ask;
mod ci;
mod demo;
mod dist;
mod haiku;
mod host_packages;
mod process;
mod provision;
mod report;
mod systems;
mod test;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::ask::Consent;
use crate::report::Report;
use crate::test::Systems;

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: What,
    /// Install and download without asking
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what kireji does: on this machine, then in the lab
    Demo {
        /// Rather show the driver loop, on this image of Haiku
        #[arg(long, value_name = "IMAGE")]
        haiku: Option<PathBuf>,
    },
    /// Run every test
    Test {
        /// Run the driver loop on this image of Haiku, and nothing else
        #[arg(long, value_name = "IMAGE")]
        haiku: Option<PathBuf>,
        /// How many systems the lab reboots
        #[arg(long, value_name = "HOW", default_value = "one", conflicts_with = "haiku")]
        lab: Systems,
    },
    /// Run every check, then every test
    Ci,
    /// Make the static program, a Debian package, completions and manual pages
    Dist,
    /// Give the lab its QEMU, kernel and firmware, and print where they are
    Provision {
        /// Make the disks of the systems too that the lab reboots
        #[arg(long)]
        systems: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Somebody who closed standard error does not want to be told.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let consent = Consent::of(arguments.yes);
    let report = Report::new();
    match &arguments.command {
        What::Demo { haiku: Some(image) } => haiku::demo(&report, image),
        What::Demo { haiku: None } => demo::demo(&report, consent),
        What::Test { haiku: Some(image), .. } => haiku::test(&report, image),
        What::Test { haiku: None, lab } => test::test(&report, consent, *lab),
        What::Ci => ci::ci(&report, consent),
        What::Dist => {
            writeln!(std::io::stdout(), "{}", dist::dist(&report)?.display())?;
            Ok(())
        }
        What::Provision { systems } => {
            if *systems {
                host_packages::install(consent)?;
                systems::provide(&report, consent, &systems::STACKS)?;
            }
            if let Some(dir) = provision::provision(&report, consent)? {
                writeln!(std::io::stdout(), "{}", dir.display())?;
            }
            Ok(())
        }
    }
}
