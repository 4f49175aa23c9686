//! The command line.

use std::io::BufReader;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use host::{ArchiveError, Sysroot};

use crate::{CommandError, Exit, command, help};

/// Give a PCI card from Linux to a guest, and take it back
///
/// kireji finds out whether this host can give a card away, takes the card from its driver, starts
/// QEMU with it, and returns it: safely, undoably, and with a reason whenever it refuses.
#[derive(Debug, Parser)]
#[command(name = "kireji", version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// Look at a captured host, a file of `kireji snapshot` or a directory, instead of the running
    /// one
    #[arg(long, global = true, value_name = "FILE|DIRECTORY", help_heading = "Global options")]
    pub sysroot: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether this host can give a card away, and if not, why
    Doctor(command::doctor::Args),
    /// List every PCI function, who has it and what it belongs to
    #[command(after_long_help = help::LIST)]
    List(command::list::Args),
    /// Show one card or function
    #[command(after_long_help = help::SHOW)]
    Show(command::show::Args),
    /// Reserve a card for vfio-pci from the next boot on
    Reserve(command::reserve::Args),
    /// Verify that what is reserved is so, now and at the next boot
    Verify(command::verify::Args),
    /// Give a reserved card back to its own driver from the next boot on
    Release(command::release::Args),
    /// Revert what `reserve` or `release` did last
    Undo(command::undo::Args),
    /// Take a card from its driver and give it to vfio-pci
    #[command(visible_alias = "detach", after_long_help = help::TAKE)]
    Take(command::take::Args),
    /// Give a card back to its former driver
    #[command(visible_alias = "reattach", after_long_help = help::RETURN)]
    Return(command::give_back::Args),
    /// Show which cards are held, and by whom
    Status(command::status::Args),
    /// Restore the cards of processes that died
    #[command(after_long_help = help::RECOVER)]
    Recover(command::recover::Args),
    /// Prove that a card can be driven through VFIO, without a guest
    #[command(after_long_help = help::SELFTEST)]
    Selftest(command::selftest::Args),
    /// Run a guest with the card
    #[command(after_long_help = help::RUN)]
    Run(Box<command::run::Args>),
    /// Trust what the project that this directory belongs to wants beyond a build and a guest
    Trust(command::trust::Args),
    /// List the runs
    Runs(command::runs::Args),
    /// Reset, interrupt or end the guest of a run
    Control(command::control::Args),
    /// Log in to the guest of a run, or run a command there
    #[command(after_long_help = help::SSH)]
    Ssh(command::ssh::Args),
    /// Copy files to the guest of a run, or from it
    #[command(after_long_help = help::CP)]
    Cp(command::cp::Args),
    /// Show the log of a run
    Log(command::runs::LogArgs),
    /// Tell what a log says of a panic, with functions, files and lines
    #[command(after_long_help = help::BACKTRACE)]
    Backtrace(command::backtrace::Args),
    /// Pack what a run left in one file, without what identifies its owner
    Report(command::report::Args),
    /// Capture what kireji reads of this host in one file, without what identifies its owner
    Snapshot(command::snapshot::Args),
    /// Look into a Haiku image, and change it without booting it
    Image(command::image::Args),
    /// Check a Haiku driver, and put it into an image
    Driver(command::driver::Args),
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
    /// What was given with `--sysroot` cannot be opened, or is no captured host.
    pub fn sysroot(&self) -> Result<Sysroot, CommandError> {
        const HINT: &str = "`--sysroot` takes a file that `kireji snapshot` wrote, or a directory \
                            that holds `sys`, `proc` and `etc`";
        let Some(root) = &self.sysroot else {
            return Sysroot::host().map_err(CommandError::from);
        };
        if root.is_file() {
            let unpacked = std::fs::File::open(root)
                .map_err(ArchiveError::from)
                .and_then(|file| Sysroot::unpack(BufReader::new(file)));
            return unpacked
                .map_err(|error| CommandError::from_source(Exit::Usage, error).hint(HINT));
        }
        Sysroot::at(root).map_err(|error| CommandError::from_source(Exit::Usage, error).hint(HINT))
    }
}
