//! The guest's serial line: always drained, kept in a file, shown to whoever wants it.
//!
//! A guest may stop sending for good if its line blocks once (Haiku's kernel gives up after 256 K
//! polls: src/system/kernel/arch/x86/arch_debug_console.cpp), so nothing that may block stands
//! between the socket and the read: showing and syncing have threads of their own, and what the
//! one that shows cannot take is not shown, but still in the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The least time between two moments at which what has come is made durable: often enough that
/// little is lost when the host goes down, seldom enough not to keep a disk busy.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);
/// Chunks that wait to be shown before the next are left out; each holds at most
/// [`CHUNK`] bytes.
const WAITING: usize = 1024;
const CHUNK: usize = 16 << 10;

/// Where the serial line is shown.
pub type Show = Box<dyn FnMut(Shown<'_>) + Send>;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Bytes, as they came.
    Bytes(&'a [u8]),
    /// So many bytes were left out here, because showing was too slow.
    LeftOut(u64),
    /// Nothing follows.
    End,
}

/// The line, being drained.
#[derive(Debug)]
pub struct Serial {
    first: Arc<OnceLock<Instant>>,
    drain: JoinHandle<(Option<io::Error>, u64)>,
    helpers: Vec<JoinHandle<()>>,
}

/// What can be said of the line at its end.
#[derive(Debug)]
pub struct Drained {
    /// When the first byte came.
    pub first: Option<Instant>,
    /// Why the file does not hold everything, if so.
    pub error: Option<io::Error>,
    /// How many bytes were left out at the end of what was shown.
    pub left_out: u64,
}

impl Serial {
    /// Starts to drain `line` into `file`, which is created where it is missing, and to `show`.
    /// Whenever bytes have come, and at the end, a byte is written to `bell`.
    ///
    /// # Errors
    /// The file cannot be opened, or a thread cannot be started.
    pub fn start(
        line: UnixStream,
        file: &Path,
        show: Option<Show>,
        bell: UnixStream,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(file)?;
        bell.set_nonblocking(true)?;
        let first = Arc::new(OnceLock::new());
        let mut helpers = Vec::new();
        let (changed, changes) = mpsc::sync_channel(1);
        let copy = file.try_clone()?;
        helpers.push(spawn("serial-sync", move || sync(&copy, &changes))?);
        let screen = match show {
            Some(show) => {
                let (sender, receiver) = mpsc::sync_channel(WAITING);
                helpers.push(spawn("serial-show", move || self::show(show, &receiver))?);
                Some(sender)
            }
            None => None,
        };
        let seen = Arc::clone(&first);
        let drain = spawn("serial", move || {
            let mut drain = Drain { file, screen, changed, left_out: 0, error: None };
            drain.run(line, &seen, &bell);
            drop((&bell).write(b"!"));
            (drain.error, drain.left_out)
        })?;
        Ok(Self { first, drain, helpers })
    }

    /// When the first byte came.
    pub fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    /// Waits until the line has ended and everything is kept and shown. What shows may hang for as
    /// long as it likes; it is waited for no longer than `limit`.
    pub fn finish(self, limit: Duration) -> Drained {
        // A panic in the thread would be a bug, whose trace is on standard error.
        let broken = |_| (Some(io::ErrorKind::Other.into()), 0);
        let (error, left_out) = self.drain.join().unwrap_or_else(broken);
        // Only now: the first byte may have come with the last.
        let first = self.first.get().copied();
        let deadline = Instant::now() + limit;
        for helper in self.helpers {
            while !helper.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Drained { first, error, left_out }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

struct Drain {
    file: File,
    screen: Option<SyncSender<Piece>>,
    changed: SyncSender<()>,
    left_out: u64,
    error: Option<io::Error>,
}

enum Piece {
    Bytes(Vec<u8>),
    LeftOut(u64),
}

impl Drain {
    fn run(&mut self, mut line: UnixStream, seen: &OnceLock<Instant>, bell: &UnixStream) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match line.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    // Only the first byte is timed.
                    let _ = seen.set(Instant::now());
                    self.keep(&chunk[..count]);
                    // A bell that is full has been rung, and if nobody listens, nobody waits.
                    drop((&*bell).write(b"!"));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other end of a socket may go with an error instead of an end.
                Err(_) => break,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        // A full disk must not stop the guest: the rest is drained and shown all the same.
        if self.error.is_none() {
            self.error = self.file.write_all(bytes).err();
        }
        // A change that waits already covers this one.
        let _ = self.changed.try_send(());
        let Some(screen) = &self.screen else { return };
        if self.left_out > 0 && screen.try_send(Piece::LeftOut(self.left_out)).is_ok() {
            self.left_out = 0;
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.left_out > 0 {
            self.left_out = self.left_out.saturating_add(length);
            return;
        }
        match screen.try_send(Piece::Bytes(bytes.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.left_out = length,
            Err(TrySendError::Disconnected(_)) => self.screen = None,
        }
    }
}

fn show(mut show: Show, pieces: &Receiver<Piece>) {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => show(Shown::Bytes(&bytes)),
            Piece::LeftOut(count) => show(Shown::LeftOut(count)),
        }
    }
    show(Shown::End);
}

/// Makes the file durable whenever something has come, but not all the time.
fn sync(file: &File, changes: &Receiver<()>) {
    while changes.recv().is_ok() {
        // A disk that cannot sync will not be better for being told; the bytes are in the file.
        drop(file.sync_data());
        std::thread::sleep(SYNC_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Line {
        guest: UnixStream,
        bell: UnixStream,
        serial: Serial,
        dir: tempfile::TempDir,
    }

    fn line(show: Option<Show>) -> Line {
        let dir = tempfile::tempdir().unwrap();
        let (guest, ours) = UnixStream::pair().unwrap();
        let (bell, rope) = UnixStream::pair().unwrap();
        let serial = Serial::start(ours, &dir.path().join("serial.log"), show, rope).unwrap();
        Line { guest, bell, serial, dir }
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn every_byte_is_kept_and_shown_and_the_first_is_timed() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        let has_ended = Arc::new(Mutex::new(false));
        let ended = Arc::clone(&has_ended);
        let mut l = line(Some(Box::new(move |piece| match piece {
            Shown::Bytes(bytes) => screen.lock().unwrap().extend_from_slice(bytes),
            Shown::LeftOut(count) => panic!("{count} bytes left out"),
            Shown::End => *ended.lock().unwrap() = true,
        })));
        assert_eq!(l.serial.first(), None);
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        l.guest.write_all(&bytes).unwrap();
        l.bell.read_exact(&mut [0]).unwrap();
        assert!(l.serial.first().is_some());
        drop(l.guest);
        let drained = l.serial.finish(SOON);
        assert!(drained.first.is_some() && drained.error.is_none());
        assert_eq!(std::fs::read(l.dir.path().join("serial.log")).unwrap(), bytes);
        assert_eq!(*shown.lock().unwrap(), bytes);
        assert!(*has_ended.lock().unwrap());
    }

    #[test]
    fn a_screen_that_hangs_does_not_stop_the_line() {
        let (release, gate) = mpsc::channel::<()>();
        let shown = Arc::new(Mutex::new((0, 0)));
        let counts = Arc::clone(&shown);
        let mut l = line(Some(Box::new(move |piece| {
            let _ = gate.recv();
            let mut counts = counts.lock().unwrap();
            match piece {
                Shown::Bytes(bytes) => counts.0 += bytes.len(),
                Shown::LeftOut(count) => counts.1 += usize::try_from(count).unwrap(),
                Shown::End => {}
            }
        })));
        let chunk = [b'x'; CHUNK];
        let chunks = 3 * WAITING;
        for _ in 0..chunks {
            l.guest.write_all(&chunk).unwrap();
        }
        drop(release);
        drop(l.guest);
        let drained = l.serial.finish(SOON);
        let kept = std::fs::metadata(l.dir.path().join("serial.log")).unwrap().len();
        assert_eq!(usize::try_from(kept).unwrap(), chunks * CHUNK);
        let (bytes, left_out) = *shown.lock().unwrap();
        let left_out = left_out + usize::try_from(drained.left_out).unwrap();
        assert!(left_out > 0 && bytes > 0, "{bytes} shown, {left_out} left out");
        assert_eq!(bytes + left_out, chunks * CHUNK);
    }

    #[test]
    fn a_full_disk_is_told_and_does_not_stop_the_line() {
        let (guest, ours) = UnixStream::pair().unwrap();
        let (_bell, rope) = UnixStream::pair().unwrap();
        let serial = Serial::start(ours, Path::new("/dev/full"), None, rope).unwrap();
        for _ in 0..100 {
            (&guest).write_all(&[b'x'; 4096]).unwrap();
        }
        drop(guest);
        let error = serial.finish(SOON).error.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
