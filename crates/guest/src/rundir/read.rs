//! Runs that were left behind, or go on.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use host::Sysroot;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::overlay::check_free;

use super::{END, End, META, Meta, QEMU_LOG, RunError, SERIAL_LOG};

/// What is read of a description at most, in bytes; one holds less than a thousand.
const LIMIT: u64 = 1 << 20;

/// A run that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// Its directory.
    pub path: PathBuf,
    /// What ran; `None` where the description is missing or damaged.
    pub meta: Option<Meta>,
    /// What became of it.
    #[serde(flatten)]
    pub state: State,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// It goes on.
    Running,
    /// It ended, and how was recorded.
    Finished(End),
    /// The process that looked after it ended without a word: it was killed.
    Abandoned,
    /// The host has started anew since, and no end was recorded.
    HostWentDown,
    /// What it left cannot be read.
    Damaged,
}

impl Run {
    /// Where the serial line is kept.
    pub fn serial_log(&self) -> PathBuf {
        self.path.join(SERIAL_LOG)
    }

    /// Where QEMU's standard error is kept.
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join(QEMU_LOG)
    }
}

/// Lists the runs below `base`, the oldest first.
///
/// # Errors
/// `base` is there but cannot be read. A damaged run is listed as such.
pub fn list(host: &Sysroot, base: &Path) -> Result<Vec<Run>, RunError> {
    let entries = match std::fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(RunError::at("read", base))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RunError::at("read", base))?;
        if let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string())
            && kind.is_dir()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|id| read(host, base, id)).collect())
}

/// Finds a run by its name, by an unambiguous start of it, or the last one.
///
/// # Errors
/// There is none, or `base` cannot be read.
pub fn find(host: &Sysroot, base: &Path, id: Option<&str>) -> Result<Run, RunError> {
    let mut runs = list(host, base)?;
    let Some(wanted) = id else {
        return runs.pop().ok_or_else(|| RunError::None { base: base.to_owned() });
    };
    let unknown = || RunError::Unknown { id: wanted.to_owned(), base: base.to_owned() };
    if let Some(exact) = runs.iter().position(|run| run.id == wanted) {
        return Ok(runs.swap_remove(exact));
    }
    runs.retain(|run| !wanted.is_empty() && run.id.starts_with(wanted));
    let (Some(run), true) = (runs.pop(), runs.is_empty()) else { return Err(unknown()) };
    Ok(run)
}

/// Removes the files called `names` from the directories of runs that were killed: their owner is
/// provably gone, and nobody has the file open. Returns those that were removed; one that cannot be
/// takes room, and does no harm.
///
/// # Errors
/// `base` is there but cannot be read.
pub fn sweep(host: &Sysroot, base: &Path, names: &[&str]) -> Result<Vec<PathBuf>, RunError> {
    let is_over = |run: &Run| matches!(run.state, State::Abandoned | State::HostWentDown);
    let over = list(host, base)?.into_iter().filter(is_over);
    let files = over.flat_map(|run| names.iter().map(move |name| run.path.join(name)));
    // A directory that several hosts share may hold runs of another, which no boot id tells; QEMU's
    // lock on its disk does.
    let is_free = |file: &PathBuf| {
        std::fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file())
            && check_free(file).is_ok()
    };
    Ok(files.filter(is_free).filter(|file| std::fs::remove_file(file).is_ok()).collect())
}

fn read(host: &Sysroot, base: &Path, id: String) -> Run {
    let path = base.join(&id);
    let meta: Option<Meta> = json(&path.join(META)).ok().flatten();
    let state = match (json::<End>(&path.join(END)), &meta) {
        (Ok(Some(end)), _) => State::Finished(end),
        (Ok(None), Some(meta)) => left(host, meta),
        _ => State::Damaged,
    };
    Run { id, path, meta, state }
}

/// What became of a run without a recorded end.
fn left(host: &Sysroot, meta: &Meta) -> State {
    let boot = host.text("/proc/sys/kernel/random/boot_id");
    if boot.is_ok_and(|boot| boot != meta.owner.boot_id) {
        return State::HostWentDown;
    }
    match meta.owner.is_gone(host) {
        Ok(true) => State::Abandoned,
        // Without proof that it is gone, it is taken to go on.
        Ok(false) | Err(_) => State::Running,
    }
}

/// Reads a description, if it is there.
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?.take(LIMIT).read_to_end(&mut bytes)?,
    };
    Ok(Some(serde_json::from_slice(&bytes)?))
}
