//! Lines of the source around one that matters.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::super::image::shown;

/// Lines that are shown before and after.
const AROUND: u32 = 2;
/// Bytes of a source file that are read; what is larger was written by a program.
const LARGEST: u64 = 8 << 20;
/// Characters of a line that are shown.
const WIDEST: usize = 160;

/// Some lines with their numbers.
pub(super) struct Source {
    lines: Vec<(u32, String)>,
    line: u32,
}

impl Source {
    /// Reads the lines around one, if the file is there and has as many.
    pub(super) fn around(file: &str, line: u32) -> Option<Self> {
        let path = Path::new(file);
        // A pipe of this name would not end.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let reader = BufReader::new(File::open(path).ok()?.take(LARGEST));
        let first = line.saturating_sub(AROUND).max(1);
        let last = line.saturating_add(AROUND);
        let mut lines = Vec::new();
        for (number, text) in (1..=last).zip(reader.split(b'\n')) {
            let text = text.ok()?;
            if number >= first {
                let text = String::from_utf8_lossy(&text).replace('\t', "    ");
                let text: String = shown(text.trim_end().as_bytes()).chars().take(WIDEST).collect();
                lines.push((number, text));
            }
        }
        lines.iter().any(|(number, _)| *number == line).then_some(Self { lines, line })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.last().map_or(1, |(number, _)| number.to_string().len());
        for (number, text) in &self.lines {
            let mark = if *number == self.line { '>' } else { ' ' };
            writeln!(f, "{}", format!("  {mark} {number:width$} | {text}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_among_its_neighbours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n\ttwo\x1b[2J\r\nthree\n\nfive\nsix\n").unwrap();
        let path = file.path().to_str().unwrap();
        let text = |line| Source::around(path, line).map(|source| source.to_string());
        assert_eq!(
            text(3).as_deref(),
            Some("    1 | one\n    2 |     two?[2J\n  > 3 | three\n    4 |\n    5 | five\n")
        );
        assert_eq!(text(1).as_deref(), Some("  > 1 | one\n    2 |     two?[2J\n    3 | three\n"));
        assert_eq!(text(7), None);
        assert!(Source::around("/no/such/file.c", 1).is_none());
        assert!(Source::around("/", 1).is_none());
    }
}
