//! What differs from one guest to another: what a machine for it is like, what starts in it, and
//! what a run of it means.
//!
//! A [`Guest`] makes the files that its machine starts from and says what it wants of the machine.
//! While it runs, its [`Observer`] turns bytes of the serial line into [`Sign`]s, one after the
//! other; at the end it judges by them and by how the run ended. An observer is a pure function of
//! the bytes it was fed, in whatever pieces they came, so a stored log gives the same verdict.

mod haiku;
mod linux;
mod observer;
mod verdict;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::haiku::{
    Driver, Goal, Haiku, MEMORY_MIB as HAIKU_MEMORY_MIB, Pattern, PatternError, Storage,
};
pub use self::linux::Linux;
pub use self::observer::{Action, Fact, Observer, Sign, Wish};
pub use self::verdict::{Finding, Verdict};

use crate::machine::Boot;
use crate::overlay::OverlayError;

/// A kind of guest, ready to be started.
pub trait Guest: fmt::Debug {
    /// Returns its name.
    fn name(&self) -> &'static str;

    /// Returns what it wants of a machine where the user says nothing.
    fn wants(&self) -> Wants;

    /// Returns what starts in the machine. The files in `directory`, the run's own, are there once
    /// [`Guest::prepare`] has made them.
    fn boot(&self, directory: &Path) -> Boot;

    /// Finds out what would keep [`Guest::prepare`] from its work, and changes nothing.
    ///
    /// # Errors
    /// The image cannot be used, or what was kept does not belong to it.
    fn check(&self) -> Result<(), PrepareError> {
        Ok(())
    }

    /// Makes the files that it starts from, and returns those that were made.
    ///
    /// # Errors
    /// A file cannot be made, or the image not be used.
    fn prepare(&self, directory: &Path) -> Result<Vec<PathBuf>, PrepareError>;

    /// Returns the files in `directory` that nobody wants once the run has ended.
    fn leftovers(&self, directory: &Path) -> Vec<PathBuf>;

    /// Returns what follows one run of it.
    fn observer(&self) -> Box<dyn Observer>;
}

/// Files in a run's directory that nobody wants once the run has ended, of whatever guest: what
/// [`Guest::leftovers`] returns.
pub const LEFTOVERS: [&str; 4] =
    [haiku::OVERLAY, crate::login::KEY, crate::linux::boot::KERNEL, crate::linux::boot::INITRAMFS];

/// What a guest wants of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u16,
    /// Whether its clock had better count instructions where its processor is translated.
    pub counted_clock: bool,
    /// Whether it may reboot; otherwise a reboot ends the run.
    pub may_reboot: bool,
    /// Whether somebody looks at its screen.
    pub screen: bool,
    /// Whether somebody reads its serial line, which is kept in any case.
    pub serial: bool,
    /// Whether it has a use for a network that is not one of the cards'.
    pub network: bool,
    /// The port that its ssh server listens on, if it has one.
    pub ssh: Option<u16>,
    /// How long it may take to shut down once its power button was pressed; `None` where it does
    /// not answer to that, or has nothing to lose.
    pub power_down: Option<Duration>,
}

/// The files that a guest starts from could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The image cannot be used.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] host::atomic::WriteError),
}
