//! One node of a B+tree.

use std::cmp::Ordering;

use crate::bytes::{i64_at, put, u16_at};

use super::KeyType;

/// Bytes of a node; no other size was ever written (BPLUSTREE_NODE_SIZE of Haiku's BPlusTree.h).
pub(crate) const NODE: usize = 1024;
/// The same, as offsets within the stream count.
pub(crate) const NODE_SIZE: u64 = NODE as u64;
/// Bytes of the longest key (BPLUSTREE_MAX_KEY_LENGTH there).
pub(crate) const LONGEST_KEY: usize = 256;
/// A link that leads nowhere; in the place of `overflow` it makes the node a leaf.
pub(crate) const NONE: i64 = -1;
/// In the place of `overflow` of a node that is not used.
pub(crate) const FREE: i64 = -2;

// The offsets are those of struct bplustree_node there.
const LEFT: usize = 0;
const RIGHT: usize = 8;
const OVERFLOW: usize = 16;
const KEY_COUNT: usize = 24;
const KEY_LENGTH: usize = 26;
const KEYS: usize = 28;

/// A node, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) left: i64,
    pub(crate) right: i64,
    pub(crate) overflow: i64,
    keys: Vec<u8>,
    ends: Vec<u16>,
    pub(crate) values: Vec<i64>,
}

impl Node {
    /// An empty node with nothing to its right.
    pub(crate) fn linked(left: i64, overflow: i64) -> Self {
        Self { left, right: NONE, overflow, ..Self::default() }
    }

    pub(crate) fn leaf() -> Self {
        Self::linked(NONE, NONE)
    }

    /// Parses the bytes of a node. The problem, if there is one, comes with its field.
    pub(crate) fn parse(bytes: &[u8], kind: KeyType) -> Result<Self, (&'static str, String)> {
        let count = usize::from(u16_at(bytes, KEY_COUNT));
        let length = usize::from(u16_at(bytes, KEY_LENGTH));
        let ends_at = (KEYS + length).next_multiple_of(8);
        if ends_at + count * 10 > NODE {
            return Err(("all_key_count", format!("{count} keys of {length} bytes do not fit")));
        }
        let ends: Vec<_> = (0..count).map(|index| u16_at(bytes, ends_at + index * 2)).collect();
        let mut last = 0;
        for end in &ends {
            let size = usize::from(*end).checked_sub(last).unwrap_or(usize::MAX);
            let fits = match kind.size() {
                Some(expected) => size == expected,
                None => (1..=LONGEST_KEY).contains(&size),
            };
            if !fits {
                return Err(("key lengths", format!("a key ends at {end} after {last}")));
            }
            last = usize::from(*end);
        }
        if last != length {
            return Err(("all_key_length", format!("{length}, but the keys end at {last}")));
        }
        let values_at = ends_at + count * 2;
        Ok(Self {
            left: i64_at(bytes, LEFT),
            right: i64_at(bytes, RIGHT),
            overflow: i64_at(bytes, OVERFLOW),
            keys: bytes[KEYS..KEYS + length].to_vec(),
            ends,
            values: (0..count).map(|index| i64_at(bytes, values_at + index * 8)).collect(),
        })
    }

    pub(crate) fn write(&self, bytes: &mut [u8]) {
        bytes[..NODE].fill(0);
        put(bytes, LEFT, &self.left.to_le_bytes());
        put(bytes, RIGHT, &self.right.to_le_bytes());
        put(bytes, OVERFLOW, &self.overflow.to_le_bytes());
        put(bytes, KEY_COUNT, &(self.ends.len() as u16).to_le_bytes());
        put(bytes, KEY_LENGTH, &(self.keys.len() as u16).to_le_bytes());
        put(bytes, KEYS, &self.keys);
        let mut at = (KEYS + self.keys.len()).next_multiple_of(8);
        for end in &self.ends {
            put(bytes, at, &end.to_le_bytes());
            at += 2;
        }
        for value in &self.values {
            put(bytes, at, &value.to_le_bytes());
            at += 8;
        }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.overflow == NONE
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| usize::from(self.ends[before]))
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        &self.keys[self.start(index)..usize::from(self.ends[index])]
    }

    /// Finds a key, or the place before which it belongs.
    pub(crate) fn search(&self, kind: KeyType, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match kind.compare(self.key(middle), key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// The child to look into for keys that belong before `index`.
    pub(crate) fn child(&self, index: usize) -> i64 {
        self.values.get(index).copied().unwrap_or(self.overflow)
    }

    /// Whether a node has room for one more key, by Haiku's own measure (BPlusTree.cpp, Insert).
    pub(crate) fn fits(&self, key: &[u8]) -> bool {
        let keys = (KEYS + self.keys.len() + key.len()).next_multiple_of(8);
        keys + (self.count() + 1) * 10 < NODE
    }

    /// Inserts a key; the node may be too large for its bytes afterwards.
    pub(crate) fn insert(&mut self, index: usize, key: &[u8], value: i64) {
        let start = self.start(index);
        self.keys.splice(start..start, key.iter().copied());
        let length = key.len() as u16;
        for end in &mut self.ends[index..] {
            *end += length;
        }
        self.ends.insert(index, start as u16 + length);
        self.values.insert(index, value);
    }

    pub(crate) fn remove(&mut self, index: usize) {
        let (start, end) = (self.start(index), self.ends[index]);
        self.keys.drain(start..usize::from(end));
        let length = end - start as u16;
        self.ends.remove(index);
        for end in &mut self.ends[index..] {
            *end -= length;
        }
        self.values.remove(index);
    }

    /// Drops the child at `index` of an index node; the last key makes up for the last child.
    pub(crate) fn remove_child(&mut self, index: usize) {
        let mut index = index;
        if index >= self.count() {
            index = self.count() - 1;
            self.overflow = self.values[index];
        }
        self.remove(index);
    }

    /// Splits off the lower half, which may be of a node that is too large. Returns it with the
    /// key for the parent. The links are left to the caller.
    pub(crate) fn split(&mut self) -> (Self, Vec<u8>) {
        let mut count = 0;
        // At least one key stays, and an index node gives one up to its parent.
        let most = self.count() - if self.is_leaf() { 1 } else { 2 };
        while count < most {
            count += 1;
            let keys = (KEYS + usize::from(self.ends[count - 1])).next_multiple_of(8);
            if keys + count * 10 >= NODE / 2 {
                break;
            }
        }
        let mut lower = Self::leaf();
        for index in 0..count {
            lower.insert(index, self.key(index), self.values[index]);
        }
        let separator;
        let dropped = if self.is_leaf() {
            separator = self.key(count - 1).to_vec();
            count
        } else {
            separator = self.key(count).to_vec();
            lower.overflow = self.values[count];
            count + 1
        };
        let cut = self.ends[dropped - 1];
        self.keys.drain(..usize::from(cut));
        self.ends.drain(..dropped);
        self.values.drain(..dropped);
        for end in &mut self.ends {
            *end -= cut;
        }
        (lower, separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize, length: usize) -> Node {
        let mut node = Node::leaf();
        for index in 0..count {
            let key = format!("{index:0length$}");
            let place = node.search(KeyType::String, key.as_bytes()).unwrap_err();
            node.insert(place, key.as_bytes(), index as i64);
        }
        node
    }

    #[test]
    fn what_is_written_is_read() {
        for (count, length) in [(0, 1), (1, 256), (3, 255), (40, 7), (71, 3)] {
            let node = filled(count, length);
            let mut bytes = vec![0xff; NODE];
            node.write(&mut bytes);
            assert_eq!(Node::parse(&bytes, KeyType::String).unwrap(), node);
        }
    }

    #[test]
    fn both_halves_of_a_split_fit() {
        for length in [1, 8, 100, 255, 256] {
            for leaf in [true, false] {
                let mut node = Node::leaf();
                let key = vec![b'k'; length];
                while node.fits(&key) {
                    node.insert(0, &key, 1);
                }
                node.insert(0, &vec![b'a'; 256], 2);
                if !leaf {
                    node.overflow = 4096;
                }
                let count = node.count();
                let (lower, separator) = node.split();
                let dropped = usize::from(!leaf);
                assert_eq!(lower.count() + node.count() + dropped, count, "{length} {leaf}");
                assert!(lower.count() > 0 && node.count() > 0, "{length} {leaf}");
                assert!(!separator.is_empty());
                for half in [lower, node] {
                    let mut bytes = vec![0; NODE];
                    half.write(&mut bytes);
                    assert_eq!(Node::parse(&bytes, KeyType::String).unwrap(), half);
                }
            }
        }
    }

    #[test]
    fn bytes_that_cannot_be_are_refused() {
        let node = filled(10, 7);
        let mut bytes = vec![0; NODE];
        node.write(&mut bytes);
        for (at, value) in [(24, 200_u16), (24, 9), (26, 1000), (26, 71), (104, 15)] {
            let mut bytes = bytes.clone();
            put(&mut bytes, at, &value.to_le_bytes());
            assert!(Node::parse(&bytes, KeyType::String).is_err(), "{at} {value}");
        }
        assert!(Node::parse(&bytes, KeyType::Int64).is_err());
    }
}
