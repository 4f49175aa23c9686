//! Plans carried out, and taken back.
//!
//! Before anything of the host changes, what each file was and will be is kept in a directory of
//! its own below `/var/lib/kireji`. A journal then says that it is being carried out or taken back.
//! Taking back compares each file with what it was and will be, so it can be cut off anywhere and
//! begun again; a plan that was cut off is taken back by the next command that may write.

mod commands;
mod disk;
mod error;
mod fit;
mod merge;
mod record;

#[cfg(test)]
mod tests;

pub use disk::{Access, Disk, SystemDisk};
pub use error::{ApplyError, Conflict};
pub use record::{FileRecord, Record};

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::journal;
use host::{Journal, Runner, Sysroot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use commands::begun;
use record::Reversal;

use crate::built::{Built, Difference, Marks};
use crate::plan::{Command, Contents, FileChange, Plan};

/// Where what was applied is kept, with what to take it back.
const STATE: &str = "/var/lib/kireji";
/// What is going on.
const JOURNAL: &str = "/var/lib/kireji/journal";
/// A record that is being made, or that goes.
const UNFINISHED: &str = "/var/lib/kireji/unfinished";
/// In a record: what programs had built before it, and what the same files were right behind it.
const BUILT: &str = "built.json";
const MARKS: &str = "marks.json";
/// Whose what is kept is.
const OURS: Access = Access { mode: 0o600, owner: None };
/// How large that may be, in bytes. A member of an image takes some hundred.
const BUILT_LIMIT: u64 = 256 << 20;
/// Held while something goes on.
const LOCK: &str = "/var/lib/kireji/lock";

/// How often the lock is tried, and how long is waited between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

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

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// The files that are as they were, but for those that were merged.
    pub files: Vec<FileRecord>,
    /// The files that somebody else had changed too: what was taken out of each.
    pub merged: Vec<FileChange>,
    /// The commands that ran.
    pub commands: Vec<Command>,
    /// What they built that is not as it was.
    pub differences: Vec<Difference>,
    /// Which command failed and how, behind which no more ran; but all that is built is as it was.
    pub failure: Option<String>,
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
        let mut journal = self.begin(Header { number: record.number, is_undo: false })?;
        // The record gets its name behind the journal: one without the other was carried out.
        let outcome = self
            .place(&record)
            .and_then(|()| self.carry_out(&record, &mut journal))
            .and_then(|()| self.mark(&record));
        if let Err(failure) = outcome {
            if !self.host.exists(record.directory()) {
                journal.remove()?;
                return Err(failure);
            }
            let is_over = match failure {
                ApplyError::Run { .. } => self.await_commands(&record),
                _ => Ok(()),
            };
            return match is_over.and_then(|()| self.take_back(record, journal)) {
                Ok(_) => Err(failure),
                Err(error) => Err(ApplyError::NotTakenBack {
                    failure: Box::new(failure),
                    source: Box::new(error),
                }),
            };
        }
        journal.remove()?;
        Ok(())
    }

    /// Takes the last plan back that was carried out, or the one that was cut off, and compares what
    /// is built again with what was built before.
    ///
    /// # Errors
    /// There is none, somebody else changed the same since, or something failed; what was begun is
    /// finished by the next command that may write.
    pub fn undo(&self) -> Result<Undone, ApplyError> {
        let _lock = self.lock()?;
        if let Some(undone) = self.finish_pending()? {
            return Ok(undone);
        }
        let record = self.records()?.pop().ok_or(ApplyError::Nothing)?;
        self.check(&record)?;
        let journal = self.begin(Header { number: record.number, is_undo: true })?;
        self.take_back(record, journal)
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
        Ok(self.finish_pending()?.is_some())
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

    /// Writes a file in place of another one, so that a crash leaves either. It has the label of
    /// that one; where there is none, the one that it had itself once.
    fn replace(
        &self,
        path: &Path,
        bytes: &[u8],
        access: Access,
        had: Option<&[u8]>,
    ) -> Result<(), ApplyError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let temporary = temporary(path);
        let to = self.host.locate(path);
        let label = disk::label(&to)
            .map_err(|source| ApplyError::Disk { path: path.to_owned(), source })?;
        let label = label.as_deref().or(had);
        self.on_disk(&temporary, |disk, located| disk.write(located, bytes, access, label))?;
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
        let mut kept = record.kept()?;
        if !plan.commands.is_empty() {
            let built = Built::read(self.host)?;
            if !built.is_empty() {
                kept.push((BUILT.to_owned(), encoded(&built)?));
            }
        }
        for (name, bytes) in kept {
            let path = unfinished.join(name);
            self.on_disk(&path, |disk, located| disk.write(located, &bytes, OURS, None))?;
        }
        self.on_disk(&unfinished, |disk, located| disk.sync(located))?;
        Ok(record)
    }

    /// Keeps what the commands of a plan have made of what was built.
    fn mark(&self, record: &Record) -> Result<(), ApplyError> {
        let directory = record.directory();
        if !self.host.exists(directory.join(BUILT)) {
            return Ok(());
        }
        let marks = Marks::read(self.host)?;
        self.replace(&directory.join(MARKS), &encoded(&marks)?, OURS, None)
    }

    /// Reads what is kept in a record beside its files; `None` where it is not there, as in one that
    /// was cut off.
    fn state<T: DeserializeOwned>(
        &self,
        record: &Record,
        name: &str,
    ) -> Result<Option<T>, ApplyError> {
        let path = record.directory().join(name);
        if !self.host.exists(&path) {
            return Ok(None);
        }
        let bytes = self.host.read_limited(path, BUILT_LIMIT)?;
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| ApplyError::Damaged { what: error.to_string() })
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
                    self.replace(&file.path, bytes, *access, None)?;
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

    fn finish_pending(&self) -> Result<Option<Undone>, ApplyError> {
        if !self.is_pending() {
            return Ok(None);
        }
        let path = self.host.locate(JOURNAL);
        let read = journal::read::<Header, Step>(&path)?;
        // Without its record, a journal is of something that was taken back to its end.
        let directory = Record::directory_of(read.header.number);
        if !self.host.exists(&directory) {
            journal::remove(&path)?;
            return Ok(Some(Undone::default()));
        }
        let record = Record::read(self.host, read.header.number)?;
        self.await_commands(&record)?;
        self.take_back(record, Journal::reopen(&path)?).map(Some)
    }

    /// Sees that all can be taken back, before any file is touched.
    fn check(&self, record: &Record) -> Result<Vec<Reversal>, ApplyError> {
        let indexed = record.files.iter().enumerate();
        indexed.map(|(index, file)| self.reversal(record, index, file)).collect()
    }

    fn reversal(
        &self,
        record: &Record,
        index: usize,
        file: &FileRecord,
    ) -> Result<Reversal, ApplyError> {
        let merged = record.merged(index);
        let merged = match self.host.exists(&merged) {
            true => Some(self.host.read(merged)?),
            false => None,
        };
        file.reversal(self.host, merged.as_deref())
    }

    /// Takes a plan back that was carried out in part or all: the files, what was built from them,
    /// and at last the record itself.
    fn take_back(&self, record: Record, mut journal: Journal) -> Result<Undone, ApplyError> {
        // A merge cannot be told from what was merged when it is begun again, so it is kept first.
        for (index, reversal) in self.check(&record)?.into_iter().enumerate() {
            if let Reversal::Merged { merged: (bytes, _), .. } = reversal {
                self.replace(&record.merged(index), &bytes, OURS, None)?;
            }
        }
        let built: Option<Built> = self.state(&record, BUILT)?;
        let found = if built.is_some() { Marks::read(self.host)? } else { Marks::default() };
        // What was cut off was left to nobody.
        let left = self.state(&record, MARKS)?.unwrap_or_else(|| found.clone());
        let mut merges = Vec::new();
        for (index, file) in record.files.iter().enumerate().rev() {
            let temporary = temporary(&file.path);
            if self.host.exists(&temporary) {
                self.remove(&temporary)?;
            }
            let reversal = self.reversal(&record, index, file)?;
            merges.extend(self.reverse(file, reversal)?);
            self.remove_directories(&file.directories)?;
        }
        let begun = begun(&self.host.locate(JOURNAL), &record)?;
        let commands: Vec<_> =
            record.commands.iter().map(Command::to_take_back).enumerate().collect();
        let again = commands.into_iter().filter(|(index, _)| begun.contains(index));
        let again: Vec<_> = again.collect();
        let ran = self.run(again.iter().cloned(), &mut journal);
        let is_compared = built.is_some() && record.commands.iter().all(Command::is_seen);
        let differences = match built {
            Some(built) if !again.is_empty() => {
                built.differences(&Built::read(self.host)?, (&left, &found), self.host)
            }
            _ => Vec::new(),
        };
        // What cannot be built, as on a full partition, need not be where it never was built.
        let failure = match ran {
            Err(error @ (ApplyError::Command { .. } | ApplyError::Run { .. }))
                if is_compared && differences.is_empty() =>
            {
                Some(crate::in_full(&error))
            }
            other => other.map(|()| None)?,
        };
        let directory = record.directory();
        let gone = PathBuf::from(UNFINISHED);
        let to = self.host.locate(&gone);
        self.on_disk(&directory, |disk, located| disk.rename(located, &to))?;
        self.on_disk(Path::new(STATE), |disk, located| disk.sync(located))?;
        journal.remove()?;
        for name in self.host.optional_names(&gone)? {
            self.remove(&gone.join(name))?;
        }
        self.on_disk(&gone, |disk, located| disk.remove_directory(located))?;
        let commands = again.into_iter().map(|(_, command)| command).collect();
        Ok(Undone { files: record.files, merged: merges, commands, differences, failure })
    }

    /// Takes back what a plan made of a file; returns what changed where that is a merge.
    fn reverse(
        &self,
        file: &FileRecord,
        reversal: Reversal,
    ) -> Result<Option<FileChange>, ApplyError> {
        let directory = file.path.parent().unwrap_or(Path::new("/"));
        match (reversal, &file.before) {
            (Reversal::Done, _) => {}
            (Reversal::Restored, Some((bytes, access))) => {
                self.make_directories(directory, 0o755)?;
                self.replace(&file.path, bytes, *access, file.label.as_deref())?;
            }
            (Reversal::Restored, None) => self.remove(&file.path)?,
            (Reversal::Merged { now, merged }, _) => {
                self.replace(&file.path, &merged.0, merged.1, None)?;
                let contents = |(bytes, access): (_, Access)| Contents { bytes, mode: access.mode };
                return Ok(Some(FileChange {
                    path: file.path.clone(),
                    before: Some(contents(now)),
                    after: Some(contents(merged)),
                }));
            }
        }
        Ok(None)
    }
}

fn encoded(state: &impl Serialize) -> Result<Vec<u8>, ApplyError> {
    serde_json::to_vec(state).map_err(|error| ApplyError::Damaged { what: error.to_string() })
}

/// Where a file is written before it gets its name.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kireji-new"))
}
