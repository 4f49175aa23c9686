//! What a run leaves behind: a directory that later commands, and bug reports, work on.
//!
//! | file | holds |
//! |---|---|
//! | `meta.json` | what ran, since when, and which process looked after it |
//! | `argv.json` | QEMU's command line |
//! | `qemu.log` | what QEMU wrote to standard error |
//! | `serial.log` | every byte of the serial line |
//! | `events.jsonl` | what happened, one event a line |
//! | `end.json` | how it ended; missing while it runs, and after a crash of the host |
//! | `ssh…` | how to get into the guest: [`crate::login`] |
//!
//! The directory is made durable before a guest starts, so that a guest that takes the host down
//! still leaves what was known of it.

mod name;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use host::{Owner, atomic};
use serde::{Deserialize, Serialize};

pub use name::timestamp;
pub use read::{Run, State, find, list, sweep};

use crate::launch::{User, as_user};

const META: &str = "meta.json";
const ARGV: &str = "argv.json";
const QEMU_LOG: &str = "qemu.log";
/// The file of a run's directory that holds the serial line.
pub const SERIAL_LOG: &str = "serial.log";
const EVENTS: &str = "events.jsonl";
const END: &str = "end.json";

/// A run's directory could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// `create`, `write`, `read` and so on.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// There is no run at all.
    #[error("there was no run yet: {} has none", base.display())]
    None {
        /// Where runs are kept.
        base: PathBuf,
    },
    /// There is no run of that name, or more than one that begins so.
    #[error("there is no run {id} in {}", base.display())]
    Unknown {
        /// The name.
        id: String,
        /// Where runs are kept.
        base: PathBuf,
    },
}

impl RunError {
    pub(crate) fn at(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// What ran, and who looked after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of this format: 1.
    pub schema: u32,
    /// When it began, as an RFC 3339 time in UTC.
    pub started: String,
    /// The process that looks after it.
    pub owner: Owner,
    /// What the user ran, the program's name first.
    pub command: Vec<String>,
    /// Name of the guest, such as `haiku`.
    pub guest: String,
    /// The image, if there was one.
    pub image: Option<PathBuf>,
    /// The cards and emulated devices, as the user named them.
    pub devices: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When, as an RFC 3339 time in UTC.
    pub ended: String,
    /// How, in a few words.
    pub outcome: String,
    /// What the command's exit code is.
    pub exit_code: u8,
}

/// The directory of a run that goes on.
#[derive(Debug)]
pub struct RunDirectory {
    id: String,
    path: PathBuf,
    owner: Option<User>,
    events: Mutex<File>,
}

impl RunDirectory {
    /// Creates the directory of a new run below `base`, which is created too. `owner` is the user
    /// whom the files belong to, where that is not the process's own.
    ///
    /// # Errors
    /// A directory or file cannot be created.
    pub fn create(
        base: &Path,
        now: SystemTime,
        meta: &Meta,
        owner: Option<&User>,
    ) -> Result<Self, RunError> {
        create_base(base, owner).map_err(RunError::at("create", base))?;
        let (id, path) = create_unique(base, now)?;
        let created = Self::fill(id, path.clone(), meta, owner);
        if created.is_err() {
            // Nothing of a run that never was; the error that matters is the one being returned.
            drop(std::fs::remove_dir_all(&path));
        }
        created
    }

    fn fill(
        id: String,
        path: PathBuf,
        meta: &Meta,
        owner: Option<&User>,
    ) -> Result<Self, RunError> {
        let events = path.join(EVENTS);
        let file = new_file(&events).map_err(RunError::at("create", &events))?;
        let run = Self { id, path, owner: owner.cloned(), events: Mutex::new(file) };
        for name in [QEMU_LOG, SERIAL_LOG] {
            let file = run.path.join(name);
            new_file(&file).map_err(RunError::at("create", &file))?;
        }
        run.write_new(META, meta)?;
        for name in [EVENTS, QEMU_LOG, SERIAL_LOG] {
            run.hand_over(&run.path.join(name))?;
        }
        run.hand_over(&run.path)?;
        Ok(run)
    }

    /// Its name, which sorts by time.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the serial line is kept.
    pub fn serial_log(&self) -> PathBuf {
        self.path.join(SERIAL_LOG)
    }

    /// Where QEMU's standard error is kept.
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join(QEMU_LOG)
    }

    /// Writes QEMU's command line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_arguments(&self, program: &Path, arguments: &[OsString]) -> Result<(), RunError> {
        let all =
            std::iter::once(program.as_os_str()).chain(arguments.iter().map(|a| a.as_os_str()));
        let text: Vec<_> = all.map(|argument| argument.to_string_lossy()).collect();
        self.write_new(ARGV, &text)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn event(&self, event: &impl Serialize) -> Result<(), RunError> {
        let path = self.path.join(EVENTS);
        let mut line = serde_json::to_vec(event)
            .map_err(|error| RunError::at("write", &path)(error.into()))?;
        line.push(b'\n');
        let mut file = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line).map_err(RunError::at("write", &path))
    }

    /// Makes everything durable; to be called before the guest starts.
    ///
    /// # Errors
    /// A file or directory cannot be synced.
    pub fn sync(&self) -> Result<(), RunError> {
        let names = std::fs::read_dir(&self.path).map_err(RunError::at("read", &self.path))?;
        for entry in names {
            let path = entry.map_err(RunError::at("read", &self.path))?.path();
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(RunError::at("sync", &path))?;
        }
        atomic::sync_dir(&self.path).map_err(RunError::at("sync", &self.path))?;
        let base = self.path.parent().unwrap_or(Path::new("/"));
        atomic::sync_dir(base).map_err(RunError::at("sync", base))
    }

    /// Records how the run ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(&self, end: &End) -> Result<(), RunError> {
        let path = self.path.join(END);
        let written = serde_json::to_vec_pretty(end)
            .map_err(io::Error::from)
            .and_then(|bytes| atomic::write(&path, &bytes, 0o600).map_err(|error| error.source));
        written.map_err(RunError::at("write", &path))?;
        self.hand_over(&path)
    }

    /// Writes a file for the owner alone, in the place of the one that may be there: who reads it
    /// meanwhile sees one of the two. Nothing is made durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        let (path, new) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        // What is there was left by somebody who was killed. Nothing that is there is written to, for
        // in a user's directory it may be a link.
        drop(std::fs::remove_file(&new));
        let written = new_file(&new).and_then(|mut file| file.write_all(bytes));
        written.map_err(RunError::at("write", &new))?;
        self.hand_over(&new)?;
        std::fs::rename(&new, &path).map_err(RunError::at("write", &path))
    }

    /// Gives a file in the directory, or the directory, to the user whom the run belongs to.
    ///
    /// # Errors
    /// Its owner cannot be changed.
    pub fn hand_over(&self, path: &Path) -> Result<(), RunError> {
        give(path, self.owner.as_ref()).map_err(RunError::at("hand over", path))
    }

    /// Writes a file that is not there yet. Nothing is made durable: that is done for all files
    /// together, by [`RunDirectory::sync`].
    fn write_new(&self, name: &str, value: &impl Serialize) -> Result<(), RunError> {
        let path = self.path.join(name);
        let written = serde_json::to_vec_pretty(value)
            .map_err(io::Error::from)
            .and_then(|bytes| new_file(&path)?.write_all(&bytes));
        written.map_err(RunError::at("write", &path))?;
        self.hand_over(&path)
    }
}

/// Gives a file to a user; without one it stays whose it is.
pub(crate) fn give(path: &Path, owner: Option<&User>) -> io::Result<()> {
    owner.map_or(Ok(()), |user| std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)))
}

/// Creates `base` and what is missing above it, each for its owner alone as the XDG base
/// directory specification asks. It is done with the owner's rights: where the owner may create
/// nothing, as above a home, nothing is.
fn create_base(base: &Path, owner: Option<&User>) -> io::Result<()> {
    if base.is_dir() {
        return Ok(());
    }
    as_user(owner, || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(base))?
}

fn create_unique(base: &Path, now: SystemTime) -> Result<(String, PathBuf), RunError> {
    let stem = name::stem(now);
    // Runs that start in the same millisecond are told apart by a number.
    for number in 0_u16.. {
        let id = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
        let path = base.join(&id);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok((id, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RunError::at("create", &path)(error)),
        }
    }
    Err(RunError::at("create", base)(io::ErrorKind::AlreadyExists.into()))
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}
