//! Logs that are no plain text, known by how they begin.

/// What a file begins with, what it is then, and what makes plain text of it.
const FOREIGN: [(&[u8], &str, &str); 6] = [
    // RFC 1952, 2.3.1.
    (b"\x1f\x8b", "compressed with gzip", "gzip -dc"),
    // RFC 8878, 3.1.1.
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc"),
    // The .xz file format, 2.1.1.1.
    (b"\xfd7zXZ\0", "compressed with xz", "xz -dc"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc"),
    // The Unicode standard, 2.13: the mark of the order of bytes.
    (b"\xff\xfe", "text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
];
/// So many bytes of the beginning tell.
pub(super) const HEAD: u64 = 6;

/// Returns what a file is that begins so, and the command that makes plain text of it; nothing of
/// what is plain text already.
pub(super) fn foreign(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let found = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic))?;
    Some((found.1, found.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_text_is_known_by_its_beginning() {
        assert_eq!(foreign(b"\x1f\x8b\x08\0\0\0"), Some(("compressed with gzip", "gzip -dc")));
        assert!(foreign(b"\xff\xfeP\0A\0").is_some_and(|(what, _)| what.ends_with("UTF-16")));
        for (magic, ..) in FOREIGN {
            assert!(magic.len() as u64 <= HEAD && foreign(magic).is_some());
        }
        for head in [&b"PANIC:"[..], b"", b"\xff", b"\x1b[33m"] {
            assert_eq!(foreign(head), None);
        }
    }
}
