//! Keeps the host from going to sleep while a guest has a card: it would not survive that.

use std::process::{Child, Command, Stdio};

/// Holds systemd's inhibitor lock until it is dropped, or this process ends in whatever way.
///
/// `systemd-inhibit` holds the lock as long as its command runs, and `cat` runs as long as its
/// standard input, a pipe of ours, is open.
pub(super) struct Inhibitor(Child);

impl Inhibitor {
    /// Takes the lock; `None` on a host without systemd, which has nothing to inhibit.
    pub(super) fn start() -> Option<Self> {
        Command::new("systemd-inhibit")
            .args(["--what=sleep", "--mode=block", "--who=kireji", "--why=A guest has a PCI card"])
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()
            .map(Self)
    }
}

impl Drop for Inhibitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself now; what it says no longer matters.
        drop(self.0.wait());
    }
}
