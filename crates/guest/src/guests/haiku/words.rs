//! Lines as bytes: what of them is text, and which may say something.

use std::borrow::Cow;

use haiku::{loading, serial};
use memchr::memchr;
use regex::bytes::Regex;

use super::goal::Quote;

/// Characters of a line that are quoted.
const QUOTED: usize = 300;
/// What the debugger says of the thread that it interrupted (src/system/kernel/debug/debug.cpp).
pub(super) const RUNNING: &str = " running on CPU ";

/// Tells lines that may say something of a run by the words in them, all at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(Option<Regex>);

impl Words {
    /// Returns what knows the words of Haiku, and those of a command with this marker.
    pub(super) fn new(marker: &str) -> Self {
        let words = serial::WORDS.iter().chain(&loading::WORDS).chain([&RUNNING]);
        let marker = Some(&marker).filter(|marker| !marker.is_empty());
        let words: Vec<_> = words.chain(marker).map(|word| regex::escape(word)).collect();
        // Without it every line is read, and as much is found.
        Self(Regex::new(&words.join("|")).ok())
    }

    /// Whether a line may say something. Words are of ASCII, so nothing need be known of the rest.
    pub(super) fn may_tell(&self, line: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|words| words.is_match(line))
    }
}

/// The last line with anything in it; most are replaced before anybody asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    number: u64,
    line: Vec<u8>,
}

impl Last {
    /// Takes a line, unless it is blank.
    pub(super) fn keep(&mut self, number: u64, line: &[u8]) {
        let is_blank = || String::from_utf8_lossy(line).trim().is_empty();
        if line.iter().any(u8::is_ascii_graphic) || !is_blank() {
            self.number = number;
            self.line.clear();
            self.line.extend_from_slice(line);
        }
    }

    /// Returns the line, if there was any.
    pub(super) fn quote(&self) -> Option<Quote> {
        let text = || quoted(&String::from_utf8_lossy(&self.line));
        (self.number > 0).then(|| Quote { line: self.number, text: text() })
    }
}

/// The beginning of a line, for a quotation.
pub(super) fn quoted(line: &str) -> String {
    line.trim_end().chars().take(QUOTED).collect()
}

/// A line without control sequences (ECMA-48 5.4) and the prefix that syslogd gives it.
pub(super) fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    const ESCAPE: u8 = 0x1b;
    let mut rest = line.strip_prefix(b"KERN: ").unwrap_or(line);
    let Some(mut at) = memchr(ESCAPE, rest) else { return rest.into() };
    let mut text = Vec::with_capacity(rest.len());
    loop {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(parameters) = rest.strip_prefix(b"[") {
            let end = parameters.iter().position(|byte| matches!(byte, b'@'..=b'~'));
            rest = end.map_or(&[], |end| &parameters[end + 1..]);
        }
        match memchr(ESCAPE, rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    text.extend_from_slice(rest);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_and_prefixes_are_no_part_of_a_line() {
        for (line, expected) in [
            ("\x1b[33medu:\x1b[0m hello", "edu: hello"),
            ("KERN: edu: hello", "edu: hello"),
            ("\x1b[2J\x1b[01;01Hx", "x"),
            ("cut \x1b[33", "cut "),
            ("\x1bcx", "cx"),
        ] {
            assert_eq!(plain(line.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn the_last_line_is_one_with_something_in_it() {
        let mut last = Last::default();
        assert_eq!(last.quote(), None);
        for (number, line) in [(1, "one \t"), (2, " \t"), (3, "\u{2003}")] {
            last.keep(number, line.as_bytes());
        }
        assert_eq!(last.quote(), Some(Quote { line: 1, text: "one".to_owned() }));
        last.keep(4, b"\xff");
        assert_eq!(last.quote(), Some(Quote { line: 4, text: "\u{fffd}".to_owned() }));
    }

    #[test]
    fn words_are_found_anywhere() {
        let words = Words::new("m4rk3r");
        for line in ["\u{fffd}PANIC: x", "a m4rk3r 0", "Thread 1 \"a\" running on CPU 0"] {
            assert!(words.may_tell(line.as_bytes()), "{line}");
        }
        for line in ["", "PANIC", "a line like any other"] {
            assert!(!words.may_tell(line.as_bytes()), "{line}");
        }
        assert!(!Words::new("").may_tell(b"anything"));
    }
}
