//! What stands out of a guest's serial line: the driver's own lines, that a driver was loaded or
//! not, and a panic.
//!
//! The line comes a few bytes at a time and is shown at once. So a line is styled by how it begins:
//! its first bytes are held back as long as they may be such a beginning, and no longer.

use anstyle::{AnsiColor, Style};

const OWN: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Beginnings of the kernel's own lines (`haiku::loading`, `haiku::serial`).
const KERNEL: [(&str, Style); 6] = [
    ("loaded driver ", GOOD),
    ("publish device: ", GOOD),
    ("Could not load kernel add-on ", BAD),
    ("PANIC: ", BAD),
    ("Welcome to Kernel Debugging Land", BAD),
    ("Double Fault!", BAD),
];

/// Styles lines of text as it comes.
#[derive(Debug)]
pub(super) struct Highlight {
    beginnings: Vec<(Vec<u8>, Style)>,
    /// The beginning of a line, while it is open whether it is one of those.
    held: Vec<u8>,
    is_in_line: bool,
    /// The style of the line at hand.
    style: Option<Style>,
}

impl Highlight {
    /// Returns what styles the lines of these drivers too.
    pub(super) fn new<'a>(drivers: impl Iterator<Item = &'a str>) -> Self {
        let own = drivers.map(|name| (name.as_bytes().to_vec(), OWN));
        let kernel = KERNEL.iter().map(|(text, style)| (text.as_bytes().to_vec(), *style));
        let beginnings = own.filter(|(name, _)| !name.is_empty()).chain(kernel).collect();
        Self { beginnings, held: Vec::new(), is_in_line: false, style: None }
    }

    /// Takes what may be shown, and returns it with styles.
    pub(super) fn feed(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for byte in text {
            match byte {
                b'\n' => {
                    out.append(&mut self.held);
                    out.extend(self.reset());
                    out.push(b'\n');
                    self.is_in_line = false;
                }
                byte if self.is_in_line => out.push(*byte),
                byte => {
                    self.held.push(*byte);
                    self.decide(&mut out);
                }
            }
        }
        out
    }

    /// Shows what is held back once it is known what it is.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let held = &self.held;
        let whole = self.beginnings.iter().find(|(beginning, _)| held.starts_with(beginning));
        let is_open = self.beginnings.iter().any(|(beginning, _)| beginning.starts_with(held));
        if whole.is_none() && is_open {
            return;
        }
        self.style = whole.map(|(_, style)| *style);
        if let Some(style) = self.style {
            out.extend(style.render().to_string().bytes());
        }
        out.append(&mut self.held);
        self.is_in_line = true;
    }

    /// Ends the style of a line.
    fn reset(&mut self) -> Vec<u8> {
        let style = self.style.take();
        style.map_or_else(Vec::new, |style| style.render_reset().to_string().into_bytes())
    }

    /// Returns what is still held back, and ends the style.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.held);
        out.extend(self.reset());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut highlight = Highlight::new(["mydriver"].into_iter());
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| highlight.feed(piece)).collect();
        out.extend(highlight.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_styled_by_its_beginning() {
        for (text, expected) in [
            ("mydriver: hello\nother\n", "\x1b[1mmydriver: hello\x1b[0m\nother\n"),
            ("loaded driver /x\n", "\x1b[32mloaded driver /x\x1b[0m\n"),
            ("loaded\nPANIC: x", "loaded\n\x1b[1m\x1b[31mPANIC: x\x1b[0m"),
            ("say mydriver: x\n\nkdebug> ", "say mydriver: x\n\nkdebug> "),
            ("mydri", "mydri"),
        ] {
            assert_eq!(shown(&[text.as_bytes()]), expected);
        }
    }

    #[test]
    fn a_prompt_is_shown_at_once() {
        let mut highlight = Highlight::new(["mydriver"].into_iter());
        assert_eq!(highlight.feed(b"kdebug> "), b"kdebug> ");
        assert_eq!(highlight.feed(b"\nmy"), b"\n");
        assert_eq!(highlight.feed(b"self"), b"myself");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_is_lost(
            text in "(mydriver|PANIC: |loaded driver |\n|[a-z ]){0,12}",
            size in 1_usize..5,
        ) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let styled = shown(&pieces);
            prop_assert_eq!(&styled, &shown(&[text.as_bytes()]));
            let bare = anstream::adapter::strip_str(&styled).to_string();
            prop_assert_eq!(bare, text);
        }
    }
}
