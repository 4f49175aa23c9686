//! What a guest wrote, as it may be shown.
//!
//! A terminal obeys what it is sent: a guest could set its title, move its cursor over what was
//! said before, or have it answer as if a person had typed. So of a guest's bytes text is shown,
//! ends of lines, tabs and styles (ECMA-48 8.3.117, SGR), and nothing else. Files keep every byte.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};

/// Lets through what may be shown of a stream, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    parser: Parser<DefaultCharAccumulator>,
    is_styled: bool,
}

impl Filter {
    /// Takes bytes and returns what may be shown of them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Shown { text: String::new(), is_styled: self.is_styled };
        for byte in bytes {
            // A sequence that was never ended must not swallow all that follows.
            if *byte == b'\n' {
                self.parser = Parser::default();
            }
            self.parser.advance(&mut shown, *byte);
        }
        self.is_styled = shown.is_styled;
        shown.text.into_bytes()
    }

    /// Returns what undoes the styles that are in force.
    pub(crate) fn reset(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.is_styled) { b"\x1b[0m" } else { b"" }
    }
}

/// Returns words of a guest without anything but text, on one line.
pub(crate) fn plain(words: &str) -> String {
    let mut text = Text(String::new());
    let mut parser = Parser::<DefaultCharAccumulator>::default();
    for byte in words.bytes() {
        parser.advance(&mut text, byte);
    }
    text.0
}

/// Returns JSON with what may not be shown escaped. JSON itself escapes less, and outside of its
/// strings there is nothing to escape.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_printable(c) {
            text.push(c);
        } else {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

/// Whether a character shows itself and leaves the order of others alone (Unicode's report 9,
/// "Directional Formatting Characters").
fn is_printable(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

struct Shown {
    text: String,
    is_styled: bool,
}

impl Perform for Shown {
    fn print(&mut self, c: char) {
        self.text.extend(is_printable(c).then_some(c));
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\t') {
            self.text.push(char::from(byte));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        // With an intermediate byte it is something else, such as a mode of the keyboard.
        if action != b'm' || ignore || !intermediates.is_empty() {
            return;
        }
        let params: Vec<String> = params
            .iter()
            .map(|parts| parts.iter().map(u16::to_string).collect::<Vec<_>>().join(":"))
            .collect();
        let params = params.join(";");
        self.is_styled = params != "0";
        self.text.push_str(&format!("\x1b[{params}m"));
    }
}

struct Text(String);

impl Perform for Text {
    fn print(&mut self, c: char) {
        self.0.extend(is_printable(c).then_some(c));
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\t') {
            self.0.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        String::from_utf8(Filter::default().feed(bytes)).unwrap()
    }

    #[test]
    fn text_and_styles_pass_and_nothing_else() {
        for (written, expected) in [
            (&b"one\r\n\ttwo"[..], "one\n\ttwo"),
            ("grüße, 日本".as_bytes(), "grüße, 日本"),
            (b"\x1b[33mdriver\x1b[0m", "\x1b[33mdriver\x1b[0m"),
            (b"\x1b[38:2:1:2:3;1m\x1b[m", "\x1b[38:2:1:2:3;1m\x1b[0m"),
            // Firmware clears the screen and places the cursor (a genuine beginning of OVMF's).
            (b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2JBdsDxe", "BdsDxe"),
            // The title, a file for the clipboard, a request to answer, its 8-bit form.
            (b"\x1b]0;title\x07a\x1b]52;c;QUJD\x1b\\b\x1b[6n\x1b[cc\xc2\x9b6nd", "abc6nd"),
            // Device control, a full reset, another character set, the alternate screen.
            (b"\x1bP$qm\x1b\\a\x1bcb\x1b(0c\x1b[?1049hd", "abcd"),
            // Not a style: a mode of the keyboard, and one of a device.
            (b"\x1b[>4;2ma\x1b[?1mb\x1b[1 mc", "abc"),
            (b"over\x08\x08\x08\x08write\rline\x00\x7f", "overwriteline"),
            ("safe\u{202e}gpj.exe\u{2066}".as_bytes(), "safegpj.exe"),
            // What is never ended ends with the line.
            (b"\x1b]0;endless\ntext \x1b[31\nmore", "\ntext \nmore"),
            // What is no UTF-8 swallows no end of a line.
            (b"a\xe6\x97\nb\xc3\nc", "a\nb\nc"),
        ] {
            assert_eq!(shown(written), expected, "{:?}", String::from_utf8_lossy(written));
        }
    }

    #[test]
    fn a_style_that_stays_is_undone_at_the_end() {
        let mut filter = Filter::default();
        filter.feed(b"\x1b[1;31mred");
        assert_eq!(filter.reset(), b"\x1b[0m");
        assert_eq!(filter.reset(), b"");
        filter.feed(b"\x1b[1;31mred\x1b[0m");
        assert_eq!(filter.reset(), b"");
    }

    #[test]
    fn words_of_a_guest_are_one_line_of_text() {
        assert_eq!(plain("a\x1b[31mb\x1b]0;x\x07\r\nc\td\u{9b}2J\u{202e}"), "ab c d2J");
    }

    #[test]
    fn json_shows_nothing_that_a_terminal_obeys_and_says_the_same() {
        let words = "a\u{9b}2J\u{7f}\u{202e}\n\x1b[31mé";
        let json = escaped(&serde_json::to_string(words).unwrap());
        assert_eq!(json, r#""a\u009b2J\u007f\u202e\n\u001b[31mé""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), words);
    }

    #[test]
    fn an_endless_sequence_takes_no_memory() {
        let mut filter = Filter::default();
        filter.feed(b"\x1b]0;");
        for _ in 0..64 {
            assert_eq!(filter.feed(&[b'x'; 64 << 10]), b"");
        }
        assert!(size_of_val(&filter) < 8 << 10, "the parser holds nothing elsewhere");
    }

    /// What is left behind text, ends of lines, tabs and styles.
    fn rest(mut text: &str) -> &str {
        while let Some(c) = text.chars().next() {
            let style = |text: &str| {
                let length = text
                    .strip_prefix("\x1b[")?
                    .find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
                text.get(2 + length..)?.strip_prefix('m').map(str::len)
            };
            text = match c {
                '\x1b' => match style(text) {
                    Some(left) => &text[text.len() - left..],
                    None => return text,
                },
                '\n' | '\t' => &text[1..],
                c if is_printable(c) => &text[c.len_utf8()..],
                _ => return text,
            };
        }
        text
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            Just(b"\x1b[".to_vec()),
            Just(b"\x1b]".to_vec()),
            Just(b"\x1bP".to_vec()),
            Just(b"\x1b\\".to_vec()),
            Just(b"\xc2\x9b".to_vec()),
            "[0-9;:?>]{0,6}[a-zA-Z]".prop_map(String::into_bytes),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_other_sequence_ever_passes(bytes in bytes()) {
            let text = shown(&bytes);
            prop_assert_eq!(rest(&text), "");
            let words = plain(&String::from_utf8_lossy(&bytes));
            prop_assert!(words.chars().all(is_printable));
        }

        #[test]
        fn pieces_do_not_matter(bytes in bytes(), size in 1_usize..7) {
            let mut filter = Filter::default();
            let pieces: Vec<u8> = bytes.chunks(size).flat_map(|piece| filter.feed(piece)).collect();
            prop_assert_eq!(pieces, Filter::default().feed(&bytes));
        }
    }
}
