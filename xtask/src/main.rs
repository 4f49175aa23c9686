//! The project's own commands, run as `cargo xtask COMMAND`.

mod ask;
mod process;
mod provision;
mod report;

use std::io::Write;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::ask::Consent;
use crate::report::Report;

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
    /// Give the lab its QEMU, kernel and firmware, and print where they are
    Provision,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let consent = Consent::of(arguments.yes);
    let report = Report::new();
    match arguments.command {
        What::Provision => {
            if let Some(dir) = provision::provision(&report, consent)? {
                writeln!(std::io::stdout(), "{}", dir.display())?;
            }
            Ok(())
        }
    }
}
