//! Following the guest by the file that keeps its serial line.
//!
//! The file, rather than the line itself: what drains the line must never wait, and a verdict that
//! comes from the file can be had from it again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::guests::{Observer, Sign};

/// What is read in one turn at most, in bytes: a guest that never stops talking must not keep
/// anybody from stopping it.
const TURN: usize = 256 << 10;

/// Shows an observer what the file has got since it looked last.
#[derive(Debug)]
pub(super) struct Follow<'a> {
    file: File,
    observer: &'a mut dyn Observer,
    is_behind: bool,
    buffer: Vec<u8>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(log: &Path, observer: &'a mut dyn Observer) -> io::Result<Self> {
        Ok(Self { file: File::open(log)?, observer, is_behind: false, buffer: vec![0; TURN] })
    }

    /// Whether there may be more than was read.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Who follows.
    pub(super) fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// Takes a turn, and returns what the guest said.
    pub(super) fn turn(&mut self) -> Vec<Sign> {
        let count = match self.file.read(&mut self.buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.is_behind = true;
                return Vec::new();
            }
            // A file that cannot be read shows nothing, and the run goes on.
            Err(_) => 0,
        };
        self.is_behind = count == TURN;
        self.observer.feed(&self.buffer[..count])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::guests::{Finding, Verdict};
    use crate::process::GuestEnd;

    #[derive(Debug, Default)]
    struct Count(usize);

    impl Observer for Count {
        fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
            self.0 += bytes.len();
            bytes.first().map(|_| Sign::Damaged).into_iter().collect()
        }

        fn judge(&self, _: GuestEnd) -> Verdict {
            Verdict::new(Finding::Done, "done")
        }
    }

    #[test]
    fn a_growing_file_is_read_once_and_a_turn_at_a_time() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut count = Count::default();
        let mut follow = Follow::new(file.path(), &mut count).unwrap();
        assert_eq!(follow.turn(), []);
        file.write_all(b"one").unwrap();
        assert_eq!(follow.turn(), [Sign::Damaged]);
        assert!(!follow.is_behind());
        file.write_all(&vec![b'x'; TURN + 1]).unwrap();
        assert_eq!(follow.turn(), [Sign::Damaged]);
        assert!(follow.is_behind());
        assert_eq!(follow.turn(), [Sign::Damaged]);
        assert!(!follow.is_behind());
        assert_eq!(follow.turn(), []);
        assert_eq!(count.0, TURN + 4);
    }
}
