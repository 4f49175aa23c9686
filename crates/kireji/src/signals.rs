//! Signals that end a command, as something to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// The signals after which a command cleans up and ends.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Catches the signals that would end this process, until it is dropped.
///
/// The descriptor becomes readable when one has come. Nothing is done in the handler itself: the
/// command is to notice, give back what it holds, and end.
#[derive(Debug)]
pub struct Signals {
    reader: UnixStream,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    /// Begins to catch.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn catch() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        let mut signals = Self { reader, ids: Vec::new() };
        for signal in ENDING {
            signals.ids.push(pipe::register(signal, writer.try_clone()?)?);
        }
        Ok(signals)
    }
}

impl Signals {
    /// Whether one has come.
    pub fn came(&self) -> bool {
        let mut polled = [PollFd::new(&self.reader, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            unregister(id);
        }
    }
}
