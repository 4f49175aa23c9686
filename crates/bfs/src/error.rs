//! What can go wrong.

use std::fmt;
use std::io;

/// An operation on a volume failed. Nothing of it was done unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage cannot be read or written.
    #[error("cannot {action} {length} bytes at byte {offset} of the volume")]
    Io {
        /// `read`, `write` or `flush`.
        action: &'static str,
        /// Where, in bytes from the start of the volume.
        offset: u64,
        /// How many bytes.
        length: usize,
        /// What the storage said.
        #[source]
        source: io::Error,
    },
    /// There is no BFS super block.
    #[error("no BFS volume: {field} is {found}")]
    NotBfs {
        /// The field of the super block that is wrong.
        field: &'static str,
        /// What it holds.
        found: String,
    },
    /// The volume was made on a PowerPC.
    #[error("a big-endian BFS volume, as made on PowerPC; only little-endian ones are supported")]
    BigEndian,
    /// The storage is smaller than the volume.
    #[error("the volume has {volume} bytes, but only {storage} are there")]
    Truncated {
        /// Bytes that the super block describes.
        volume: u64,
        /// Bytes that there are.
        storage: u64,
    },
    /// The volume contradicts itself.
    #[error("the volume is damaged: {0}")]
    Damaged(Damage),
    /// The log holds transactions that were not carried out yet.
    #[error("the volume was not unmounted cleanly: its log has entries from {start} to {end}")]
    Unclean {
        /// `log_start` of the super block.
        start: u64,
        /// `log_end` of the super block.
        end: u64,
    },
    /// The volume was opened for reading only.
    #[error("the volume is open for reading only")]
    ReadOnly,
    /// An earlier write failed half way; the volume must be opened (and replayed) again.
    #[error("an earlier write failed; the volume must be opened again")]
    Failed,
    /// There is no such entry or attribute.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// There is such an entry already.
    #[error("`{0}` exists already")]
    Exists(String),
    /// An entry is not a directory.
    #[error("`{0}` is not a directory")]
    NotADirectory(String),
    /// An entry is a directory.
    #[error("`{0}` is a directory")]
    IsADirectory(String),
    /// A directory that was to be removed holds something.
    #[error("the directory `{0}` is not empty")]
    NotEmpty(String),
    /// An inode is not a symbolic link.
    #[error("inode {0} is not a symbolic link")]
    NotASymlink(u64),
    /// An inode has no bytes of its own to read or write.
    #[error("inode {0} is not a file")]
    NotAFile(u64),
    /// A directory would become its own descendant.
    #[error("`{0}` cannot be moved into itself")]
    IntoItself(String),
    /// A name that no entry or attribute can have.
    #[error("{0:?} is not a valid name: {1}")]
    InvalidName(String, &'static str),
    /// Too few blocks are free, or too few in one place.
    #[error("no space: {wanted} blocks wanted, {free} free")]
    NoSpace {
        /// Blocks that the operation needs; if these are fewer than are free, together.
        wanted: u64,
        /// Blocks that are free.
        free: u64,
    },
    /// A file would be larger than its form allows.
    #[error("a file cannot have {size} bytes here: {reason}")]
    TooLarge {
        /// The size in bytes.
        size: u64,
        /// Which limit it meets.
        reason: &'static str,
    },
    /// One operation changes more blocks than the log holds.
    #[error("the operation changes {blocks} blocks, the log holds {capacity}")]
    TransactionTooLarge {
        /// Blocks changed.
        blocks: usize,
        /// Blocks that fit into one transaction.
        capacity: usize,
    },
    /// The source of a file's content could not be read.
    #[error("cannot read the content to be written")]
    Source(#[source] io::Error),
    /// A volume cannot be made with these parameters.
    #[error("cannot make a volume: {0}")]
    Parameters(String),
}

/// The result of an operation on a volume.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One contradiction: where it is and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The inode (its block number) whose structure it is; `None` for the volume's own.
    pub inode: Option<u64>,
    /// The block that holds the field.
    pub block: u64,
    /// The field, by its name in Haiku's headers where it has one there.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(inode) = self.inode {
            write!(f, "inode {inode}, ")?;
        }
        write!(f, "block {}, {}: {}", self.block, self.field, self.problem)
    }
}

pub(crate) fn damaged(
    inode: impl Into<Option<u64>>,
    block: u64,
    field: &'static str,
    problem: impl Into<String>,
) -> Error {
    Error::Damaged(Damage { inode: inode.into(), block, field, problem: problem.into() })
}
