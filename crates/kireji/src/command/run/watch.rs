//! `--watch`: the guest runs again whenever what it is made of has changed.
//!
//! The card is taken once, before the first round, and given back once, after the last; between
//! rounds QEMU has closed it, and the kernel resets it when QEMU opens it again. A change while the
//! guest runs ends it as Ctrl-C would, and Ctrl-C ends the whole.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::command::{give_back, take};
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::{Args, leased, once, tree};

/// How long nothing may have changed before a round begins: a linker writes more than once.
const QUIET: Duration = Duration::from_millis(200);
/// How often a thread that waits looks whether it is still wanted.
const TURN: Duration = Duration::from_millis(100);
/// Directories that are watched at most.
const MOST: usize = 4096;

/// Runs round after round until a signal comes.
///
/// # Errors
/// The card cannot be taken or given back, or the kernel watches no files.
pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let signals = Signals::catch()?;
    let watched = Watched::new(args).map_err(|error| {
        CommandError::from_source(Exit::HostCannot, error).hint("`--watch` needs inotify(7)")
    })?;
    let held = hold(args, context)?;
    let ended = rounds(args, context, &signals, &watched);
    for address in held {
        give_back::card(address, context)?;
    }
    ended
}

/// Takes those cards that nobody has taken for this user yet.
fn hold(args: &Args, context: &mut Context<'_>) -> Result<Vec<pci::Named>, CommandError> {
    let (_, named) = leased::split(args, context)?;
    if named.is_empty() || !context.vars.is_root {
        return Ok(Vec::new());
    }
    take::hold(named.clone(), args.allowed.clone(), context)?;
    Ok(named)
}

fn rounds(
    args: &Args,
    context: &mut Context<'_>,
    signals: &Signals,
    watched: &Watched,
) -> Result<Exit, CommandError> {
    loop {
        // What the build of this round writes is no change.
        let (is_over, has_changed) = (AtomicBool::new(false), AtomicBool::new(false));
        let ended = std::thread::scope(|scope| {
            let ended = once(args, context, signals, &|| {
                watched.forget();
                scope.spawn(|| watched.ring(signals, &is_over, &has_changed));
            });
            is_over.store(true, Ordering::Release);
            ended
        });
        if let Err(error) = ended {
            error.report(context.err);
        }
        if signals.is_real() {
            return Ok(Exit::Interrupted);
        }
        signals.forget();
        if has_changed.into_inner() {
            continue;
        }
        writeln!(context.err, "Waiting for a change; Ctrl-C ends this.")?;
        while watched.changed(TURN).is_none() {
            if signals.is_real() {
                return Ok(Exit::Interrupted);
            }
        }
        watched.settle();
    }
}

/// The files that matter.
#[derive(Debug)]
struct Watched {
    inotify: OwnedFd,
    /// By directory: the names that matter, or every name where there are none.
    directories: BTreeMap<i32, Vec<OsString>>,
}

impl Watched {
    fn new(args: &Args) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut this = Self { inotify, directories: BTreeMap::new() };
        let files = args.goal.driver.iter().chain(args.goal.put.iter().map(|put| &put.source));
        for file in files {
            let file = std::path::absolute(file)?;
            // The directory, for many programs write a new file and rename it.
            if let (Some(directory), Some(name)) = (file.parent(), file.file_name()) {
                this.add(directory, Some(name))?;
            }
        }
        if args.goal.build.is_some() {
            let here = args.project.clone().map_or_else(std::env::current_dir, Ok)?;
            this.add_sources(&here)?;
        }
        for directory in tree::sources(args) {
            this.add_sources(&directory)?;
        }
        Ok(this)
    }

    fn add(&mut self, directory: &Path, name: Option<&OsStr>) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        let id = inotify::add_watch(&self.inotify, directory, flags)?;
        let is_known = self.directories.contains_key(&id);
        let names = self.directories.entry(id).or_default();
        match name {
            Some(name) if !is_known || !names.is_empty() => names.push(name.to_owned()),
            Some(_) => {}
            None => names.clear(),
        }
        Ok(())
    }

    /// Adds every directory below one that a build may read; hidden ones have no sources.
    fn add_sources(&mut self, top: &Path) -> io::Result<()> {
        let mut pending = vec![top.to_owned()];
        while let Some(directory) = pending.pop() {
            if self.directories.len() >= MOST {
                return Err(io::Error::other("there are too many directories below this one"));
            }
            self.add(&directory, None)?;
            let entries: Vec<PathBuf> = std::fs::read_dir(&directory)?
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .filter(|entry| !entry.file_name().as_bytes().starts_with(b"."))
                .map(|entry| entry.path())
                .collect();
            pending.extend(entries);
        }
        Ok(())
    }

    /// Waits for a change for so long, and returns the name of the file.
    fn changed(&self, limit: Duration) -> Option<OsString> {
        let timeout = Timespec::try_from(limit).ok()?;
        let mut fds = [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap_or_default() == 0 {
            return None;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut found = None;
        while let Ok(event) = reader.next() {
            let Some(name) = event.file_name() else { continue };
            let name = OsStr::from_bytes(name.to_bytes());
            let names = self.directories.get(&event.wd());
            let counts =
                names.is_some_and(|names| names.is_empty() || names.iter().any(|one| one == name));
            if counts && !name.as_bytes().starts_with(b".") {
                found = Some(name.to_owned());
            }
        }
        found
    }

    /// Forgets what has changed so far.
    fn forget(&self) {
        while self.changed(Duration::ZERO).is_some() {}
    }

    /// Waits until nothing changes any more.
    fn settle(&self) {
        while self.changed(QUIET).is_some() {}
    }

    /// Ends the guest when something changes, as a signal would, until `is_over`.
    fn ring(&self, signals: &Signals, is_over: &AtomicBool, has_changed: &AtomicBool) {
        while !is_over.load(Ordering::Acquire) {
            if self.changed(TURN).is_some() {
                self.settle();
                has_changed.store(true, Ordering::Release);
                signals.ring();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::create_dir(path(".git")).unwrap();
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut watched = Watched { inotify, directories: BTreeMap::new() };
        watched.add(dir.path(), Some(OsStr::new("driver"))).unwrap();
        let soon = Duration::from_secs(5);
        let never = Duration::from_millis(20);
        std::fs::write(path("other"), "x").unwrap();
        assert_eq!(watched.changed(never), None);
        // As an editor or a linker does it.
        std::fs::write(path("new"), "x").unwrap();
        std::fs::rename(path("new"), path("driver")).unwrap();
        assert_eq!(watched.changed(soon), Some("driver".into()));
        watched.add_sources(dir.path()).unwrap();
        assert_eq!(watched.directories.len(), 2);
        std::fs::write(path("sub/source.c"), "x").unwrap();
        assert_eq!(watched.changed(soon), Some("source.c".into()));
        std::fs::write(path(".git/index"), "x").unwrap();
        std::fs::write(path("sub/.source.c.swp"), "x").unwrap();
        assert_eq!(watched.changed(never), None);
        std::fs::write(path("driver"), "x").unwrap();
        watched.forget();
        assert_eq!(watched.changed(never), None);
    }
}
