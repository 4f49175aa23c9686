//! What stands out of a guest's serial line: the scan of the card, the driver's own lines, that a
//! driver was loaded or not, and a panic.
//!
//! The line comes a few bytes at a time and is shown at once. So a line is styled by how it begins:
//! its first bytes are held back as long as they may be such a beginning, and no longer. Of a line
//! that tells of a PCI function only the whole shows whether it is the card's.

use std::sync::{Arc, OnceLock};

use anstyle::{AnsiColor, Style};
use haiku::loading::{Event, Place, event};

const OWN: Style = Style::new().bold();
const CARD: Style = AnsiColor::Cyan.on_default();
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
/// What a line begins with that names a PCI function, and those after it that tell of it
/// (src/add-ons/kernel/bus_managers/pci/pci_info.cpp).
const FUNCTION: &[u8] = b"PCI: [dom ";
const ABOUT: &[u8] = b"PCI:   ";
/// The longest line that is held back to its end, in bytes.
const LONGEST: usize = 200;

/// Where the guest sees the cards, once that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Cards(Arc<OnceLock<Vec<Place>>>);

impl Cards {
    /// Tells where they are; the first word counts.
    pub(super) fn are_at(&self, places: &[Place]) {
        self.0.get_or_init(|| places.to_vec());
    }

    /// Whether a line names one of them.
    fn are_named(&self, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let place = match event(line.trim_end()) {
            Some(Event::Function { place, .. }) => place,
            _ => return false,
        };
        self.0.get().is_some_and(|places| places.contains(&place))
    }
}

/// Styles lines of text as it comes.
#[derive(Debug)]
pub(super) struct Highlight {
    beginnings: Vec<(Vec<u8>, Style)>,
    cards: Cards,
    /// Whether the last function that was named is a card.
    is_card: bool,
    /// The beginning of a line, while it is open whether it is one of those.
    held: Vec<u8>,
    is_in_line: bool,
    /// The style of the line at hand.
    style: Option<Style>,
}

impl Highlight {
    /// Returns what styles the lines of these drivers and cards too.
    pub(super) fn new<'a>(drivers: impl Iterator<Item = &'a str>, cards: Cards) -> Self {
        let own = drivers.map(|name| (name.as_bytes().to_vec(), OWN));
        let kernel = KERNEL.iter().map(|(text, style)| (text.as_bytes().to_vec(), *style));
        let beginnings = own.filter(|(name, _)| !name.is_empty()).chain(kernel).collect();
        let (held, style) = (Vec::new(), None);
        Self { beginnings, cards, is_card: false, held, is_in_line: false, style }
    }

    /// Takes what may be shown, and returns it with styles.
    pub(super) fn feed(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for byte in text {
            match byte {
                b'\n' => {
                    out.append(&mut self.rest());
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
        if held.starts_with(FUNCTION) && held.len() < LONGEST {
            return;
        }
        let about = self.is_card.then_some((ABOUT, CARD));
        let known = self.beginnings.iter().map(|(beginning, style)| (&beginning[..], *style));
        let known = known.chain(about);
        let style = known.clone().find(|(beginning, _)| held.starts_with(beginning));
        let style = style.map(|(_, style)| style);
        let mut open = known.map(|(beginning, _)| beginning).chain([FUNCTION]);
        let is_open = style.is_none() && open.any(|beginning| beginning.starts_with(held));
        drop(open);
        if !is_open {
            self.begin(style, out);
        }
    }

    /// Shows the beginning of a line in its style.
    fn begin(&mut self, style: Option<Style>, out: &mut Vec<u8>) {
        self.style = style;
        if let Some(style) = style {
            out.extend(style.render().to_string().bytes());
        }
        out.append(&mut self.held);
        self.is_in_line = true;
    }

    /// Returns what is still held back of a line, and ends its style.
    fn rest(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.held.starts_with(FUNCTION) {
            self.is_card = self.cards.are_named(&self.held);
            self.begin(self.is_card.then_some(CARD), &mut out);
        }
        out.append(&mut self.held);
        if let Some(style) = self.style.take() {
            out.extend(style.render_reset().to_string().bytes());
        }
        out
    }

    /// Returns what is still held back, and ends the style.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.rest()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let cards = Cards::default();
        cards.are_at(&[Place { bus: 1, device: 2, function: 0 }]);
        let mut highlight = Highlight::new(["mydriver"].into_iter(), cards);
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
    fn the_scan_of_the_card_stands_out_of_that_of_others() {
        let function = |bus, device| {
            format!(
                "PCI: [dom 0, bus  {bus}] bus   {bus}, device  {device}, function  0: vendor \
                 1234, device 11e8, revision 10"
            )
        };
        let (card, other) = (function(1, 2), function(0, 2));
        let text = format!(
            "{other}\nPCI:   x\n{card}\r\nPCI:   class\nmydri: x\nPCI:   y\n{other}\nPCI:   z\nPCI: end\n"
        );
        let expected = format!(
            "{other}\nPCI:   x\n\x1b[36m{card}\r\x1b[0m\n\x1b[36mPCI:   class\x1b[0m\nmydri: x\n\
             \x1b[36mPCI:   y\x1b[0m\n{other}\nPCI:   z\nPCI: end\n"
        );
        assert_eq!(shown(&[text.as_bytes()]), expected);
        // What never ends is shown all the same.
        let mut highlight = Highlight::new(std::iter::empty(), Cards::default());
        let endless = format!("PCI: [dom {}", "x".repeat(1 << 20));
        assert_eq!(highlight.feed(endless.as_bytes()).len(), endless.len());
    }

    #[test]
    fn a_prompt_is_shown_at_once() {
        let mut highlight = Highlight::new(["mydriver"].into_iter(), Cards::default());
        assert_eq!(highlight.feed(b"kdebug> "), b"kdebug> ");
        assert_eq!(highlight.feed(b"\nmy"), b"\n");
        assert_eq!(highlight.feed(b"self"), b"myself");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_is_lost(
            text in "(mydriver|PANIC: |loaded driver |PCI: \\[dom |PCI:   |bus 1, device 2, function 0: vendor 1, device 1|\n|[a-z ]){0,12}",
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
