//! Paths within a volume, with patterns.

use bfs::{Kind, NodeId, Storage, Volume};

use super::failed;
use crate::CommandError;

/// A node that a path led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    pub(super) parent: NodeId,
    pub(super) node: NodeId,
}

impl Found {
    /// The last part of the path; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Finds what a path names: `*` and `?` stand for any characters within a part.
///
/// # Errors
/// Nothing is found; the volume is damaged or cannot be read.
pub(super) fn find<S: Storage>(
    volume: &mut Volume<S>,
    path: &str,
) -> Result<Vec<Found>, CommandError> {
    let root = volume.root();
    let mut found = vec![Found { path: Vec::new(), parent: root, node: root }];
    for part in parts(path) {
        let mut next = Vec::new();
        for Found { path: base, node, .. } in found {
            if !part.contains(['*', '?']) {
                match volume.entry(node, part.as_bytes()) {
                    Ok(child) => next.push(joined(&base, part.as_bytes(), node, child)),
                    Err(bfs::Error::NotFound(_) | bfs::Error::NotADirectory(_)) => {}
                    Err(other) => return Err(failed(other)),
                }
                continue;
            }
            if volume.metadata(node).map_err(failed)?.kind != Kind::Directory {
                continue;
            }
            for entry in volume.entries(node).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if matches(part.as_bytes(), &entry.name) {
                    next.push(joined(&base, &entry.name, node, entry.node));
                }
            }
        }
        found = next;
    }
    if found.is_empty() {
        return Err(failed(bfs::Error::NotFound(path.to_owned())));
    }
    Ok(found)
}

/// The parts of a path that count.
pub(super) fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

fn joined(base: &[u8], name: &[u8], parent: NodeId, node: NodeId) -> Found {
    let path = if base.is_empty() { name.to_vec() } else { [base, b"/", name].concat() };
    Found { path, parent, node }
}

/// Whether a name fits a pattern. Going back to the last `*` alone is enough, so that the time is
/// at most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(b'?') => (at, seen) = (at + 1, seen + 1),
            Some(byte) if *byte == name[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    (at, seen) = (place + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b", "abc", false),
            ("", "", true),
            ("", "a", false),
            ("a**c", "abc", true),
        ] {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, expected, "{pattern} {name}");
        }
        let hostile = "a*".repeat(50) + "b";
        assert!(!matches(hostile.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
