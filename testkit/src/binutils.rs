//! What binutils say of programs.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of a small program, from its first on, that its code lies in.
const CODE: u64 = 1 << 13;

/// Returns where the code of a line of a source file is in a small program, by addr2line(1): each
/// piece of it that is in one go.
///
/// # Panics
/// addr2line is missing, or fails.
pub fn code_of(program: &Path, file: &str, line: usize) -> Vec<Range<u64>> {
    let input = tempfile::NamedTempFile::new().expect("a file");
    let addresses: String = (0..CODE).map(|address| format!("{address:#x}\n")).collect();
    std::fs::write(input.path(), addresses).expect("the addresses");
    let told = Command::new("addr2line")
        .arg("-e")
        .arg(program)
        .stdin(Stdio::from(input.reopen().expect("the addresses")))
        .output()
        .expect("addr2line runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = String::from_utf8_lossy(&told.stdout);
    let wanted = format!("/{file}:{line}");
    let mut found: Vec<Range<u64>> = Vec::new();
    for (address, place) in (0..).zip(told.lines()) {
        let place = place.split(" (").next().unwrap_or_default();
        match found.last_mut() {
            _ if !place.ends_with(&wanted) => {}
            Some(last) if last.end == address => last.end += 1,
            _ => found.push(address..address + 1),
        }
    }
    found
}
