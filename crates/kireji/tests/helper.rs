//! The helper process that writes to sysfs, as a program: what it locks, and whom it follows.
//!
//! A pipe with a name stands for an attribute whose write hangs: it blocks until somebody reads.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use vfio::take::Work;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a helper of `parent` that writes `word` to `attribute`.
fn helper(parent: u32, lock: &Path, attribute: &Path) -> Killed {
    let child = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["internal", "write-sysfs", &format!("--parent={parent}"), "--lock"])
        .arg(lock)
        .arg("--")
        .arg(attribute)
        .arg("word")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Killed(child.expect("kireji starts"))
}

fn is_locked(lock: &Path) -> bool {
    File::open(lock).expect("the lock is there").try_lock().is_err()
}

fn settles(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_holds_its_lock_as_long_as_its_write_lasts() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lock, attribute) = (dir.path().join("lock"), dir.path().join("attribute"));
    File::create(&lock).expect("a file");
    rustix::fs::mknodat(CWD, &attribute, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .expect("a pipe");
    let mut helper = helper(std::process::id(), &lock, &attribute);
    settles("the helper takes its turn", || is_locked(&lock));
    let text = || std::fs::read_to_string(&lock).expect("the lock is read");
    settles("it says what it does", || !text().is_empty());
    let work: Work = serde_json::from_str(&text()).expect("what it does");
    let path = attribute.to_string_lossy().into_owned();
    assert_eq!(work, Work { pid: helper.0.id(), path, value: "word".into() });

    let mut read = String::new();
    File::open(&attribute).and_then(|mut pipe| pipe.read_to_string(&mut read)).expect("its word");
    assert_eq!(read, "word");
    assert!(helper.0.wait().expect("it ends").success());
    assert!(!is_locked(&lock));
}

#[test]
fn it_writes_for_nobody_but_its_living_parent() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lock, attribute) = (dir.path().join("lock"), dir.path().join("attribute"));
    File::create(&lock).expect("a file");
    std::fs::write(&attribute, "as it was").expect("a file");
    // A process that lives, but is not the parent, and one that is gone.
    for stranger in [1, u32::MAX >> 1] {
        let status = helper(stranger, &lock, &attribute).0.wait().expect("it ends");
        assert!(!status.success());
    }
    // Nor for a lease that is gone.
    let gone = dir.path().join("gone");
    assert!(!helper(std::process::id(), &gone, &attribute).0.wait().expect("it ends").success());
    assert!(!gone.exists());
    assert_eq!(std::fs::read_to_string(&attribute).expect("the file"), "as it was");
    let status = helper(std::process::id(), &lock, &attribute).0.wait().expect("it ends");
    assert!(status.success());
}

#[test]
fn it_waits_for_its_turn() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lock, attribute) = (dir.path().join("lock"), dir.path().join("attribute"));
    let other = File::create(&lock).expect("a file");
    std::fs::write(&attribute, "as it was").expect("a file");
    other.lock().expect("nobody else has it");
    let mut helper = helper(std::process::id(), &lock, &attribute);
    std::thread::sleep(Duration::from_millis(200));
    assert!(helper.0.try_wait().expect("a child").is_none(), "it does not wait");
    assert_eq!(std::fs::read_to_string(&attribute).expect("the file"), "as it was");
    drop(other);
    assert!(helper.0.wait().expect("it ends").success());
    assert!(std::fs::read_to_string(&attribute).expect("the file").starts_with("word"));
}
