//! A stream that can be looked ahead into, and one that ends with an error instead of too late.

use std::io::{self, BufRead, Read};

const BUFFER: usize = 64 << 10;

/// A buffered stream that counts what was consumed.
///
/// Unlike the standard library's, it can look ahead across the end of its buffer: where one part
/// of an image ends is told by the first bytes of the next.
#[derive(Debug)]
pub(super) struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER], start: 0, end: 0, consumed: 0 }
    }

    /// How many bytes were consumed.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Returns the next `count` bytes without consuming them, fewer where the stream ends.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= BUFFER, "no more than the buffer holds");
        if self.buffer.len() - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }

    /// Consumes zero bytes up to the first other one.
    pub(super) fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.fill_buf()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let at_other = zeros < bytes.len() || bytes.is_empty();
            self.consume(zeros);
            if at_other {
                return Ok(());
            }
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        self.consumed = self.consumed.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// A stream that fails once it gave more than it may: a few kilobytes can unpack to anything.
#[derive(Debug)]
pub(super) struct Bounded<'a, R> {
    pub(super) inner: R,
    /// How many bytes may still come, shared by all parts of an image.
    pub(super) left: &'a mut u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        *self.left = u64::try_from(count)
            .ok()
            .and_then(|count| self.left.checked_sub(count))
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to too much"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of one to three.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 3 + 1;
            let count = self.1.min(into.len()).min(self.0.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn looking_ahead_consumes_nothing() {
        let mut input = Input::new(Trickle(b"\0\0\0abcdef", 0));
        input.skip_zeros().unwrap();
        assert_eq!(input.consumed(), 3);
        assert_eq!(input.peek(4).unwrap(), b"abcd");
        let mut all = Vec::new();
        input.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"abcdef");
        assert_eq!(input.peek(4).unwrap(), b"");
        assert_eq!(input.consumed(), 9);
    }

    #[test]
    fn looking_ahead_reaches_across_the_buffer() {
        let bytes: Vec<u8> = (0..BUFFER + 8).map(|index| index.to_le_bytes()[0]).collect();
        let mut input = Input::new(&bytes[..]);
        input.read_exact(&mut vec![0; BUFFER - 2]).unwrap();
        assert_eq!(input.peek(8).unwrap(), &bytes[BUFFER - 2..BUFFER + 6]);
    }

    #[test]
    fn too_much_is_an_error() {
        let mut left = 5;
        let mut bounded = Bounded { inner: &b"123456"[..], left: &mut left };
        assert!(bounded.read_to_end(&mut Vec::new()).is_err());
    }
}
