//! The turn of a helper: who may be writing for a lease, told across the death of its process.
//!
//! A write that has reached the kernel ends there, also when the process that asked for it is
//! killed. Whoever restores the card must not be overtaken by it. So a helper locks a file of its
//! lease before it looks whether it is still wanted, and holds the lock until its own end, which a
//! write that hangs puts off. The lock (flock(2)) belongs to the open file of the helper alone: the
//! process that started it never has it, and a process that died does not keep it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What is read of a lock's file, in bytes.
const LIMIT: u64 = 4096;

/// What a helper does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The helper's process id.
    pub pid: u32,
    /// The attribute that it writes.
    pub path: String,
    /// What it writes there.
    pub value: String,
}

/// A helper's turn: while it lasts, nobody restores the card of its lease. It ends when this is
/// dropped, or with the process.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Turn {
    /// Waits for the turn and says what it is for.
    ///
    /// # Errors
    /// The lease is gone, and its lock with it ([`io::ErrorKind::NotFound`]), or the lock cannot
    /// be used.
    pub fn take(lock: &Path, work: &Work) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(lock)?;
        file.lock()?;
        let text = serde_json::to_vec(work)?;
        file.set_len(0)?;
        file.write_all(&text)?;
        Ok(Self(file))
    }
}

/// Makes the lock of a lease, where it is not there yet.
pub(super) fn prepare(lock: &Path) -> io::Result<()> {
    // Who may read it may lock it.
    OpenOptions::new().append(true).create(true).mode(0o600).open(lock).map(drop)
}

/// How the turn stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No helper writes, and none that was started by a process that is gone will.
    Free,
    /// A helper is at work. What it does is told unless it has just begun.
    AtWork(Option<Work>),
    /// This process may not know.
    Unknown,
}

/// Looks whether a helper is at work, for at most `patience` until none is.
pub(super) fn look(lock: &Path, patience: Duration) -> io::Result<Standing> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Free),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Standing::Unknown);
        }
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Standing::Free),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    Ok(Standing::AtWork(serde_json::from_slice(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_turn_is_seen_while_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        assert_eq!(look(&lock, NOW).unwrap(), Standing::Free);
        let work = |value: &str| Work { pid: 7, path: "/sys/x".into(), value: value.into() };
        assert_eq!(
            Turn::take(&lock, &work("early")).unwrap_err().kind(),
            io::ErrorKind::NotFound,
            "a helper does not begin for a lease that is gone"
        );
        prepare(&lock).unwrap();
        assert_eq!(look(&lock, NOW).unwrap(), Standing::Free);
        for value in ["a longer value", "short"] {
            let turn = Turn::take(&lock, &work(value)).unwrap();
            assert_eq!(look(&lock, NOW).unwrap(), Standing::AtWork(Some(work(value))));
            drop(turn);
            assert_eq!(look(&lock, NOW).unwrap(), Standing::Free);
        }
    }

    #[test]
    fn the_end_of_a_turn_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        prepare(&lock).unwrap();
        let work = Work { pid: 7, path: "/sys/x".into(), value: "y".into() };
        let turn = Turn::take(&lock, &work).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(turn);
        });
        assert_eq!(look(&lock, Duration::from_secs(20)).unwrap(), Standing::Free);
        ends.join().unwrap();
    }

    #[test]
    fn what_the_file_holds_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        prepare(&lock).unwrap();
        let work = Work { pid: 7, path: "/sys/x".into(), value: "y".into() };
        let _turn = Turn::take(&lock, &work).unwrap();
        for junk in [&b""[..], b"{", &[0xff; 10_000]] {
            std::fs::write(&lock, junk).unwrap();
            assert_eq!(look(&lock, NOW).unwrap(), Standing::AtWork(None));
        }
    }
}
