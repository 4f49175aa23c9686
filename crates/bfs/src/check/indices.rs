//! The indices against the files.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

use crate::error::{Damage, Result};
use crate::storage::Storage;

use super::tree::Keys;
use super::{Check, Class, Finding};

/// Bytes of an attribute that an index has.
pub(super) const KEY: usize = 256;
/// Entries of one index that are named; those beyond are counted.
const MOST_NAMED: usize = 50;

/// What the files say should be in the indices, and what is.
#[derive(Debug, Default)]
pub(super) struct Expected {
    indices: BTreeMap<Vec<u8>, Index>,
    /// Links with their target in blocks: the kernel changes the time of such a one when it writes
    /// the target, and leaves the index as it was (Inode::WriteAt in Inode.cpp).
    long_links: BTreeSet<u64>,
    mismatches: Vec<Mismatch>,
}

#[derive(Debug)]
struct Index {
    inode: u64,
    keys: Keys,
    /// Node and a hash of the key, which is not kept.
    said: Vec<(u64, u64)>,
    found: Vec<(u64, u64)>,
}

/// What an index lacks and what it must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Its name.
    pub(crate) index: Vec<u8>,
    /// Nodes whose value it lacks.
    pub(crate) missing: Vec<u64>,
    /// Nodes for which it has a wrong value, and the hash of that.
    pub(crate) stale: Vec<(u64, u64)>,
}

impl Expected {
    pub(super) fn add_index(&mut self, name: &[u8], inode: u64, keys: Keys) {
        let index = Index { inode, keys, said: Vec::new(), found: Vec::new() };
        self.indices.insert(name.to_vec(), index);
    }

    pub(super) fn into_mismatches(self) -> Vec<Mismatch> {
        self.mismatches
    }

    /// Notes that a node has a value that an index should have, if there is one of that name.
    pub(super) fn say(&mut self, name: &[u8], node: u64, value: &[u8]) {
        if let Some(index) = self.indices.get_mut(name) {
            let key = &value[..value.len().min(KEY)];
            let fits = match *index.keys.length().start() {
                1 => !key.is_empty(),
                size => value.len() == size,
            };
            if fits {
                index.said.push((node, hash(key)));
            }
        }
    }

    pub(super) fn long_link(&mut self, node: u64) {
        self.long_links.insert(node);
    }

    /// Whether the value of an attribute need be read.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.indices.contains_key(name)
    }

    pub(super) fn find(&mut self, name: &[u8], key: &[u8], value: i64) {
        if let Some(index) = self.indices.get_mut(name) {
            index.found.push((value as u64, hash(key)));
        }
    }
}

pub(crate) fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

impl<S: Storage> Check<'_, S> {
    pub(super) fn compare_indices(&mut self) -> Result<()> {
        for (name, mut index) in std::mem::take(&mut self.expected.indices) {
            index.said.sort_unstable();
            index.found.sort_unstable();
            if let Some(mismatch) = self.compare_index(&name, &index) {
                self.expected.mismatches.push(mismatch);
            }
        }
        Ok(())
    }

    /// Returns what an index lacks and must not have, if it does so by damage.
    fn compare_index(&mut self, name: &[u8], index: &Index) -> Option<Mismatch> {
        let (mut said, mut found) = (index.said.iter().peekable(), index.found.iter().peekable());
        let mut missing: Vec<(u64, u64)> = Vec::new();
        let mut stale: Vec<(u64, u64)> = Vec::new();
        loop {
            match (said.peek(), found.peek()) {
                (Some(one), Some(other)) if one == other => {
                    said.next();
                    found.next();
                }
                (Some(one), Some(other)) if one > other => stale.extend(found.next()),
                (None, Some(_)) => stale.extend(found.next()),
                (Some(_), _) => missing.extend(said.next()),
                (None, None) => break,
            }
        }
        // What had an attribute before there was an index of it is not in that.
        let late = !matches!(name, b"name" | b"size" | b"last_modified");
        let long_link =
            |node: u64| name == b"last_modified" && self.expected.long_links.contains(&node);
        let wrong = Mismatch {
            index: name.to_vec(),
            missing: missing.iter().map(|(node, _)| *node).collect(),
            stale: stale.clone(),
        };
        let missing: Vec<_> =
            missing.into_iter().map(|(node, _)| (node, late || long_link(node))).collect();
        let stale: Vec<_> = stale.into_iter().map(|(node, _)| (node, long_link(node))).collect();
        let damaged = missing.iter().chain(&stale).any(|(_, usual)| !usual);
        let name = String::from_utf8_lossy(name).into_owned();
        for (what, nodes) in [("lacks the value of", missing), ("has a wrong value for", stale)] {
            for (count, (node, usual)) in nodes.iter().enumerate() {
                if count == MOST_NAMED {
                    let more = nodes.len() - MOST_NAMED;
                    let problem = format!("the index `{name}` {what} {more} more inodes");
                    self.note_or_find(
                        index.inode,
                        None,
                        problem,
                        nodes[count..].iter().all(|n| n.1),
                    );
                    break;
                }
                let problem = format!("the index `{name}` {what} inode {node}");
                self.note_or_find(index.inode, Some(*node), problem, *usual);
            }
        }
        damaged.then_some(wrong)
    }

    fn note_or_find(&mut self, index: u64, node: Option<u64>, problem: String, usual: bool) {
        if !usual {
            self.find(Class::Index, node, index, "index", problem);
        } else if self.report.notes.len() < super::MOST_FINDINGS {
            let damage = Damage { inode: node, block: index, field: "index", problem };
            self.report.notes.push(Finding { class: Class::Index, damage });
        }
    }
}
