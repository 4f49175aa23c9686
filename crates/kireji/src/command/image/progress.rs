//! How far a long copy is.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::human;

/// How often it is told.
pub(super) const OFTEN: Duration = Duration::from_secs(5);

/// Counts what is copied, and tells it by a line now and then: what takes less time says nothing.
pub(super) struct Progress<'a> {
    err: &'a mut dyn Write,
    often: Duration,
    last: Instant,
    files: u64,
    bytes: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(err: &'a mut dyn Write, often: Duration) -> Self {
        Self { err, often, last: Instant::now(), files: 0, bytes: 0 }
    }

    /// A file begins.
    pub(super) fn file(&mut self) {
        self.files += 1;
    }

    /// So many bytes of a disk of `total` are done.
    pub(super) fn of(&mut self, done: u64, total: u64) {
        if self.last.elapsed() >= self.often {
            self.last = Instant::now();
            // A terminal that has gone must not end a copy.
            drop(writeln!(self.err, "  {} of {}", human(done), human(total)));
        }
    }

    /// So many bytes of it were copied.
    pub(super) fn bytes(&mut self, length: usize) {
        self.bytes += length as u64;
        if self.last.elapsed() >= self.often {
            self.last = Instant::now();
            let files = if self.files == 1 { "file" } else { "files" };
            // A terminal that has gone must not end a copy.
            drop(writeln!(self.err, "  {} in {} {files}", human(self.bytes), self.files));
        }
    }
}

/// A file that is read, and counted.
pub(super) struct Counted<'a, 'b, R> {
    pub(super) inner: R,
    pub(super) progress: &'a mut Progress<'b>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.progress.bytes(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_told_and_nothing_else() {
        for (often, told) in [
            (Duration::ZERO, "  2.0 KiB in 1 file\n  1.0 KiB of 2.0 KiB\n  3.0 KiB in 2 files\n"),
            (Duration::from_secs(3600), ""),
        ] {
            let mut err = Vec::new();
            let mut progress = Progress::new(&mut err, often);
            progress.file();
            progress.bytes(2048);
            progress.file();
            progress.of(1024, 2048);
            let mut counted = Counted { inner: [7; 1024].as_slice(), progress: &mut progress };
            counted.read_exact(&mut [0; 1024]).unwrap();
            assert_eq!(String::from_utf8(err).unwrap(), told);
        }
    }
}
