//! Keeps the host from going to sleep while a guest has a card: it would not survive that.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use host::Sysroot;
use rustix::event::{PollFd, PollFlags, Timespec};

/// The directory by which a host shows that systemd runs it (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// How long systemd may take to give the lock; it takes milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// Holds systemd's inhibitor lock until it is dropped, or this process ends in whatever way.
///
/// `systemd-inhibit` holds the lock as long as its command runs, and `cat` runs as long as its
/// standard input, a pipe of ours, is open.
#[derive(Debug)]
pub(super) struct Inhibitor {
    child: Child,
    input: Option<ChildStdin>,
}

impl Inhibitor {
    /// Takes the lock; `None` on a host without systemd, which has nothing to inhibit.
    ///
    /// # Errors
    /// The lock is not had.
    pub(super) fn start(host: &Sysroot) -> Option<io::Result<Self>> {
        let limit = LIMIT;
        host.exists(SYSTEMD).then(|| Self::with(OsStr::new("systemd-inhibit"), limit))
    }

    fn with(program: &OsStr, limit: Duration) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["--what=sleep", "--mode=block", "--who=kireji", "--why=A guest has a PCI card"])
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Keys of the terminal that stop the guest must not end it before the card is back.
            .process_group(0)
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut inhibitor = Self { child, input };
        let (Some(input), Some(mut output)) = (&mut inhibitor.input, output) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        // `cat` is started once the lock is had: what comes back through it is the proof.
        input.write_all(b"\n")?;
        let timeout = Timespec::try_from(limit).ok();
        let mut polled = [PollFd::new(&output, PollFlags::IN)];
        if rustix::event::poll(&mut polled, timeout.as_ref())? == 0 {
            drop(inhibitor.child.kill());
            return Err(io::ErrorKind::TimedOut.into());
        }
        if output.read(&mut [0])? == 0 {
            inhibitor.input = None;
            let status = inhibitor.child.wait()?;
            return Err(io::Error::other(format!("systemd-inhibit ended with {status}")));
        }
        Ok(inhibitor)
    }
}

impl Drop for Inhibitor {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself now; what it says no longer matters.
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn program(dir: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = dir.path().join("systemd-inhibit");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let (ended, said) = (dir.path().join("ended"), log.display());
        let script =
            format!("echo \"$@\" > {said}\nfor last; do :; done\n$last\n: > {}", ended.display());
        let inhibitor =
            Inhibitor::with(program(&dir, &script).as_os_str(), Duration::from_secs(20)).unwrap();
        let words = std::fs::read_to_string(&log).unwrap();
        assert!(words.starts_with("--what=sleep --mode=block --who=kireji"), "{words}");
        assert!(!ended.exists());
        drop(inhibitor);
        assert!(ended.exists());
    }

    #[test]
    fn a_lock_that_is_not_had_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let with = |script: &str, limit| {
            let program = program(&dir, script);
            Inhibitor::with(program.as_os_str(), limit).map(drop).unwrap_err()
        };
        // Who is denied the lock is told so on standard error.
        let denied = with("read line; exit 1", Duration::from_secs(20));
        assert!(denied.to_string().contains("exit status: 1"), "{denied}");
        let slow = with("exec sleep 60", Duration::from_millis(50));
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
        let absent = dir.path().join("none");
        let absent = Inhibitor::with(absent.as_os_str(), LIMIT).map(drop).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }
}
