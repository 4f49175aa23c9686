//! What is kept of a plan that is carried out, to take it back.

use std::path::{Path, PathBuf};

use host::{NodeKind, Sysroot};
use serde::{Deserialize, Serialize};

use super::{Access, ApplyError, Conflict, STATE, disk, merge};
use crate::plan::{Command, Contents, Plan};

/// The name of the description in a record's directory; beside it are the files' contents.
const DESCRIPTION: &str = "record.json";

/// A plan that is or was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1.
    pub number: u32,
    /// Its files.
    pub files: Vec<FileRecord>,
    /// Its commands.
    pub commands: Vec<Command>,
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// The file.
    pub path: PathBuf,
    /// What it was.
    pub before: Option<(Vec<u8>, Access)>,
    /// The SELinux label that it had.
    pub label: Option<Vec<u8>>,
    /// What it is made.
    pub after: Option<(Vec<u8>, Access)>,
    /// The directories that are made for it, the deepest first.
    pub directories: Vec<PathBuf>,
    /// The directories of ours that are empty once it is gone, the deepest first.
    pub emptied: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    files: Vec<FileDescription>,
    commands: Vec<Command>,
}

#[derive(Serialize, Deserialize)]
struct FileDescription {
    path: PathBuf,
    before: Option<Access>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<Vec<u8>>,
    after: Option<Access>,
    directories: Vec<PathBuf>,
    emptied: Vec<PathBuf>,
}

/// What taking a plan back makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reversal {
    /// Nothing: it is so already.
    Done,
    /// What it was.
    Restored,
    /// What somebody else made of it, without what the plan made of it.
    Merged {
        /// What it is.
        now: (Vec<u8>, Access),
        /// What it becomes.
        merged: (Vec<u8>, Access),
    },
}

impl FileRecord {
    /// Tells what taking the plan back makes of the file as it is, unless it was `merged` before.
    ///
    /// # Errors
    /// Somebody else changed what the plan had changed, or it cannot be read.
    pub(super) fn reversal(
        &self,
        host: &Sysroot,
        merged: Option<&[u8]>,
    ) -> Result<Reversal, ApplyError> {
        let now = state(host, &self.path)?;
        let is_merged = now.as_ref().is_some_and(|(bytes, _)| Some(&bytes[..]) == merged);
        if now == self.before || is_merged {
            return Ok(Reversal::Done);
        }
        let made = |state: &Option<(Vec<u8>, Access)>| {
            state.clone().map(|(bytes, access)| (bytes, access.mode))
        };
        if made(&now) == made(&self.after) {
            return Ok(Reversal::Restored);
        }
        let merged = match (&self.before, &self.after, &now) {
            (Some(before), Some(after), Some(now)) => merge::without(before, after, now),
            _ => None,
        };
        match (merged, now) {
            (Some(merged), Some(now)) if merged == now => Ok(Reversal::Done),
            (Some(merged), Some(now)) => Ok(Reversal::Merged { now, merged }),
            (_, now) => Err(ApplyError::Foreign(Box::new(Conflict {
                path: self.path.clone(),
                left: contents(&self.after),
                wanted: contents(&self.before),
                now: contents(&now),
            }))),
        }
    }
}

/// What a plan says of a file.
pub(super) fn contents(state: &Option<(Vec<u8>, Access)>) -> Option<Contents> {
    state.clone().map(|(bytes, access)| Contents { bytes, mode: access.mode })
}

impl Record {
    /// Makes the record of a plan.
    ///
    /// # Errors
    /// A file is not what the plan says that it is.
    pub(super) fn of(host: &Sysroot, plan: &Plan, number: u32) -> Result<Self, ApplyError> {
        let mut files = Vec::new();
        for change in &plan.files {
            let before = state(host, &change.path)?;
            let planned = change.before.as_ref().map(|before| (&before.bytes, before.mode));
            if before.as_ref().map(|(bytes, access)| (bytes, access.mode)) != planned {
                return Err(ApplyError::Stale { path: change.path.clone() });
            }
            let owner = before.as_ref().and_then(|(_, access)| access.owner);
            let after = change
                .after
                .as_ref()
                .map(|after| (after.bytes.clone(), Access { mode: after.mode, owner }));
            let above = change.path.parent().unwrap_or(Path::new("/")).ancestors();
            let directories =
                above.take_while(|path| !host.exists(path)).map(Path::to_owned).collect();
            let emptied = if after.is_none() { ours(&change.path) } else { Vec::new() };
            let label = disk::label(&host.locate(&change.path))
                .map_err(|source| ApplyError::Disk { path: change.path.clone(), source })?;
            files.push(FileRecord {
                path: change.path.clone(),
                before,
                label,
                after,
                directories,
                emptied,
            });
        }
        Ok(Self { number, files, commands: plan.commands.clone() })
    }

    pub(super) fn directory_of(number: u32) -> PathBuf {
        PathBuf::from(format!("{STATE}/{number:06}"))
    }

    /// Where it is kept.
    pub(super) fn directory(&self) -> PathBuf {
        Self::directory_of(self.number)
    }

    /// Where it is kept what a file of it becomes that somebody else had changed too.
    pub(super) fn merged(&self, index: usize) -> PathBuf {
        self.directory().join(format!("{index}.merged"))
    }

    /// The files to keep, by name.
    pub(super) fn kept(&self) -> Result<Vec<(String, Vec<u8>)>, ApplyError> {
        let access = |state: &Option<(Vec<u8>, Access)>| state.as_ref().map(|(_, access)| *access);
        let mut kept = Vec::new();
        let mut files = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            for (side, state) in [("before", &file.before), ("after", &file.after)] {
                if let Some((bytes, _)) = state {
                    kept.push((format!("{index}.{side}"), bytes.clone()));
                }
            }
            files.push(FileDescription {
                path: file.path.clone(),
                before: access(&file.before),
                label: file.label.clone(),
                after: access(&file.after),
                directories: file.directories.clone(),
                emptied: file.emptied.clone(),
            });
        }
        let description = Description { files, commands: self.commands.clone() };
        let bytes = serde_json::to_vec_pretty(&description)
            .map_err(|error| ApplyError::Damaged { what: error.to_string() })?;
        kept.push((DESCRIPTION.to_owned(), bytes));
        Ok(kept)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub(super) fn read(host: &Sysroot, number: u32) -> Result<Self, ApplyError> {
        let directory = Self::directory_of(number);
        let bytes = host.read(directory.join(DESCRIPTION))?;
        let description: Description = serde_json::from_slice(&bytes)
            .map_err(|error| ApplyError::Damaged { what: error.to_string() })?;
        let mut files = Vec::new();
        for (index, file) in description.files.into_iter().enumerate() {
            let read = |side: &str, access: Option<Access>| -> Result<_, ApplyError> {
                let Some(access) = access else { return Ok(None) };
                let bytes = host.read(directory.join(format!("{index}.{side}")))?;
                Ok(Some((bytes, access)))
            };
            files.push(FileRecord {
                before: read("before", file.before)?,
                label: file.label,
                after: read("after", file.after)?,
                path: file.path,
                directories: file.directories,
                emptied: file.emptied,
            });
        }
        Ok(Self { number, files, commands: description.commands })
    }
}

/// The directories above a file that are ours by their name, the deepest first.
fn ours(path: &Path) -> Vec<PathBuf> {
    let is_ours = |directory: &&Path| {
        directory.file_name().is_some_and(|name| name.to_string_lossy().contains("kireji"))
    };
    path.ancestors().skip(1).take_while(is_ours).map(Path::to_owned).collect()
}

/// Returns the contents and the access of a file; `None` where it is not there.
fn state(host: &Sysroot, path: &Path) -> Result<Option<(Vec<u8>, Access)>, ApplyError> {
    let node = match host.node(path) {
        Err(error) if error.is_absent() => return Ok(None),
        other => other?,
    };
    if node.kind != NodeKind::File {
        return Err(ApplyError::NoFile { path: path.to_owned() });
    }
    let access = Access { mode: node.mode, owner: Some((node.uid, node.gid)) };
    Ok(Some((host.read(path)?, access)))
}
