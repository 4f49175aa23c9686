//! A serial line's bytes, cut into lines of text.

use std::sync::LazyLock;

use memchr::memchr3;
use memchr::memmem::Finder;

/// The longest line that is kept, in bytes. The kernel formats a message into a buffer of 1024
/// (src/system/kernel/debug/debug.cpp, OUTPUT_BUFFER_SIZE).
const LIMIT: usize = 8 << 10;
/// So much of the end of a line without an end is kept, for something may begin in its middle.
const KEPT: usize = 512;
/// What the system logger puts before each piece of the kernel's output that it writes
/// (src/system/kernel/debug/debug.cpp, syslog_sender); a copy of the log can have it anywhere.
const LOGGER: &[u8] = b"KERN: ";

/// It is looked for in every line.
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(LOGGER));

const ESCAPE: u8 = 0x1b;

/// Where in a terminal's sequence the stream is (ECMA-48, 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// After ESC.
    Escape,
    /// After ESC `[`, until a byte from `@` to `~`.
    Parameters,
}

/// Cuts a stream into lines without terminal sequences, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    sequence: Sequence,
    is_prompt: bool,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A line that is whole and not empty, without its end.
    Line(&'a [u8]),
    /// The line that has begun is the prompt, or a command after it.
    Prompt,
}

impl Lines {
    /// Takes bytes, and shows what they make.
    pub(super) fn push(&mut self, mut bytes: &[u8], prompt: &[u8], mut show: impl FnMut(Cut<'_>)) {
        while !bytes.is_empty() {
            bytes = match self.sequence {
                Sequence::None => self.text(bytes, prompt, &mut show),
                Sequence::Escape => self.escape(bytes),
                Sequence::Parameters => self.parameters(bytes),
            };
        }
    }

    /// Shows the line that has not ended, at the end of the stream.
    pub(super) fn finish(&mut self, prompt: &[u8], mut show: impl FnMut(Cut<'_>)) {
        self.end(prompt, &mut show);
        *self = Self::default();
    }

    fn text<'a>(
        &mut self,
        bytes: &'a [u8],
        prompt: &[u8],
        show: &mut impl FnMut(Cut<'_>),
    ) -> &'a [u8] {
        let Some(at) = memchr3(b'\n', b'\r', ESCAPE, bytes) else {
            self.append(bytes, prompt, show);
            return &[];
        };
        let (text, rest) = (&bytes[..at], &bytes[at + 1..]);
        if bytes[at] == ESCAPE {
            self.append(text, prompt, show);
            self.sequence = Sequence::Escape;
        } else if self.line.is_empty() && text.len() <= LIMIT && !text.starts_with(prompt) {
            // Most lines come whole, and need no copy.
            show_line(text, prompt, show);
        } else {
            self.append(text, prompt, show);
            self.end(prompt, show);
        }
        rest
    }

    fn append(&mut self, text: &[u8], prompt: &[u8], show: &mut impl FnMut(Cut<'_>)) {
        for piece in text.chunks(LIMIT - KEPT) {
            if self.line.len() + piece.len() > LIMIT {
                let kept = self.line.len().saturating_sub(KEPT);
                self.line.drain(..kept);
                self.is_prompt = false;
            }
            self.line.extend_from_slice(piece);
            if !self.is_prompt && self.line.starts_with(prompt) {
                self.is_prompt = true;
                show(Cut::Prompt);
            }
        }
    }

    fn end(&mut self, prompt: &[u8], show: &mut impl FnMut(Cut<'_>)) {
        show_line(&self.line, prompt, show);
        self.line.clear();
        self.is_prompt = false;
    }

    fn escape<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.sequence =
            if bytes.first() == Some(&b'[') { Sequence::Parameters } else { Sequence::None };
        // What is no parameter may end the line.
        match bytes.first() {
            Some(b'[' | 0x20..=0x7e) => &bytes[1..],
            _ => bytes,
        }
    }

    fn parameters<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_parameter = |byte: &u8| matches!(byte, 0x20..=0x3f);
        let length = bytes.iter().take_while(|byte| is_parameter(byte)).count();
        let Some(last) = bytes.get(length) else { return &[] };
        self.sequence = Sequence::None;
        // A line that ends in the middle of a sequence has lost the rest of it.
        if (0x40..=0x7e).contains(last) { &bytes[length + 1..] } else { &bytes[length..] }
    }
}

fn show_line(whole: &[u8], prompt: &[u8], show: &mut impl FnMut(Cut<'_>)) {
    let line = if whole.starts_with(prompt) { whole } else { without_prefix(whole) };
    if line.is_empty() {
        return;
    }
    // What was put before it kept it from being known as it came.
    if line.len() < whole.len() && line.starts_with(prompt) {
        show(Cut::Prompt);
    }
    if FINDER.find(line).is_none() {
        return show(Cut::Line(line));
    }
    let line = without_logger(line);
    if !line.is_empty() {
        show(Cut::Line(&line));
    }
}

/// A line without what a program that records a line, or quotes it in a letter, puts before it:
/// seconds in brackets (`[   12.345678] `, as Linux's and other recorders do), or `> `.
fn without_prefix(line: &[u8]) -> &[u8] {
    if let Some(rest) = line.strip_prefix(b"> ") {
        return rest;
    }
    let Some(rest) = line.strip_prefix(b"[") else { return line };
    let length = rest.iter().take_while(|byte| matches!(byte, b' ' | b'.' | b'0'..=b'9')).count();
    let (seconds, rest) = rest.split_at(length);
    match rest.strip_prefix(b"] ") {
        Some(rest) if seconds.contains(&b'.') => rest,
        _ => line,
    }
}

/// A line without what the system logger put into it.
fn without_logger(line: &[u8]) -> Vec<u8> {
    let line = line.get(timestamp(line)..).unwrap_or_default();
    let mut text = Vec::with_capacity(line.len());
    let mut from = 0;
    for at in FINDER.find_iter(line) {
        text.extend_from_slice(&line[from..at]);
        from = at + LOGGER.len();
    }
    text.extend_from_slice(&line[from..]);
    text
}

/// Length of the date and time that a line of the system log begins with, with the space after it
/// (src/system/kernel/debug/syslog_daemon.cpp, `%Y-%m-%d %H:%M:%S`).
fn timestamp(line: &[u8]) -> usize {
    const SHAPE: &[u8] = b"0000-00-00 00:00:00 ";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    if line.len() > SHAPE.len() && line.iter().zip(SHAPE).all(fits) { SHAPE.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut show = |cut: Cut<'_>| {
            found.push(match cut {
                Cut::Line(line) => String::from_utf8_lossy(line).into_owned(),
                Cut::Prompt => "PROMPT".to_owned(),
            });
        };
        for piece in pieces {
            lines.push(piece, b"> ", &mut show);
        }
        lines.finish(b"> ", &mut show);
        found
    }

    #[test]
    fn sequences_and_what_the_logger_adds_are_left_out() {
        for (bytes, expected) in [
            (&b"one\r\ntwo\n\nthree"[..], &["one", "two", "three"][..]),
            (b"\x1b[33mwarm\x1b[0m\x1b[2J\n", &["warm"]),
            (b"a\x1b[3\nb\x1bMc\x1b\nd", &["a", "bc", "d"]),
            (b"KERN: PCI: pci 0000KERN: 4000\n", &["PCI: pci 00004000"]),
            (b"2026-11-22 12:00:00 KERN: PANIC: x\n", &["PANIC: x"]),
            (b"2026-11-22 12:00:00 no\n", &["2026-11-22 12:00:00 no"]),
            (b"x> \n> bt\nfoo\n> ", &["x> ", "PROMPT", "> bt", "foo", "PROMPT", "> "]),
        ] {
            assert_eq!(cut(&[bytes]), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_a_recorder_puts_before_each_line_is_left_out() {
        let frame = " 0 ffffffff8130f8c0 (+  32) ffffffff800ba2b7";
        for prefix in ["", "[    0.000001] ", "[12345.6] ", "> ", "[   1.5] KERN: "] {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            let mut show = |cut: Cut<'_>| found.push(format!("{cut:?}"));
            lines.push(format!("{prefix}{frame}\r\n{prefix}k> bt\n").as_bytes(), b"k> ", &mut show);
            lines.finish(b"k> ", &mut show);
            let line = |text: &str| format!("{:?}", Cut::Line(text.as_bytes()));
            // The logger has no prompt.
            let prompt = (!prefix.contains("KERN")).then(|| format!("{:?}", Cut::Prompt));
            let expected: Vec<_> = [line(frame)].into_iter().chain(prompt).collect();
            assert_eq!(found, [expected, vec![line("k> bt")]].concat(), "{prefix}");
        }
        for line in ["[dom 0] x", "[12] x", "[1.2]x", "[1.2", ">x", "[ext2] 1.5"] {
            assert_eq!(cut(&[line.as_bytes()]), [line]);
        }
    }

    #[test]
    fn a_line_without_end_is_bounded_and_its_end_is_kept() {
        let mut lines = Lines::default();
        for _ in 0..64 {
            lines.push(&[b'x'; 16 << 10], b"> ", |cut| panic!("{cut:?}"));
            assert!(lines.line.len() <= LIMIT);
        }
        let mut found = Vec::new();
        lines.push(b"PANIC: y\n", b"> ", |cut| {
            if let Cut::Line(line) = cut {
                found.push(line.to_vec());
            }
        });
        assert!(found[0].ends_with(b"xxPANIC: y"), "{}", found[0].escape_ascii());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(
                prop_oneof![
                    Just(b'\r'), Just(b'\n'), Just(b'>'), Just(b' '), Just(ESCAPE), Just(b'['),
                    Just(b'1'), any::<u8>()
                ],
                0..200,
            ),
            size in 1_usize..9,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(cut(&pieces), cut(&[&bytes]));
        }
    }
}
