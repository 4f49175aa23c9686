//! What can be wrong, and how it is shown.

use std::io;
use std::path::PathBuf;

use host::journal::JournalError;
use host::{ReadError, RunError};

use super::STATE;
use crate::plan::{Contents, FileChange};

/// A plan was not carried out, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file of the host cannot be read.
    #[error("the host cannot be read")]
    Read(#[from] ReadError),
    /// Another process is at it.
    #[error("another process of kireji changes what this host boots with")]
    Locked,
    /// What a change that was cut off had started has not ended.
    #[error("a program still runs that was started for a change that was cut off: {command}")]
    Running {
        /// The command.
        command: String,
    },
    /// The journal cannot be written or read.
    #[error("the journal of changes fails")]
    Journal(#[from] JournalError),
    /// A change of the disk failed.
    #[error("cannot change {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A command could not be run.
    #[error("`{command}` was not run to its end")]
    Run {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: RunError,
    },
    /// A command failed.
    #[error("`{command}` failed ({status}): {said}")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// Somebody changed since what is to be changed.
    #[error("{} was changed by somebody else, in what is to change", .0.path.display())]
    Foreign(Box<Conflict>),
    /// What was a regular file is none.
    #[error("{} is no regular file any more", path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file is not what the plan is about any more.
    #[error("{} changed since the plan was made", path.display())]
    Stale {
        /// The file.
        path: PathBuf,
    },
    /// What is kept of a change is damaged.
    #[error("what is kept below {STATE} is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// Nothing was applied that could be taken back.
    #[error("nothing was applied that could be undone")]
    Nothing,
    /// Something failed, and what was done was not all taken back.
    #[error("the change failed, and was not taken back: {failure}")]
    NotTakenBack {
        /// What failed first.
        failure: Box<ApplyError>,
        /// Why it was not taken back.
        #[source]
        source: Box<ApplyError>,
    },
}

/// A file that kireji changes and somebody else has changed too, in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The file.
    pub path: PathBuf,
    /// As kireji left it; `None` where it was not there.
    pub left: Option<Contents>,
    /// As kireji would have it.
    pub wanted: Option<Contents>,
    /// As it is.
    pub now: Option<Contents>,
}

impl Conflict {
    /// What kireji would change in what it left.
    pub fn ours(&self) -> FileChange {
        self.to(&self.wanted)
    }

    /// What somebody else changed in it since.
    pub fn theirs(&self) -> FileChange {
        self.to(&self.now)
    }

    fn to(&self, after: &Option<Contents>) -> FileChange {
        FileChange { path: self.path.clone(), before: self.left.clone(), after: after.clone() }
    }
}
