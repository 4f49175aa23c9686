//! Where QEMU is, and what is remembered of it.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use host::{Runner, atomic};
use serde::{Deserialize, Serialize};

use crate::launch::{User, as_user};

use super::{Capabilities, QemuError, probe};

/// Names of the binary: everywhere, and on Red Hat's distributions, which keep theirs outside of
/// `PATH` in `/usr/libexec`.
const NAMES: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
const ELSEWHERE: &str = "/usr/libexec";
/// Where distributions keep the parts of QEMU that are packages of their own; installing one
/// changes what the same binary can do.
const MODULES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib64/qemu", "/usr/lib/qemu"];

/// Finds the QEMU binary: `explicit` if given, otherwise by its names in `path`, the value of the
/// environment variable `PATH`.
///
/// # Errors
/// There is none.
pub fn locate(explicit: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, QemuError> {
    if let Some(file) = explicit {
        let found = std::fs::canonicalize(file).ok().filter(|file| file.is_file());
        return found.ok_or_else(|| QemuError::Missing { name: file.display().to_string() });
    }
    let mut dirs: Vec<PathBuf> = std::env::split_paths(path.unwrap_or_default()).collect();
    dirs.push(ELSEWHERE.into());
    let candidates = NAMES.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    candidates
        .filter(|file| file.is_absolute() && file.is_file())
        .find_map(|file| std::fs::canonicalize(file).ok())
        .ok_or_else(|| QemuError::Missing { name: NAMES[0].to_owned() })
}

/// What tells one state of a binary from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change.
    modified: (i64, i64),
    /// The same of the directories of modules that exist.
    modules: Vec<(i64, i64)>,
}

impl Identity {
    /// Identifies the binary at `path`.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let changed = |metadata: std::fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modules: MODULES
                .iter()
                .filter_map(|dir| std::fs::metadata(dir).ok())
                .map(changed)
                .collect(),
            modified: changed(metadata),
        })
    }

    /// A name for a file about the binary, unique among binaries that exist at one time.
    pub(crate) fn file_name(&self, kind: &str) -> String {
        format!("{kind}-{:x}-{:x}.json", self.device, self.inode)
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    capabilities: Capabilities,
}

/// Where capabilities are remembered from one run to the next.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The directory; it is created when something is first kept.
    pub directory: PathBuf,
    /// Whether something may be written. What a dry run learns is not kept.
    pub writable: bool,
    /// The user whom the files belong to, where that is not the process's own.
    pub owner: Option<User>,
}

impl Cache {
    /// Returns the capabilities of a binary, asking it only if it has changed since it was asked
    /// last.
    ///
    /// # Errors
    /// As [`probe()`]. A cache that cannot be read or written costs time, nothing else.
    pub fn capabilities(
        &self,
        runner: &dyn Runner,
        executable: &Path,
    ) -> Result<Capabilities, QemuError> {
        let missing = |_| QemuError::Missing { name: executable.display().to_string() };
        let identity = Identity::of(executable).map_err(missing)?;
        let file = self.directory.join(identity.file_name("qemu"));
        if let Some(entry) = read::<Entry>(&file).filter(|entry| entry.identity == identity) {
            return Ok(entry.capabilities);
        }
        let entry = Entry { identity, capabilities: probe(runner, executable)? };
        self.keep(&file, &entry);
        Ok(entry.capabilities)
    }

    /// Writes a file of the cache, if that is allowed and possible.
    pub(crate) fn keep(&self, file: &Path, entry: &impl Serialize) {
        if !self.writable {
            return;
        }
        let Ok(bytes) = serde_json::to_vec(entry) else { return };
        let written = as_user(self.owner.as_ref(), || {
            std::fs::create_dir_all(&self.directory)?;
            atomic::write(file, &bytes, 0o644).map_err(|error| error.source)
        });
        // Without the file the next run asks again, as this one did.
        drop(written);
    }
}

/// Reads a file of the cache; one that is absent, damaged or of another version is no error.
pub(crate) fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::{Finished, Program, RunError};
    use std::cell::Cell;

    #[derive(Debug)]
    struct Never;
    impl Runner for Never {
        fn run(&self, program: &Program) -> Result<Finished, RunError> {
            panic!("{} was run", program.executable.display());
        }
    }

    #[derive(Debug, Default)]
    struct Counting(Cell<usize>);
    impl Runner for Counting {
        fn run(&self, program: &Program) -> Result<Finished, RunError> {
            self.0.set(self.0.get() + 1);
            crate::qemu::probe::tests::recorded(program)
        }
    }

    #[test]
    fn finds_the_binary_by_name_and_by_path() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("qemu-system-x86_64");
        std::fs::write(&binary, "").unwrap();
        let path = std::env::join_paths([Path::new("/nonexistent"), dir.path()]).unwrap();
        assert_eq!(locate(None, Some(&path)).unwrap(), binary);
        assert_eq!(locate(Some(&binary), None).unwrap(), binary);
        let error = locate(Some(&dir.path().join("none")), Some(&path)).unwrap_err();
        assert!(matches!(error, QemuError::Missing { name } if name.ends_with("/none")));
    }

    #[test]
    fn a_binary_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("qemu");
        std::fs::write(&binary, "binary").unwrap();
        let cache =
            Cache { directory: dir.path().join("cache/kireji"), writable: true, owner: None };
        let asked = Counting::default();
        let first = cache.capabilities(&asked, &binary).unwrap();
        assert!(asked.0.get() > 0);
        assert_eq!(cache.capabilities(&Never, &binary).unwrap(), first);

        std::fs::write(&binary, "a newer binary").unwrap();
        let again = Counting::default();
        cache.capabilities(&again, &binary).unwrap();
        assert_eq!(again.0.get(), asked.0.get());
    }

    #[test]
    fn a_damaged_cache_is_made_again_and_a_dry_run_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("qemu");
        std::fs::write(&binary, "binary").unwrap();
        let cache = Cache { directory: dir.path().join("cache"), writable: true, owner: None };
        cache.capabilities(&Counting::default(), &binary).unwrap();
        let file = std::fs::read_dir(&cache.directory).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, "{\"identity\":").unwrap();
        let asked = Counting::default();
        cache.capabilities(&asked, &binary).unwrap();
        assert!(asked.0.get() > 0);

        let dry = Cache { directory: dir.path().join("dry"), writable: false, owner: None };
        dry.capabilities(&Counting::default(), &binary).unwrap();
        assert!(!dry.directory.exists());
    }
}
