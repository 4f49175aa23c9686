//! Plans carried out, and taken back.
//!
//! Before anything of the host changes, what each file was and will be is kept in a directory of
//! its own below `/var/lib/kireji`. A journal then says that it is being carried out or taken back.
//! Taking back compares each file with what it was and will be, so it can be cut off anywhere and
//! begun again; a plan that was cut off is taken back by the next command that may write.

mod disk;
mod record;

#[cfg(test)]
mod tests;

pub use disk::{Access, Disk, SystemDisk};
pub use record::{FileRecord, Record};

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::journal::{self, JournalError};
use host::{Journal, NodeKind, ReadError, RunError, Runner, Sysroot};
use serde::{Deserialize, Serialize};

use crate::plan::{Command, Plan};

/// Where what was applied is kept, with what to take it back.
const STATE: &str = "/var/lib/kireji";
/// What is going on.
const JOURNAL: &str = "/var/lib/kireji/journal";
/// A record that is being made, or that goes.
const UNFINISHED: &str = "/var/lib/kireji/unfinished";
/// Held while something goes on.
const LOCK: &str = "/var/lib/kireji/lock";

/// How often the lock is tried, and how long is waited between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A plan was not carried out, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file of the host cannot be read.
    #[error("the host cannot be read")]
    Read(#[from] ReadError),
    /// Another process is at it.
    #[error("another process of kireji changes what this host boots with")]
    Locked,
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
    /// A file is neither what it was nor what it was made: somebody changed it since.
    #[error("{} was changed by somebody else", path.display())]
    Foreign {
        /// The file.
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

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The number of the record.
    number: u32,
    /// Whether it was carried out, all of its commands included, and is being taken back.
    is_undo: bool,
}

/// What is done beside files, since files tell of themselves.
#[derive(Debug, Serialize, Deserialize)]
enum Step {
    /// The file of this index is changed.
    File(usize),
    /// The command of this index runs.
    Command(usize),
}

/// Carries plans out and takes them back.
#[derive(Debug)]
pub struct Applier<'a> {
    host: &'a Sysroot,
    disk: &'a dyn Disk,
    runner: &'a dyn Runner,
}

impl<'a> Applier<'a> {
    /// Returns what changes `host`.
    pub fn new(host: &'a Sysroot, disk: &'a dyn Disk, runner: &'a dyn Runner) -> Self {
        Self { host, disk, runner }
    }

    /// Carries a plan out. Where something fails, all of it is taken back.
    ///
    /// # Errors
    /// It was not carried out; the host is as before, unless the error says otherwise.
    pub fn apply(&self, plan: &Plan) -> Result<(), ApplyError> {
        let _lock = self.lock()?;
        self.finish_pending()?;
        let record = self.keep(plan)?;
        let path = self.host.locate(JOURNAL);
        let header = Header { number: record.number, is_undo: false };
        let mut journal = Journal::create(&path, &header)?;
        // The record gets its name behind the journal: one without the other was carried out.
        let outcome = self.place(&record).and_then(|()| self.carry_out(&record, &mut journal));
        if let Err(failure) = outcome {
            if !self.host.exists(record.directory()) {
                journal.remove()?;
                return Err(failure);
            }
            return match self.take_back(&record, journal) {
                Ok(()) => Err(failure),
                Err(error) => Err(ApplyError::NotTakenBack {
                    failure: Box::new(failure),
                    source: Box::new(error),
                }),
            };
        }
        journal.remove()?;
        Ok(())
    }

    /// Takes the last plan back that was carried out.
    ///
    /// # Errors
    /// There is none, a file was changed by somebody else since, or something failed; what was
    /// begun is finished by the next command that may write.
    pub fn undo(&self) -> Result<Record, ApplyError> {
        let _lock = self.lock()?;
        self.finish_pending()?;
        let record = self.records()?.pop().ok_or(ApplyError::Nothing)?;
        self.check(&record)?;
        let header = Header { number: record.number, is_undo: true };
        let journal = Journal::create(&self.host.locate(JOURNAL), &header)?;
        self.take_back(&record, journal)?;
        Ok(record)
    }

    /// Takes back what was cut off; returns whether there was something.
    ///
    /// # Errors
    /// It cannot be taken back.
    pub fn recover(&self) -> Result<bool, ApplyError> {
        if !self.host.exists(STATE) {
            return Ok(false);
        }
        let _lock = self.lock()?;
        self.finish_pending()
    }

    /// Whether something was cut off, and waits to be taken back.
    pub fn is_pending(&self) -> bool {
        self.host.exists(JOURNAL)
    }

    /// What was applied and can be taken back, the last at the end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn records(&self) -> Result<Vec<Record>, ApplyError> {
        let mut records = Vec::new();
        for name in self.host.optional_names(STATE)? {
            if let Ok(number) = name.parse() {
                records.push(Record::read(self.host, number)?);
            }
        }
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    fn lock(&self) -> Result<File, ApplyError> {
        let path = self.host.locate(LOCK);
        let failed = |source| ApplyError::Disk { path: PathBuf::from(LOCK), source };
        self.make_directories(Path::new(STATE), 0o700)?;
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        // A program that this process has just started has the lock too, until it is itself.
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(ApplyError::Locked)
    }

    /// Makes a directory and those above it; returns which were made, the topmost first.
    fn make_directories(&self, directory: &Path, mode: u32) -> Result<(), ApplyError> {
        let missing: Vec<_> =
            directory.ancestors().take_while(|above| !self.host.exists(above)).collect();
        for path in missing.into_iter().rev() {
            self.on_disk(path, |disk, located| disk.make_directory(located, mode))?;
        }
        Ok(())
    }

    fn on_disk(
        &self,
        path: &Path,
        act: impl FnOnce(&dyn Disk, &Path) -> io::Result<()>,
    ) -> Result<(), ApplyError> {
        act(self.disk, &self.host.locate(path))
            .map_err(|source| ApplyError::Disk { path: path.to_owned(), source })
    }

    /// Writes a file in place of another one, so that a crash leaves either.
    fn replace(&self, path: &Path, bytes: &[u8], access: Access) -> Result<(), ApplyError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let temporary = temporary(path);
        let to = self.host.locate(path);
        self.on_disk(&temporary, |disk, located| disk.write(located, bytes, access, &to))?;
        self.on_disk(&temporary, |disk, located| disk.rename(located, &to))?;
        self.on_disk(directory, |disk, located| disk.sync(located))
    }

    /// Removes those of these directories that are empty, the deepest first.
    fn remove_directories(&self, directories: &[PathBuf]) -> Result<(), ApplyError> {
        for directory in directories {
            if self.host.names(directory).is_ok_and(|names| names.is_empty()) {
                self.on_disk(directory, |disk, located| disk.remove_directory(located))?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), ApplyError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        self.on_disk(path, |disk, located| disk.remove(located))?;
        self.on_disk(directory, |disk, located| disk.sync(located))
    }

    /// Keeps what the files of a plan are and will be, without a name yet.
    fn keep(&self, plan: &Plan) -> Result<Record, ApplyError> {
        let number = self.records()?.last().map_or(1, |last| last.number + 1);
        let record = Record::of(self.host, plan, number)?;
        let unfinished = PathBuf::from(UNFINISHED);
        // What a crash left before it had a name.
        for name in self.host.optional_names(&unfinished)? {
            self.remove(&unfinished.join(name))?;
        }
        self.make_directories(&unfinished, 0o700)?;
        for (name, bytes) in record.kept()? {
            let access = Access { mode: 0o600, owner: None };
            let path = unfinished.join(name);
            self.on_disk(&path, |disk, located| disk.write(located, &bytes, access, located))?;
        }
        self.on_disk(&unfinished, |disk, located| disk.sync(located))?;
        Ok(record)
    }

    /// Gives a record that is whole its name.
    fn place(&self, record: &Record) -> Result<(), ApplyError> {
        let to = self.host.locate(record.directory());
        let from = Path::new(UNFINISHED);
        self.on_disk(from, |disk, located| disk.rename(located, &to))?;
        self.on_disk(Path::new(STATE), |disk, located| disk.sync(located))
    }

    fn carry_out(&self, record: &Record, journal: &mut Journal) -> Result<(), ApplyError> {
        for (index, file) in record.files.iter().enumerate() {
            let intent = journal.intent(&Step::File(index))?;
            match &file.after {
                Some((bytes, access)) => {
                    let directory = file.path.parent().unwrap_or(Path::new("/"));
                    self.make_directories(directory, 0o755)?;
                    self.replace(&file.path, bytes, *access)?;
                }
                None => {
                    self.remove(&file.path)?;
                    self.remove_directories(&file.emptied)?;
                }
            }
            journal.done(intent)?;
        }
        self.run(record.commands.iter().cloned().enumerate(), journal)
    }

    fn run(
        &self,
        commands: impl Iterator<Item = (usize, Command)>,
        journal: &mut Journal,
    ) -> Result<(), ApplyError> {
        for (index, command) in commands {
            let intent = journal.intent(&Step::Command(index))?;
            let run = |source| ApplyError::Run { command: command.to_string(), source };
            let done = self.runner.run(&command.program()).map_err(run)?;
            if !done.status.success() {
                let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                let start = said.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
                return Err(ApplyError::Command {
                    command: command.to_string(),
                    status: done.status,
                    said: said[start..].to_owned(),
                });
            }
            journal.done(intent)?;
        }
        Ok(())
    }

    fn finish_pending(&self) -> Result<bool, ApplyError> {
        if !self.is_pending() {
            return Ok(false);
        }
        let path = self.host.locate(JOURNAL);
        let read = journal::read::<Header, Step>(&path)?;
        // Without its record, a journal is of something that was taken back to its end.
        let directory = Record::directory_of(read.header.number);
        if !self.host.exists(&directory) {
            journal::remove(&path)?;
            return Ok(true);
        }
        let record = Record::read(self.host, read.header.number)?;
        self.take_back(&record, Journal::reopen(&path)?)?;
        Ok(true)
    }

    /// Sees that no file was changed by somebody else, before any is touched.
    fn check(&self, record: &Record) -> Result<(), ApplyError> {
        for file in &record.files {
            file.is_before(self.host)?;
        }
        Ok(())
    }

    /// Takes a plan back that was carried out in part or all: the files, what was built from them,
    /// and at last the record itself.
    fn take_back(&self, record: &Record, mut journal: Journal) -> Result<(), ApplyError> {
        self.check(record)?;
        for file in record.files.iter().rev() {
            let temporary = temporary(&file.path);
            if self.host.exists(&temporary) {
                self.remove(&temporary)?;
            }
            if !file.is_before(self.host)? {
                match &file.before {
                    Some((bytes, access)) => {
                        let directory = file.path.parent().unwrap_or(Path::new("/"));
                        self.make_directories(directory, 0o755)?;
                        self.replace(&file.path, bytes, *access)?;
                    }
                    None => self.remove(&file.path)?,
                }
            }
            self.remove_directories(&file.directories)?;
        }
        let begun = begun(&self.host.locate(JOURNAL), record)?;
        let commands = record.commands.iter().map(Command::to_take_back).enumerate();
        self.run(commands.filter(|(index, _)| begun.contains(index)), &mut journal)?;
        let directory = record.directory();
        let gone = PathBuf::from(UNFINISHED);
        let to = self.host.locate(&gone);
        self.on_disk(&directory, |disk, located| disk.rename(located, &to))?;
        self.on_disk(Path::new(STATE), |disk, located| disk.sync(located))?;
        journal.remove()?;
        for name in self.host.optional_names(&gone)? {
            self.remove(&gone.join(name))?;
        }
        self.on_disk(&gone, |disk, located| disk.remove_directory(located))
    }
}

/// The commands, by index, that have touched something as far as the journal knows: only their work
/// has to be done over from the files as they were.
fn begun(journal: &Path, record: &Record) -> Result<Vec<usize>, ApplyError> {
    let read = journal::read::<Header, Step>(journal)?;
    if read.header.is_undo {
        return Ok((0..record.commands.len()).collect());
    }
    let commands = read.entries.iter().filter_map(|entry| match entry.step {
        Step::Command(index) => Some(index),
        Step::File(_) => None,
    });
    Ok(commands.collect())
}

/// Where a file is written before it gets its name.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kireji-new"))
}

/// Returns the contents and the access of a file; `None` where it is not there.
fn state(host: &Sysroot, path: &Path) -> Result<Option<(Vec<u8>, Access)>, ApplyError> {
    let node = match host.node(path) {
        Err(error) if error.is_absent() => return Ok(None),
        other => other?,
    };
    if node.kind != NodeKind::File {
        return Err(ApplyError::Foreign { path: path.to_owned() });
    }
    let access = Access { mode: node.mode, owner: Some((node.uid, node.gid)) };
    Ok(Some((host.read(path)?, access)))
}
