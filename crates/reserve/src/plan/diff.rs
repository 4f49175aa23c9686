//! A plan as a patch.

use std::io::{self, Write};
use std::path::Path;

use similar::TextDiff;
use similar::udiff::UnifiedHunkHeader;

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
        write_file(change, out)?;
    }
    for command in &plan.commands {
        writeln!(out, "# run: {command}")?;
    }
    Ok(())
}

fn write_file(change: &FileChange, out: &mut dyn Write) -> io::Result<()> {
    let FileChange { path, before, after } = change;
    match (before, after) {
        (None, Some(after)) => {
            writeln!(out, "# mode: {:04o} {}", after.mode, path.display())?;
        }
        (Some(before), Some(after)) if before.mode != after.mode => {
            writeln!(out, "# mode: {:04o} {}", after.mode, path.display())?;
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
    let mut headed = false;
    for hunk in diff.grouped_ops(CONTEXT) {
        if !headed {
            writeln!(out, "--- {}\n+++ {}", name("a", before), name("b", after))?;
            headed = true;
        }
        writeln!(out, "{}", UnifiedHunkHeader::new(&hunk))?;
        for change in hunk.iter().flat_map(|operation| diff.iter_changes(operation)) {
            write!(out, "{}", change.tag())?;
            out.write_all(change.value())?;
            if !change.value().ends_with(b"\n") {
                writeln!(out, "\n\\ No newline at end of file")?;
            }
        }
    }
    Ok(())
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A name as patch reads it: what stands behind a space would be taken for a time.
fn named(side: &str, path: &Path) -> String {
    let path = path.display().to_string();
    let end = if path.contains(' ') { "\t" } else { "" };
    format!("{side}{path}{end}")
}
