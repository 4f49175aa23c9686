//! A plan as a patch.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use similar::{ChangeTag, DiffOp, TextDiff};

use super::{Contents, FileChange, Plan};

/// Lines of context, as in every patch.
const CONTEXT: usize = 3;

/// Writes the plan: unified diffs that `patch -p1` applies, and the commands as `# run:` lines.
///
/// What a diff cannot say, the permission bits of a new file, is a line with `#` before it, which
/// patch skips.
///
/// # Errors
/// It cannot be written.
pub fn write_diff(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    for change in &plan.files {
        write_change(change, out)?;
    }
    for command in &plan.commands {
        writeln!(out, "# run: {command}")?;
    }
    Ok(())
}

/// Writes what changes in one file, as [`write_diff`] does.
///
/// # Errors
/// It cannot be written.
pub fn write_change(change: &FileChange, out: &mut dyn Write) -> io::Result<()> {
    let FileChange { path, before, after } = change;
    match (before, after) {
        (None, Some(after)) => {
            writeln!(out, "# mode: {:04o} {}", after.mode, named("", path).trim_end())?;
        }
        (Some(before), Some(after)) if before.mode != after.mode => {
            writeln!(out, "# mode: {:04o} {}", after.mode, named("", path).trim_end())?;
        }
        _ => {}
    }
    let bytes = |contents: &Option<Contents>| {
        contents.as_ref().map(|contents| contents.bytes.clone()).unwrap_or_default()
    };
    let (old, new) = (bytes(before), bytes(after));
    let name = |side: &str, contents: &Option<Contents>| match contents {
        Some(_) => named(side, path),
        None => "/dev/null".to_owned(),
    };
    // Only a newline ends a line for patch, which a carriage return does for the crate.
    let (old, new) = (lines(&old), lines(&new));
    let diff = TextDiff::configure().diff_slices(&old, &new);
    let hunks = diff.grouped_ops(CONTEXT);
    if !hunks.is_empty() {
        writeln!(out, "--- {}\n+++ {}", name("a", before), name("b", after))?;
    }
    // How many lines the hunks so far had, on each side.
    let (mut removed, mut added) = (0, 0);
    for hunk in hunks {
        // The crate's own places are not always right where it joined operations; but every hunk
        // that does not begin at the first line begins with context.
        let start = match hunk.first() {
            Some(operation @ DiffOp::Equal { .. }) => operation.old_range().start,
            _ => 0,
        };
        let changes: Vec<_> = hunk.iter().flat_map(|one| diff.iter_changes(one)).collect();
        let count = |other| changes.iter().filter(|change| change.tag() != other).count();
        let (old, new) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
        let new_start = (start + added).saturating_sub(removed);
        writeln!(out, "@@ -{} +{} @@", Range(start, old), Range(new_start, new))?;
        (removed, added) = (removed + old, added + new);
        for change in changes {
            write!(out, "{}", change.tag())?;
            out.write_all(change.value())?;
            if !change.value().ends_with(b"\n") {
                writeln!(out, "\n\\ No newline at end of file")?;
            }
        }
    }
    Ok(())
}

/// The lines of a hunk on one side: how many are before it, and how many it has.
struct Range(usize, usize);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(before, 0) => write!(f, "{before},0"),
            Self(before, 1) => write!(f, "{}", before + 1),
            Self(before, count) => write!(f, "{},{count}", before + 1),
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A name as patch reads it: what stands behind a space would be taken for a time, and what is no
/// plain text stands between quotes, as in C (GNU diffutils, "Unusual file names").
fn named(side: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let text = std::str::from_utf8(bytes).ok();
    if let Some(text) = text
        && !text.contains(|char: char| char.is_control() || "\"\\".contains(char))
    {
        let end = if text.contains(' ') { "\t" } else { "" };
        return format!("{side}{text}{end}");
    }
    let mut quoted = format!("\"{side}");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(quoted, "\\{byte:03o}")),
        }
    }
    quoted + "\""
}
