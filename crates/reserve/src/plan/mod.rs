//! What would be changed: files, each with what it was and what it will be, and commands, in the
//! order in which they are carried out.

mod diff;

pub use diff::{write_change, write_diff};

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::{NodeKind, Program, ReadError, Sysroot};
use serde::{Deserialize, Serialize};

use crate::generator::Confidence;

/// How many symbolic links are followed (MAXSYMLINKS of the kernel).
const MOST_LINKS: usize = 40;

/// What a file is: its contents and its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
}

impl Contents {
    /// A file that everybody may read.
    pub fn text(text: impl Into<String>) -> Self {
        Self { bytes: text.into().into_bytes(), mode: 0o644 }
    }

    /// A program that everybody may run.
    pub fn program(text: impl Into<String>) -> Self {
        Self { bytes: text.into().into_bytes(), mode: 0o755 }
    }

    /// Reads a file of a host; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be read, or is no regular file.
    pub fn read(host: &Sysroot, path: &Path) -> Result<Option<Self>, ReadError> {
        let node = match host.node(path) {
            Err(error) if error.is_absent() => return Ok(None),
            other => other?,
        };
        if node.kind != NodeKind::File {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(ReadError { path: path.to_owned(), source });
        }
        Ok(Some(Self { bytes: host.read(path)?, mode: node.mode }))
    }
}

/// One file that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The file itself, where the path that is known for it is a symbolic link.
    pub path: PathBuf,
    /// What it is; `None` where it is not there.
    pub before: Option<Contents>,
    /// What it will be; `None` where it will not be there.
    pub after: Option<Contents>,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What takes back what it did to files that are not ours; without it, running it once more
    /// does, when the files that it reads are as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Vec<String>>,
}

/// Building an image of a kernel takes a minute on a slow machine, and there may be many.
const COMMAND_LIMIT: Duration = Duration::from_secs(1800);

impl Command {
    /// Returns a command.
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), inverse: None }
    }

    /// Returns the command with another one that takes back what it did.
    #[must_use]
    pub fn inverse<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.inverse = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Whether all that it does can be seen in what is built on the host, as what goes to partitions
    /// that are not mounted, or to the firmware's variables, cannot.
    pub(crate) fn is_seen(&self) -> bool {
        let is_elsewhere = self.words.first().is_some_and(|program| program == "proxmox-boot-tool");
        self.inverse.is_none() && !is_elsewhere
    }

    /// The command to run when what was done is taken back.
    #[must_use]
    pub fn to_take_back(&self) -> Self {
        match &self.inverse {
            Some(words) => Self::new(words.clone()),
            None => self.clone(),
        }
    }

    /// Returns the program to run.
    pub fn program(&self) -> Program {
        let (first, rest) =
            self.words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        Program::new(first).args(rest).limit(COMMAND_LIMIT)
    }
}

impl std::fmt::Display for Command {
    /// Writes the command as a shell takes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |word: &str| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || "/._-:=,@%+".contains(char))
        };
        for (index, word) in self.words.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            if plain(word) {
                write!(f, "{space}{word}")?;
            } else if word.contains(char::is_control) {
                // Between these quotes the shells of today read escapes, and it stays one line.
                let escaped = word.replace('\\', r"\\").replace('\'', r"\'");
                write!(f, "{space}$'")?;
                for char in escaped.chars() {
                    match char.is_control() {
                        true => write!(f, "\\{:03o}", u32::from(char))?,
                        false => f.write_char(char)?,
                    }
                }
                f.write_char('\'')?;
            } else {
                write!(f, "{space}'{}'", word.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// What is to be done to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The files that change, in order.
    pub files: Vec<FileChange>,
    /// The commands that run once all files are written, in order.
    pub commands: Vec<Command>,
    /// How well it is known that all this does what it should.
    pub knowledge: Vec<Knowledge>,
}

/// How well it is known that a backend does what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// The backend, for people.
    pub backend: String,
    /// How well.
    pub confidence: Confidence,
}

impl Knowledge {
    /// Returns what is known of a backend.
    pub fn of(backend: impl ToString, confidence: Confidence) -> Self {
        Self { backend: backend.to_string(), confidence }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.commands.is_empty()
    }

    /// Adds what is known of a backend, unless it is said already.
    pub fn known(&mut self, knowledge: Knowledge) {
        if !self.knowledge.contains(&knowledge) {
            self.knowledge.push(knowledge);
        }
    }

    /// What of it is known by hearsay alone: such a plan is shown, and not carried out.
    pub fn hearsay(&self) -> Option<&Knowledge> {
        self.knowledge.iter().find(|known| known.confidence == Confidence::Hearsay)
    }

    /// Adds that a file shall be so, or shall not be. Nothing is added where it is so already.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file(
        &mut self,
        host: &Sysroot,
        path: impl AsRef<Path>,
        after: Option<Contents>,
    ) -> Result<(), ReadError> {
        let path = resolve(host, path.as_ref())?;
        let planned = self.files.iter().position(|change| change.path == path);
        let before = match planned {
            Some(index) => self.files[index].before.clone(),
            None => Contents::read(host, &path)?,
        };
        if let Some(index) = planned {
            self.files.remove(index);
        }
        if before != after {
            self.files.push(FileChange { path, before, after });
        }
        Ok(())
    }

    /// Returns what a file will be.
    ///
    /// # Errors
    /// It is not part of the plan and cannot be read.
    pub fn contents(
        &self,
        host: &Sysroot,
        path: impl AsRef<Path>,
    ) -> Result<Option<Contents>, ReadError> {
        let path = resolve(host, path.as_ref())?;
        match self.files.iter().find(|change| change.path == path) {
            Some(change) => Ok(change.after.clone()),
            None => Contents::read(host, &path),
        }
    }

    /// Adds a command, unless it is there.
    pub fn command(&mut self, command: Command) {
        if !self.commands.contains(&command) {
            self.commands.push(command);
        }
    }
}

/// Follows the symbolic links that a path itself is, so that the file is changed and not the link.
fn resolve(host: &Sysroot, path: &Path) -> Result<PathBuf, ReadError> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match host.link(&path) {
            Ok(target) => {
                let directory = path.parent().unwrap_or(Path::new("/"));
                path = lexical(&directory.join(target));
            }
            Err(_) => return Ok(path),
        }
    }
    let says = "it leads through too many symbolic links";
    Err(ReadError { path, source: io::Error::new(io::ErrorKind::InvalidInput, says) })
}

/// Takes `.` and `..` out of a path. The directories of configuration are no links.
fn lexical(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => drop(found.pop()),
            std::path::Component::CurDir => {}
            other => found.push(other),
        }
    }
    found
}

#[cfg(test)]
mod tests;
