//! Whether an unpacked tree has every library that its programs need.

use std::path::Path;

use anyhow::{Result, bail};

use super::tree::loader;
use crate::process;

/// What is run from the tree, on the host or inside rigs.
const PROGRAMS: [&str; 4] = [
    "usr/bin/qemu-system-x86_64",
    "usr/bin/qemu-img",
    "usr/bin/kmod",
    "usr/lib/x86_64-linux-gnu/qemu/accel-qtest.so",
];

/// Asks the tree's loader what each program would load, and returns an error where anything is
/// missing or would come from the machine instead.
pub fn check(root: &Path) -> Result<()> {
    for program in PROGRAMS.map(|program| root.join(program)) {
        let text = process::output(loader(root).arg("--list").arg(&program))?;
        if let Some(line) = text.lines().find(|line| is_foreign(line, root)) {
            bail!("{} would need {}, which was not unpacked", program.display(), line.trim());
        }
    }
    Ok(())
}

/// `libz.so.1 => /tree/usr/lib/x86_64-linux-gnu/libz.so.1 (0x7f…)`; the kernel's own vDSO has no
/// arrow.
fn is_foreign(line: &str, root: &Path) -> bool {
    match line.split_once("=>") {
        Some((_, target)) => !Path::new(target.trim()).starts_with(root),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_from_elsewhere_are_noticed() {
        let root = Path::new("/tree");
        assert!(!is_foreign("\tlinux-vdso.so.1 (0x00007f17bbb5a000)", root));
        assert!(!is_foreign("\tlibz.so.1 => /tree/usr/lib/libz.so.1 (0x1)", root));
        assert!(is_foreign("\tlibz.so.1 => /usr/lib/libz.so.1 (0x1)", root));
        assert!(is_foreign("\tlibz.so.1 => not found", root));
    }
}
