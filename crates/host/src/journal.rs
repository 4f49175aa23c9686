//! What was about to be done, written before it is done.
//!
//! A journal is a file of JSON lines: a header, then for each step an *intent*, made durable
//! before the act, and a *done* after it. A process killed at any point leaves a journal from
//! which the next one can tell what may have happened. A torn last line, the trace of a crash in
//! the middle of a write, is read as if it were not there: its act had not begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic;

/// The largest journal that is read, in bytes; one of ours holds a few kilobytes.
const LIMIT: u64 = 16 << 20;

/// A journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {verb} the journal {}", path.display())]
    Io {
        /// `create`, `write`, `read` or `remove`.
        verb: &'static str,
        /// The journal's file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A line other than the last is not one of ours.
    #[error("the journal {} is damaged at line {line}", path.display())]
    Damaged {
        /// The journal's file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file holds no header: its writer died before it had promised anything.
    #[error("the journal {} has no header", path.display())]
    Empty {
        /// The journal's file.
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<H, S> {
    Header(H),
    Intent(S),
    Done(usize),
}

/// One step of a journal that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<S> {
    /// What was to be done.
    pub step: S,
    /// Whether its end was recorded. If not, it may have happened or not.
    pub done: bool,
}

/// A journal that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<H, S> {
    /// What the journal is about.
    pub header: H,
    /// Its steps, in order.
    pub entries: Vec<Entry<S>>,
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    steps: usize,
}

impl Journal {
    /// Creates the journal `path`, which must not exist, with its header.
    ///
    /// # Errors
    /// The file exists already ([`io::ErrorKind::AlreadyExists`]) or cannot be made durable.
    pub fn create<H: Serialize>(path: &Path, header: &H) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { verb: "create", path: path.to_owned(), source };
        // It gets its name with its header in it, so that nobody killed here leaves a journal
        // without one. The unfinished file of somebody who was is overwritten.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&unfinished)
            .map_err(failed)?;
        let mut journal = Self { path: path.to_owned(), file, steps: 0 };
        journal.append(&Line::<&H, ()>::Header(header))?;
        let named = std::fs::hard_link(&unfinished, path);
        let removed = std::fs::remove_file(&unfinished);
        named.and(removed).map_err(failed)?;
        if let Some(dir) = path.parent() {
            atomic::sync_dir(dir).map_err(failed)?;
        }
        Ok(journal)
    }

    /// Opens a journal again, to go on after the steps that it holds. A torn last line is cut
    /// off first.
    ///
    /// # Errors
    /// The journal cannot be opened or is damaged.
    pub fn reopen(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { verb: "write", path: path.to_owned(), source };
        let text = read_text(path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let steps = lines::<serde::de::IgnoredAny, serde::de::IgnoredAny>(path, &text)?
            .iter()
            .filter(|line| matches!(line, Line::Intent(_)))
            .count();
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        file.set_len(u64::try_from(whole).unwrap_or(LIMIT)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, steps })
    }

    /// Records, durably, that `step` is about to happen.
    ///
    /// # Errors
    /// The intent could not be made durable; the step must not be taken.
    pub fn intent<S: Serialize>(&mut self, step: &S) -> Result<Intent, JournalError> {
        self.append(&Line::<(), &S>::Intent(step))?;
        self.steps += 1;
        Ok(Intent(self.steps - 1))
    }

    /// Records that a step has happened.
    ///
    /// # Errors
    /// The line could not be written; the step counts as perhaps done.
    pub fn done(&mut self, intent: Intent) -> Result<(), JournalError> {
        self.append(&Line::<(), ()>::Done(intent.0))
    }

    /// Ends the journal: nothing is pending any more.
    ///
    /// # Errors
    /// The file could not be removed.
    pub fn remove(self) -> Result<(), JournalError> {
        remove(&self.path)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)?;
            self.file.sync_data()
        });
        written.map_err(|source| JournalError::Io {
            verb: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// The token of a step whose intent is recorded.
#[derive(Debug)]
#[must_use = "a step that is done must be recorded as done"]
pub struct Intent(usize);

/// Reads a journal.
///
/// # Errors
/// The file cannot be read, has no header, or has a damaged line before its last.
pub fn read<H: DeserializeOwned, S: DeserializeOwned>(
    path: &Path,
) -> Result<Record<H, S>, JournalError> {
    let text = read_text(path)?;
    let mut header = None;
    let mut entries: Vec<Entry<S>> = Vec::new();
    for line in lines::<H, S>(path, &text)? {
        match line {
            Line::Header(value) => header = Some(value),
            Line::Intent(step) => entries.push(Entry { step, done: false }),
            Line::Done(index) => {
                if let Some(entry) = entries.get_mut(index) {
                    entry.done = true;
                }
            }
        }
    }
    let header = header.ok_or_else(|| JournalError::Empty { path: path.to_owned() })?;
    Ok(Record { header, entries })
}

/// Removes a journal, durably.
///
/// # Errors
/// The file is there but could not be removed.
pub fn remove(path: &Path) -> Result<(), JournalError> {
    let removed = match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    removed
        .and_then(|()| path.parent().map_or(Ok(()), atomic::sync_dir))
        .map_err(|source| JournalError::Io { verb: "remove", path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, JournalError> {
    let failed = |source| JournalError::Io { verb: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lines<H: DeserializeOwned, S: DeserializeOwned>(
    path: &Path,
    text: &str,
) -> Result<Vec<Line<H, S>>, JournalError> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(index, line)| {
        serde_json::from_str(line).map_err(|source| JournalError::Damaged {
            path: path.to_owned(),
            line: index + 1,
            source,
        })
    };
    whole.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path) -> PathBuf {
        let path = dir.join("journal");
        let mut journal = Journal::create(&path, &"card").unwrap();
        let first = journal.intent(&"unbind").unwrap();
        journal.done(first).unwrap();
        let _pending = journal.intent(&"probe").unwrap();
        path
    }

    #[test]
    fn tells_done_from_perhaps_done() {
        let dir = tempfile::tempdir().unwrap();
        let record: Record<String, String> = read(&sample(dir.path())).unwrap();
        assert_eq!(record.header, "card");
        let done: Vec<_> = record.entries.iter().map(|e| (e.step.as_str(), e.done)).collect();
        assert_eq!(done, [("unbind", true), ("probe", false)]);
    }

    #[test]
    fn every_prefix_reads_as_an_earlier_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let mut seen = 0;
        for end in 0..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            match read::<String, String>(&path) {
                Ok(record) => {
                    assert!(record.entries.len() >= seen);
                    seen = record.entries.len();
                }
                Err(JournalError::Empty { .. }) => assert_eq!(seen, 0),
                Err(other) => panic!("prefix of {end} bytes: {other}"),
            }
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn reopening_cuts_a_torn_line_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"inte");
        std::fs::write(&path, bytes).unwrap();
        let mut journal = Journal::reopen(&path).unwrap();
        let third = journal.intent(&"clear").unwrap();
        journal.done(third).unwrap();
        let record: Record<String, String> = read(&path).unwrap();
        assert_eq!(record.entries.len(), 3);
        assert!(record.entries[2].done && !record.entries[1].done);
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let text = std::fs::read_to_string(&path).unwrap().replace("\"done\"", "\"xone\"");
        std::fs::write(&path, text).unwrap();
        let error = read::<String, String>(&path).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 3, .. }), "{error}");
    }

    #[test]
    fn what_somebody_killed_at_its_beginning_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(dir.path().join("journal.new"), "{\"hea").unwrap();
        Journal::create(&path, &"card").unwrap();
        let record: Record<String, String> = read(&path).unwrap();
        assert_eq!((record.header.as_str(), record.entries.len()), ("card", 0));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_journal_is_not_created_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let error = Journal::create(&path, &"card").unwrap_err();
        assert!(matches!(error, JournalError::Io { verb: "create", .. }));
    }
}
