//! Signals that end a command, as something to wait for.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
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
    writer: UnixStream,
    is_real: Arc<AtomicBool>,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    /// Begins to catch.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn catch() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let is_real = Arc::new(AtomicBool::new(false));
        let own = writer.try_clone()?;
        let mut signals = Self { reader, writer: own, is_real, ids: Vec::new() };
        for signal in ENDING {
            // The flag first: whoever is woken by the other finds it.
            signals.ids.push(flag::register(signal, Arc::clone(&signals.is_real))?);
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

impl Signals {
    /// Makes the descriptor readable as a signal would.
    pub(crate) fn ring(&self) {
        // A socket that takes no more is readable already.
        drop((&self.writer).write(b"!"));
    }

    /// Whether a signal has come, and not only [`Signals::ring`].
    pub(crate) fn is_real(&self) -> bool {
        self.is_real.load(Ordering::Acquire)
    }

    /// Forgets what has made the descriptor readable.
    pub(crate) fn forget(&self) {
        while matches!((&self.reader).read(&mut [0; 64]), Ok(count) if count > 0) {}
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
