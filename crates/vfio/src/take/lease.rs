//! Who has which card, as files under `/run/kireji/leases`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::journal::{self, JournalError};
use host::{Owner, ReadError, Sysroot};
use pci::Address;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ledger::helper_lock;
use super::node::Node;
use super::turn::{self, Standing};
use super::{Binding, Recipient, Work};

const LEASES: &str = "/run/kireji/leases";
const LOCK: &str = "/run/kireji/lock";
const EXTENSION: &str = "journal";
/// Version of a lease's layout.
pub(super) const SCHEMA: u32 = 1;
/// How long another command's writes are waited for before the answer is *busy*.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a card was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To be kept until it is returned, beyond the end of the process.
    Hold,
    /// For as long as the process runs.
    Run,
}

/// What a lease's journal begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of this layout.
    pub schema: u32,
    /// The function that names the lease: the lowest.
    pub card: Address,
    /// What the functions were taken for.
    pub purpose: Purpose,
    /// The process that took them.
    pub owner: Owner,
    /// The user to whom the device nodes are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Recipient>,
    /// Each function with its binding before anything was written.
    pub before: Vec<(Address, Binding)>,
}

impl Lease {
    /// Whether the lease is about the function `address`.
    pub fn holds(&self, address: Address) -> bool {
        self.before.iter().any(|(held, _)| *held == address)
    }
}

/// A journalled step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// Setting a driver override; `None` clears it.
    Override(Address, Option<String>),
    /// Setting the ways in which the kernel may reset it.
    Resets(Address, String),
    /// Unbinding from a driver.
    Unbind(Address, String),
    /// Letting drivers probe.
    Probe(Address),
    /// Giving device nodes to a user; they are listed with who owned them before.
    HandOver(Vec<Node>),
    /// All functions are on vfio-pci.
    Taken,
    /// The named process has begun to give the functions back.
    Returning(Owner),
    /// The functions stay on vfio-pci, for this reason.
    Unwell(String),
    /// A write hangs in the kernel, in the process with this number.
    Hung(u32),
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// A living process is taking or returning the card, or running with it.
    Busy {
        /// Its number.
        pid: u32,
    },
    /// The card was taken to be kept.
    Held,
    /// The card stayed on vfio-pci when it was returned, because it was unwell.
    Unwell {
        /// What was wrong with it.
        reason: String,
    },
    /// The process that was at it is gone: `recover` restores the start.
    Abandoned,
    /// Likewise, but a helper of that process still makes its last write, which must end first.
    HelperAtWork {
        /// What it does, unless it has just begun.
        work: Option<Work>,
    },
    /// A write hangs in the kernel: only a reboot helps, unless it ends after all.
    Hung {
        /// The process that is stuck.
        pid: u32,
    },
}

/// A lease with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// How it stands.
    pub state: State,
    pub(super) path: PathBuf,
    /// The device nodes that were given to a user, as they were before.
    pub(super) nodes: Vec<Node>,
}

/// A file among the leases that cannot be used: damaged, foreign, or of another kireji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// The function whose lease it is by its name.
    pub card: Option<Address>,
    /// Why it cannot be used.
    pub reason: String,
}

impl Damaged {
    /// Whether it may be the lease of one of these functions. A lease is named for one function,
    /// and may be about all of that device.
    pub fn is_about(&self, functions: &[Address]) -> bool {
        let device = |address: Address| (address.domain(), address.bus(), address.device());
        let of = |card| functions.iter().any(|address| device(*address) == device(card));
        self.card.is_some_and(of)
    }
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.card {
            Some(card) => write!(f, "the lease of {card} cannot be used: {}", self.reason),
            None => write!(f, "{} is no lease: {}", self.path.display(), self.reason),
        }
    }
}

/// What lies among the leases.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) held: Vec<Held>,
    pub(super) damaged: Vec<Damaged>,
}

/// The leases could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another command is writing at this moment.
    #[error("another kireji is taking or returning a card at this moment")]
    Locked,
    /// The directory or the lock could not be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A lease's journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state of a process or device could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The leases of a host.
#[derive(Debug)]
pub(super) struct Leases<'a> {
    host: &'a Sysroot,
}

/// Held while a lease is made or changes hands; released when dropped, or with the process. While
/// bindings change, the lease itself keeps others away.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl<'a> Leases<'a> {
    pub(super) fn new(host: &'a Sysroot) -> Self {
        Self { host }
    }

    /// Waits a short time for the lock on all changes.
    pub(super) fn lock(&self) -> Result<Lock, LeaseError> {
        let path = self.host.locate(LOCK);
        let failed = |source| LeaseError::Io { path: path.clone(), source };
        std::fs::create_dir_all(self.host.locate(LEASES)).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(LeaseError::Locked),
                Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Waits a bounded time for the end of a helper whose process is gone.
    pub(super) fn wait_for_helper(
        &self,
        held: &Held,
        patience: Duration,
    ) -> Result<(), LeaseError> {
        standing(&held.path, patience).map(drop)
    }

    /// Where the journal of the lease that is named by this function is.
    pub(super) fn path(&self, address: Address) -> PathBuf {
        self.host.locate(LEASES).join(format!("{address}.{EXTENSION}"))
    }

    /// Returns how a lease that was just written stands.
    pub(super) fn held(&self, lease: Lease, nodes: Vec<Node>) -> Held {
        let path = self.path(lease.card);
        let state = match lease.purpose {
            Purpose::Hold => State::Held,
            Purpose::Run => State::Busy { pid: lease.owner.pid },
        };
        Held { lease, state, path, nodes }
    }

    /// Reads all leases, by address. One that cannot be used is in no other one's way.
    pub(super) fn read(&self) -> Result<Found, LeaseError> {
        let mut found = Found::default();
        for name in self.host.optional_names(LEASES)? {
            let path = self.host.locate(LEASES).join(&name);
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            match self.one(&path) {
                Ok(held) => found.held.extend(held),
                // Whether processes live is a matter of the host, not of this lease.
                Err(Unusable::Host(error)) => return Err(error.into()),
                Err(Unusable::Lease(reason)) => {
                    let card = path.file_stem().and_then(|stem| stem.to_str());
                    let card = card.and_then(Address::of_sysfs);
                    found.damaged.push(Damaged { path, card, reason });
                }
            }
        }
        Ok(found)
    }

    fn one(&self, path: &Path) -> Result<Option<Held>, Unusable> {
        let record = match journal::read::<Lease, Step>(path) {
            Ok(record) => record,
            // It went while we looked, or its writer died before it had promised anything.
            Err(JournalError::Empty { .. }) => return Ok(None),
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => {
                // Another layout is told as such, if its beginning still says so.
                let layout = journal::read::<Layout, IgnoredAny>(path);
                return Err(match layout {
                    Ok(record) if record.header.schema != SCHEMA => {
                        Unusable::layout(record.header.schema)
                    }
                    _ => Unusable::lease(&error),
                });
            }
        };
        if record.header.schema != SCHEMA {
            return Err(Unusable::layout(record.header.schema));
        }
        let card = record.header.card;
        if self.path(card) != path {
            return Err(Unusable::Lease(format!("it says that it is the one of {card}")));
        }
        let mut owner = &record.header.owner;
        let mut resting = None;
        let mut hung = None;
        let mut nodes: Vec<Node> = Vec::new();
        for entry in &record.entries {
            match &entry.step {
                Step::Taken if record.header.purpose == Purpose::Run => {}
                Step::Taken => resting = Some(State::Held),
                Step::Unwell(reason) => resting = Some(State::Unwell { reason: reason.clone() }),
                Step::Returning(by) => (owner, resting) = (by, None),
                Step::Hung(pid) => hung = Some(*pid),
                Step::HandOver(given) => {
                    // Given twice, a node goes back to its first owner.
                    let new = given.iter().filter(|one| nodes.iter().all(|n| n.path != one.path));
                    let new: Vec<_> = new.cloned().collect();
                    nodes.extend(new);
                }
                Step::Override(..) | Step::Resets(..) | Step::Unbind(..) | Step::Probe(_) => {}
            }
        }
        // A write that hung may have ended after all, and its helper with it.
        let hung = match hung {
            Some(_) if standing(path, Duration::ZERO)? == Standing::Free => None,
            hung => hung,
        };
        let state = match (hung, resting) {
            (Some(pid), _) => State::Hung { pid },
            (None, Some(state)) => state,
            (None, None) if owner.is_gone(self.host).map_err(Unusable::Host)? => {
                match standing(path, Duration::ZERO)? {
                    Standing::AtWork(work) => State::HelperAtWork { work },
                    Standing::Free | Standing::Unknown => State::Abandoned,
                }
            }
            (None, None) => State::Busy { pid: owner.pid },
        };
        Ok(Some(Held { lease: record.header, state, path: path.to_owned(), nodes }))
    }
}

/// Why a lease cannot be used.
enum Unusable {
    /// What it is compared with cannot be read.
    Host(ReadError),
    /// It cannot itself.
    Lease(String),
}

impl Unusable {
    fn lease(error: &dyn std::error::Error) -> Self {
        Self::Lease(match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }

    fn layout(found: u32) -> Self {
        Self::Lease(format!("its layout has version {found}, and this kireji knows {SCHEMA}"))
    }
}

impl From<LeaseError> for Unusable {
    fn from(error: LeaseError) -> Self {
        Self::lease(&error)
    }
}

/// What a lease of any layout begins with.
#[derive(Deserialize)]
struct Layout {
    schema: u32,
}

fn standing(journal: &Path, patience: Duration) -> Result<Standing, LeaseError> {
    let lock = helper_lock(journal);
    turn::look(&lock, patience).map_err(|source| LeaseError::Io { path: lock, source })
}
