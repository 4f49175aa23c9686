//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use host::Sysroot;

use crate::CommandError;
use crate::command;

/// Give a PCI card from Linux to a guest, and take it back
///
/// kireji finds out whether this host can give a card away, takes the card from its driver, starts
/// QEMU with it, and returns it: safely, undoably, and with a reason whenever it refuses.
#[derive(Debug, Parser)]
#[command(name = "kireji", version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// Look at a captured host in this directory instead of the running one
    #[arg(long, global = true, value_name = "DIRECTORY", help_heading = "Global options")]
    pub sysroot: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List every PCI function, who has it and what it belongs to
    List(command::list::Args),
    /// Show one card or function
    Show(command::show::Args),
    /// Reserve a card for vfio-pci from the next boot on
    Reserve(command::reserve::Args),
    /// Verify that what is reserved is so, now and at the next boot
    Verify(command::verify::Args),
    /// Revert what `reserve` did last
    Undo(command::undo::Args),
    /// Take a card from its driver and give it to vfio-pci
    #[command(visible_alias = "detach")]
    Take(command::take::Args),
    /// Give a card back to its former driver
    #[command(visible_alias = "reattach")]
    Return(command::give_back::Args),
    /// Show which cards are held, and by whom
    Status(command::status::Args),
    /// Restore the cards of processes that died
    Recover(command::recover::Args),
    /// Prove that a card can be driven through VFIO, without a guest
    Selftest(command::selftest::Args),
    /// Run a guest with the card
    Run(command::run::Args),
    /// List the runs
    Runs(command::runs::Args),
    /// Show the log of a run
    Log(command::runs::LogArgs),
    /// Explain a code
    Explain(command::explain::Args),
    /// Work in a virtual machine with an IOMMU and cards
    Lab(command::lab::Args),
    /// Say which of `take` and `return` is meant
    #[command(hide = true)]
    Bind(command::bind::Args),
    /// Say which of `take` and `return` is meant
    #[command(hide = true)]
    Unbind(command::bind::Args),
    /// Print the completions of a shell
    Completions(command::generate::CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(command::generate::ManArgs),
    /// What kireji starts of itself
    #[command(hide = true)]
    Internal(command::internal::Args),
}

impl Cli {
    /// Opens the host that the command is about.
    ///
    /// # Errors
    /// The directory given with `--sysroot` cannot be opened.
    pub fn sysroot(&self) -> Result<Sysroot, CommandError> {
        let opened = match &self.sysroot {
            Some(root) => Sysroot::at(root),
            None => Sysroot::host(),
        };
        opened.map_err(|error| {
            CommandError::from_source(crate::Exit::Usage, error)
                .hint("`--sysroot` takes a directory that holds `sys`, `proc` and `etc`")
        })
    }
}
