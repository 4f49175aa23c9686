//! What the debug server says of a program that crashed: its stack
//! (src/servers/debug/DebugServer.cpp, `_PrintStackTrace` and `_LookupSymbolAddress`).

use std::fmt;

use crate::symbols::demangle;

/// A function of a program's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The address that it was at, or that it returns to.
    pub address: u64,
    /// Where that is, as far as the debug server knows it.
    pub place: Place,
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a function, so many bytes behind its beginning.
    Function {
        /// Its name, demangled.
        name: String,
        /// The bytes.
        offset: u64,
    },
    /// Behind a function whose name is known, in one whose name is not.
    Near(String),
    /// In an image or an area, so many bytes behind its beginning.
    Image {
        /// Its name.
        name: String,
        /// The bytes.
        offset: u64,
    },
    /// Nowhere that is known.
    Unknown,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, place } = self;
        match place {
            Place::Function { name, offset } => write!(f, "{address:#x} {name}+{offset:#x}"),
            Place::Near(name) => write!(f, "{address:#x} (nearest: {name})"),
            Place::Image { name, offset } => write!(f, "{address:#x} {name}+{offset:#x}"),
            Place::Unknown => write!(f, "{address:#x}"),
        }
    }
}

/// Reads a line of a program's stack: `stack trace, current PC ADDRESS  PLACE:`, the first, or
/// `  (FRAME)  ADDRESS  PLACE`.
pub fn frame(line: &str) -> Option<Frame> {
    let line = line.trim_end();
    let rest = match line.strip_prefix("stack trace, current PC ") {
        Some(rest) => rest.strip_suffix(':')?,
        None => line.strip_prefix("  (0x")?.split_once(")  ")?.1,
    };
    let (address, place) = rest.split_once("  ").unwrap_or((rest.trim_end(), ""));
    let address = hex(address)?;
    Some(Frame { address, place: place_of(place.trim()) })
}

fn place_of(text: &str) -> Place {
    let inside = |text: &str| {
        let (name, offset) = text.rsplit_once(" + ")?;
        Some((name.to_owned(), hex(offset)?)).filter(|(name, _)| !name.is_empty())
    };
    let image = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    // A closest symbol ends with a bracket too, and begins with none.
    if let Some((name, offset)) = image.and_then(inside) {
        return Place::Image { name, offset };
    }
    if let Some((name, _)) = text.strip_suffix(" (closest symbol)").and_then(inside) {
        return Place::Near(demangle(&name));
    }
    match inside(text) {
        Some((name, offset)) => Place::Function { name: demangle(&name), offset },
        None => Place::Unknown,
    }
}

fn hex(text: &str) -> Option<u64> {
    // `%#lx` writes a zero without its prefix.
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_a_stack_are_told_apart() {
        for (line, expected) in [
            (
                "stack trace, current PC 0x1b2c  _ZN7BWindow4ShowEv + 0x1a:",
                Some("0x1b2c BWindow::Show()+0x1a"),
            ),
            ("stack trace, current PC 0x10  :", Some("0x10")),
            ("  (0x7f00)  0x1b2c  main + 0x20\r", Some("0x1b2c main+0x20")),
            ("  (0x7f00)  0x1b2c  find + 0x99 (closest symbol)", Some("0x1b2c (nearest: find)")),
            ("  (0x7f00)  0x1b2c  (/boot/home/test + 0x99)", Some("0x1b2c /boot/home/test+0x99")),
            ("  (0x7f00)  0x1b2c  (heap + 0)", Some("0x1b2c heap+0x0")),
            ("  (0x7f00)  0x1b2c  ", Some("0x1b2c")),
            ("  (0x7f00)  0x1b2c  operator+ + 0x3", Some("0x1b2c operator++0x3")),
            ("  (nothing)  0x1", None),
            ("stack trace for thread 27", None),
            ("  (0x7f00)  main", None),
            ("", None),
        ] {
            assert_eq!(frame(line).map(|frame| frame.to_string()).as_deref(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(stack trace, current PC |  \\(0x|\\)  |[()+: 0-9a-fx]){0,12}.*") {
            drop(frame(&line).map(|frame| frame.to_string()));
        }
    }
}
