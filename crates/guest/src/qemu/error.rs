//! Why there is no QEMU to be used.

use std::io;
use std::path::PathBuf;

use host::RunError;

/// QEMU is missing, or could not be asked what it can do.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// There is no QEMU for x86 in `PATH` or at the given path.
    #[error("cannot find {name}")]
    Missing {
        /// What was looked for.
        name: String,
    },
    /// The binary could not be run to its end.
    #[error("cannot ask {} what it can do", executable.display())]
    Run {
        /// The binary.
        executable: PathBuf,
        /// How it failed.
        #[source]
        source: RunError,
    },
    /// The binary ended with an error.
    #[error("{} cannot be used: {stderr}", executable.display())]
    Failed {
        /// The binary.
        executable: PathBuf,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// What the binary answered is not what QEMU answers.
    #[error("{} does not answer as QEMU does: {what}", executable.display())]
    Answer {
        /// The binary.
        executable: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file of capabilities cannot be used.
    #[error("cannot load QEMU's capabilities from {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}
