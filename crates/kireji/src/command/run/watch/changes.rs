//! What has changed of the files that a run is made of.
//!
//! Files that were named are looked at again and again, for a few of them that costs nothing, and
//! they need not be there yet. Of the directories with sources inotify(7) tells when to look. What
//! counts is always what a file is like then: its inode, size and time; and where a build may have
//! written it, its content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use sha2::{Digest, Sha256};

/// How long nothing may have changed before a change counts: a linker writes more than once.
const QUIET: Duration = Duration::from_millis(200);
/// How often that is waited for: who writes without end keeps nobody waiting.
const MOST_TURNS: usize = 50;
/// A text that has changed in so many builds in a row is written by the build: a person saves one file
/// seldom as often, and never as long.
const OFTEN: u8 = 4;
/// Bytes of a file whose content is compared, and those that tell whether it is a text.
const LARGEST: u64 = 64 << 20;
const HEAD: usize = 8 << 10;
/// Directories that are watched at most.
const MOST: usize = 4096;

/// The files that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Matter {
    /// Files, whether they are there or not.
    pub(super) files: Vec<PathBuf>,
    /// Directories all of whose files matter, but for hidden ones.
    pub(super) sources: Vec<PathBuf>,
    /// What lies there the run itself writes.
    pub(super) own: Vec<PathBuf>,
}

/// What tells one content of a file from another: inode, size, and the time of the last change.
type Stamp = (u64, u64, i64, i64);

/// A change of files, once it is over.
#[derive(Debug)]
pub(super) struct Watched {
    matter: Matter,
    inotify: OwnedFd,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<PathBuf, Stamp>,
    /// Files that have changed during builds, since they changed at another time.
    during: BTreeMap<PathBuf, During>,
}

/// How a file has changed during builds.
#[derive(Debug, Default)]
struct During {
    /// What it was like after the last one that changed it.
    content: Option<Content>,
    /// In how many builds in a row its content has changed.
    times: u8,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    /// SHA-256.
    sum: Vec<u8>,
    is_text: bool,
}

impl During {
    /// Whether it is known to be written by the build.
    fn is_built(&self) -> bool {
        let is_text = self.content.as_ref().is_some_and(|content| content.is_text);
        self.times >= if is_text { OFTEN } else { 1 }
    }
}

impl Watched {
    /// Begins; what is there now is no change.
    ///
    /// # Errors
    /// A directory cannot be watched, or there are too many.
    pub(super) fn new(matter: Matter) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let this = Self { matter, inotify, known: Mutex::default() };
        let files = this.look()?;
        this.known().files = files;
        Ok(this)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change for about so long, and until it is over; tells whether there was one.
    pub(super) fn has_changed(&self, limit: Duration) -> bool {
        if !self.hear(limit) && !self.have_named_changed() {
            return false;
        }
        self.settle();
        let mut known = self.known();
        let changed = self.changed(&mut known);
        for (path, _) in &changed {
            known.during.remove(path);
        }
        !changed.is_empty()
    }

    /// Takes what has changed during a build for what the build wrote, but for files that were there
    /// before and are not known to be the build's: those may as well have been saved by a person, and
    /// only another build tells. Returns whether it has to.
    pub(super) fn was_built(&self) -> bool {
        self.hear(Duration::ZERO);
        let mut known = self.known();
        let changed = self.changed(&mut known);
        // What a person saved once is left alone by the next build.
        known.during.retain(|path, file| file.is_built() || changed.iter().any(|(p, _)| p == path));
        let mut is_doubtful = false;
        for (path, was_there) in changed {
            let content = content(&path);
            let file = known.during.entry(path).or_default();
            if content.is_some() && content == file.content {
                continue;
            }
            is_doubtful |= was_there && !file.is_built();
            // A file that the build made is its own.
            file.times = if was_there { file.times.saturating_add(1) } else { OFTEN };
            file.content = content;
        }
        is_doubtful
    }

    /// Returns the files that are not as they were, and whether they were there, and takes them as
    /// they are now. One that is gone, or still empty, is about to come.
    fn changed(&self, known: &mut Known) -> Vec<(PathBuf, bool)> {
        // Where directories cannot be watched any more, the files that were named still can.
        let found = self.look().unwrap_or_else(|_| self.named());
        let mut changed = Vec::new();
        for (path, stamp) in found {
            let before = known.files.insert(path.clone(), stamp);
            if before != Some(stamp) {
                changed.push((path, before.is_some()));
            }
        }
        changed
    }

    /// Waits until nothing changes any more.
    fn settle(&self) {
        let mut named = self.named();
        for _ in 0..MOST_TURNS {
            let was_heard = self.hear(QUIET);
            let now = self.named();
            if !was_heard && now == named {
                return;
            }
            named = now;
        }
    }

    /// Waits for an event of a directory, and tells whether one came.
    fn hear(&self, limit: Duration) -> bool {
        let Ok(timeout) = Timespec::try_from(limit) else { return false };
        let mut fds = [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap_or_default() == 0 {
            return false;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while reader.next().is_ok() {}
        true
    }

    fn have_named_changed(&self) -> bool {
        let known = self.known();
        self.named().iter().any(|(path, stamp)| known.files.get(path) != Some(stamp))
    }

    fn named(&self) -> BTreeMap<PathBuf, Stamp> {
        let stamp = |path: &PathBuf| Some((path.clone(), stamp(path)?));
        self.matter.files.iter().filter_map(stamp).collect()
    }

    /// Looks at all files, and watches every directory that a build may read. A directory is watched
    /// before it is looked into, so that nothing is missed.
    fn look(&self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        let mut found = self.named();
        let (mut pending, mut count) = (self.matter.sources.clone(), 0);
        while let Some(directory) = pending.pop() {
            count += 1;
            if count > MOST {
                return Err(io::Error::other("there are too many directories below this one"));
            }
            match inotify::add_watch(&self.inotify, &directory, flags) {
                // It went away meanwhile, or may not be read.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
                Err(rustix::io::Errno::ACCESS) => continue,
                added => added?,
            };
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let path = entry.path();
                let is_hidden = entry.file_name().as_bytes().starts_with(b".");
                if is_hidden || self.matter.own.contains(&path) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => pending.push(path),
                    _ => found.extend(stamp(&path).map(|stamp| (path, stamp))),
                }
            }
        }
        Ok(found)
    }
}

/// What a file holds, if it can be read and is no larger than what is compared.
fn content(path: &Path) -> Option<Content> {
    let (mut file, mut sum) = (File::open(path).ok()?.take(LARGEST + 1), Sha256::new());
    let (mut chunk, mut is_text, mut length) = (vec![0; 64 << 10], true, 0);
    loop {
        let count = file.read(&mut chunk).ok()?;
        if count == 0 {
            break;
        }
        if length == 0 {
            is_text = !chunk[..count.min(HEAD)].contains(&0);
        }
        length += count;
        sum.update(&chunk[..count]);
    }
    (length as u64 <= LARGEST).then(|| Content { sum: sum.finalize().to_vec(), is_text })
}

/// What a file is like now, its links followed; nothing of one that is empty, for that is how each
/// begins.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    let is_there = metadata.is_file() && metadata.len() > 0;
    is_there.then(|| (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    const SOON: Duration = Duration::from_secs(5);
    const NEVER: Duration = Duration::from_millis(20);

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Whether a change is seen before long.
    fn is_seen(watched: &Watched) -> bool {
        let started = std::time::Instant::now();
        while started.elapsed() < SOON {
            if watched.has_changed(NEVER) {
                return true;
            }
        }
        false
    }

    #[test]
    fn files_that_were_named_are_seen_wherever_they_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let driver = path("build/driver");
        let watched = Watched::new(Matter { files: vec![driver.clone()], ..Matter::default() });
        let watched = watched.unwrap();
        assert!(!watched.has_changed(NEVER));
        write(&driver, "one");
        assert!(is_seen(&watched), "a directory that was not there");
        fs::remove_dir_all(path("build")).unwrap();
        assert!(!watched.has_changed(NEVER), "it is about to come");
        write(&driver, "two!");
        assert!(is_seen(&watched), "a directory that was made again");
        write(&path("new"), "three");
        fs::rename(path("new"), &driver).unwrap();
        assert!(is_seen(&watched), "a file in its place");
        fs::remove_file(&driver).unwrap();
        write(&path("out/driver"), "four");
        std::os::unix::fs::symlink("../out/driver", &driver).unwrap();
        assert!(is_seen(&watched), "a link in its place");
        write(&path("out/driver"), "number five");
        assert!(is_seen(&watched), "what a link leads to");
        write(&path("build/other"), "x");
        assert!(!watched.has_changed(NEVER));
    }

    #[test]
    fn sources_are_seen_and_what_is_hidden_or_ones_own_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("sub/source.c"), "one");
        write(&path(".git/index"), "one");
        write(&path("state/log"), "one");
        let sources = vec![dir.path().to_owned()];
        let own = vec![path("state"), path("out")];
        let watched = Watched::new(Matter { sources, own, ..Matter::default() }).unwrap();
        for name in [".git/index", "sub/.source.c.swp", "state/log", "out"] {
            write(&path(name), "number two");
            assert!(!watched.has_changed(NEVER), "{name}");
        }
        for name in ["sub/source.c", "later/deep/source.c", "later/deep/source.c"] {
            let text = format!("{:?}", std::time::Instant::now());
            write(&path(name), &text);
            assert!(is_seen(&watched), "{name}");
            assert!(!watched.has_changed(NEVER), "{name} a second time");
        }
    }

    #[test]
    fn a_burst_of_writes_is_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let driver = dir.path().join("driver");
        let files = vec![driver.clone()];
        let watched = Watched::new(Matter { files, ..Matter::default() }).unwrap();
        let writer = std::thread::spawn(move || {
            for length in 1..20 {
                write(&driver, &"x".repeat(length));
                std::thread::sleep(QUIET / 20);
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            seen += usize::from(watched.has_changed(NEVER));
        }
        writer.join().unwrap();
        seen += usize::from(watched.has_changed(NEVER));
        // A machine that stands still for a while may make two of it.
        assert!((1..6).contains(&seen), "{seen}");
    }

    #[test]
    fn what_a_build_writes_is_no_change_and_a_save_during_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let sources = vec![dir.path().to_owned()];
        write(&path("source.c"), "one");
        write(&path("source.o"), "one");
        let watched = Watched::new(Matter { sources, ..Matter::default() }).unwrap();
        write(&path("driver"), "one");
        assert!(!watched.was_built(), "a build makes files");
        write(&path("source.o"), "\0number two");
        assert!(watched.was_built(), "a person might have");
        write(&path("source.o"), "\0three");
        assert!(!watched.was_built(), "it was the build");
        write(&path("source.c"), "number two");
        write(&path("source.o"), "\0four");
        assert!(watched.was_built(), "a save during the build");
        assert!(!watched.was_built() && !watched.has_changed(NEVER));
        // Between builds it is a person again, and so during the next.
        write(&path("source.c"), "three");
        assert!(is_seen(&watched));
        write(&path("source.c"), "number four");
        assert!(watched.was_built());
    }

    #[test]
    fn who_saves_one_file_in_build_after_build_is_no_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["source.c", "source.d", "log"] {
            write(&path(name), "zero");
        }
        let sources = vec![dir.path().to_owned()];
        let watched = Watched::new(Matter { sources, ..Matter::default() }).unwrap();
        // In two builds in a row, and after a pause in which only the build wrote.
        for text in ["one", "number two"] {
            write(&path("source.c"), text);
            assert!(watched.was_built(), "{text}");
        }
        assert!(!watched.was_built());
        for text in ["three", "number four"] {
            write(&path("source.c"), text);
            assert!(watched.was_built(), "{text}");
        }
        // What is written again with what it had is no change.
        write(&path("source.d"), "the same");
        assert!(watched.was_built());
        for _ in 0..3 {
            fs::remove_file(path("source.d")).unwrap();
            write(&path("source.d"), "the same");
            assert!(!watched.was_built());
        }
        // A text that changes in every build ends the doubt at last.
        let doubts = (0..9).filter(|number| {
            write(&path("log"), &"x".repeat(10 + number));
            watched.was_built()
        });
        assert_eq!(doubts.count(), usize::from(OFTEN));
        // One that comes and goes with builds was made by them.
        write(&path("new.h"), "one");
        assert!(!watched.was_built());
        write(&path("new.h"), "number two");
        assert!(!watched.was_built());
    }
}
