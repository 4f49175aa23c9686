//! Tables of text, fitted to the terminal.

use std::io::{self, BufWriter, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: &str = "  ";
/// The last column gives way before another is left out, down to this width.
const LAST_LEAST: usize = 24;

/// A table: every column is as wide as it needs, the last one takes what is left.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    optional: Vec<usize>,
}

impl Table {
    /// Returns a table with its heading.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()], optional: Vec::new() }
    }

    /// Lets a column be left out, in the order of these calls, where the terminal is too narrow.
    pub fn optional(&mut self, column: usize) {
        self.optional.push(column);
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Writes the table, in at most `width` columns if given.
    ///
    /// # Errors
    /// The stream cannot be written.
    pub fn write(mut self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        let mut widths = self.widths();
        let mut shown: Vec<usize> = (0..widths.len()).collect();
        let Some(last) = shown.last().copied() else { return Ok(()) };
        if let Some(width) = width {
            let fixed = |shown: &[usize], widths: &[usize]| {
                let columns = shown.iter().filter(|column| **column != last);
                columns.map(|column| widths[*column] + GAP.len()).sum::<usize>()
            };
            for column in &self.optional {
                if fixed(&shown, &widths) + widths[last].min(LAST_LEAST) > width {
                    shown.retain(|shown| shown != column);
                }
            }
            let left = width.saturating_sub(fixed(&shown, &widths)).max(1);
            widths[last] = widths[last].min(left);
        }
        let mut out = BufWriter::new(out);
        for row in &mut self.rows {
            let mut line = String::new();
            for column in &shown {
                let cell = clipped(&row[*column], widths[*column]);
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', widths[*column].saturating_sub(cell.width())));
                line.push_str(GAP);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(row.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }
}

/// Returns `text` in at most `width` columns, with an ellipsis where it was cut.
fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(width: Option<usize>) -> String {
        let mut table = Table::new(["ADDRESS", "IDS", "SUBSYSTEM", "NAME"]);
        table.optional(2);
        table.row(
            ["00:1f.2", "8086:2922", "1af4:1100", "ICH9 SATA Controller [AHCI mode]"]
                .map(str::to_owned),
        );
        let mut out = Vec::new();
        table.write(&mut out, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_wide_table_keeps_everything() {
        assert_eq!(
            sample(None),
            "ADDRESS  IDS        SUBSYSTEM  NAME\n\
             00:1f.2  8086:2922  1af4:1100  ICH9 SATA Controller [AHCI mode]\n"
        );
    }

    #[test]
    fn a_narrow_one_leaves_out_and_cuts() {
        assert_eq!(
            sample(Some(50)),
            "ADDRESS  IDS        NAME\n\
             00:1f.2  8086:2922  ICH9 SATA Controller [AHCI mo…\n"
        );
        assert!(sample(Some(50)).lines().all(|line| line.width() <= 50));
    }
}
