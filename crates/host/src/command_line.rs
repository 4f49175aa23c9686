//! Kernel command lines: words that white space separates, but not between double quotes
//! (lib/cmdline.c, next_arg).

use std::ops::Range;

/// The words of a command line, as they are written.
pub fn split(line: &str) -> Vec<&str> {
    ranges(line).into_iter().map(|range| &line[range]).collect()
}

/// Whether two words say the same: in the name of a parameter `-` and `_` are one
/// (kernel/params.c, parameq).
pub fn is_same(one: &str, other: &str) -> bool {
    let parts = |word: &str| match word.split_once('=') {
        Some((name, value)) => (name.replace('-', "_"), Some(value.to_owned())),
        None => (word.replace('-', "_"), None),
    };
    parts(one) == parts(other)
}

/// Returns the value of a parameter, the last where there are several; the empty text where it
/// has none.
pub fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    split(line).into_iter().rev().find_map(|word| {
        let word = word.trim_matches('"');
        let (found, value) = word.split_once('=').unwrap_or((word, ""));
        is_same(found, name).then_some(value.trim_matches('"'))
    })
}

/// Where the words of a command line are.
pub fn ranges(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut quoted = false;
    for (at, char) in line.char_indices() {
        if char.is_ascii_whitespace() && !quoted {
            found.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        quoted ^= char == '"';
    }
    found.extend(start.map(|start| start..line.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_the_kernel_does() {
        let line = "root=/dev/sda1  dyndbg=\"file a +p\"\tquiet\n";
        assert_eq!(split(line), ["root=/dev/sda1", "dyndbg=\"file a +p\"", "quiet"]);
        assert_eq!(split(" \n"), Vec::<&str>::new());
        assert!(is_same("vfio-pci.ids=1:2", "vfio_pci.ids=1:2"));
        assert!(!is_same("a=b-c", "a=b_c") && !is_same("a", "a="));
    }

    #[test]
    fn the_last_value_counts() {
        let line = "iommu=pt \"a=b c\" kireji.trial=7 iommu=off kireji.off";
        assert_eq!(value(line, "iommu"), Some("off"));
        assert_eq!(value(line, "a"), Some("b c"));
        assert_eq!(value(line, "kireji.off"), Some(""));
        assert_eq!(value(line, "kireji"), None);
    }
}
