//! A stream of bytes, line by line.

use memchr::memchr2;

/// The longest line that is kept, in bytes. A record of the reference guest holds a few dozen lines
/// of its kernel's log at most.
pub(crate) const LINE_LIMIT: usize = 256 << 10;

/// Cuts a stream into lines, whatever pieces it comes in. A line that is too long is left out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    is_overlong: bool,
}

impl Lines {
    /// Takes bytes, and shows each line that is whole and not empty, without its end.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut show: impl FnMut(&[u8])) {
        while let Some(at) = memchr2(b'\n', b'\r', bytes) {
            let (text, rest) = (&bytes[..at], &bytes[at + 1..]);
            // Most lines come whole, and need no copy.
            if self.line.is_empty() && !self.is_overlong && text.len() <= LINE_LIMIT {
                if !text.is_empty() {
                    show(text);
                }
            } else {
                self.append(text);
                if !std::mem::take(&mut self.is_overlong) {
                    show(&self.line);
                }
                self.line.clear();
            }
            bytes = rest;
        }
        self.append(bytes);
    }

    fn append(&mut self, text: &[u8]) {
        if self.line.len() + text.len() > LINE_LIMIT {
            self.is_overlong = true;
            self.line.clear();
        }
        if !self.is_overlong {
            self.line.extend_from_slice(text);
        }
    }

    /// Returns the line that has not ended yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| found.push(line.to_vec()));
        }
        (found, lines.rest().to_vec())
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_bounded() {
        let mut lines = Lines::default();
        for _ in 0..64 {
            lines.feed(&[b'x'; 16 << 10], |line| panic!("{} bytes", line.len()));
            assert!(lines.rest().len() <= LINE_LIMIT);
        }
        let mut found = Vec::new();
        lines.feed(b"end\nnext\n", |line| found.push(line.to_vec()));
        assert_eq!(found, [b"next"]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200),
            size in 1_usize..9,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&bytes]));
        }
    }
}
