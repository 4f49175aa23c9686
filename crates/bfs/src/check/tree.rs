//! B+trees: every node is where exactly one thing leads to, and every key where it belongs.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::bytes::{i64_at, to_usize, u16_at, u32_at};
use crate::error::Result;
use crate::storage::Storage;

use super::streams::Content;
use super::{Check, Class};

const NODE: usize = 1024;
const NONE: i64 = -1;
const HIGHEST: u32 = 40;
const FRAGMENT_SLOTS: usize = 16;

/// What the keys of a tree are: the number in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys(pub(super) u32);

impl Keys {
    /// Bytes of a key; strings have 1 to 256.
    pub(super) fn length(self) -> std::ops::RangeInclusive<usize> {
        match self.0 {
            1 | 2 | 5 => 4..=4,
            3 | 4 | 6 => 8..=8,
            _ => 1..=256,
        }
    }

    fn order(self, one: &[u8], other: &[u8]) -> Ordering {
        let wide = |key: &[u8]| -> [u8; 8] {
            let mut raw = [0; 8];
            let length = key.len().min(8);
            raw[..length].copy_from_slice(&key[..length]);
            raw
        };
        let signed = |key: &[u8]| match self.0 {
            1 => i64::from(u64::from_le_bytes(wide(key)) as u32 as i32),
            _ => i64::from_le_bytes(wide(key)),
        };
        let real = |key: &[u8]| match self.0 {
            5 => f64::from(f32::from_bits(u64::from_le_bytes(wide(key)) as u32)),
            _ => f64::from_le_bytes(wide(key)),
        };
        match self.0 {
            1 | 3 => signed(one).cmp(&signed(other)),
            2 | 4 => u64::from_le_bytes(wide(one)).cmp(&u64::from_le_bytes(wide(other))),
            5 | 6 => real(one).partial_cmp(&real(other)).unwrap_or(Ordering::Equal),
            _ => one.cmp(other),
        }
    }
}

/// What leads to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    #[default]
    Nothing,
    Tree,
    Free,
    Chain,
    /// A node of fragments, with a bit for each that a key leads to.
    Fragments(u16),
}

struct Walk<'a> {
    inode: u64,
    content: &'a Content,
    keys: Keys,
    duplicates: bool,
    levels: u32,
    uses: Vec<Use>,
    /// By level: the last node visited, and where its right link leads.
    last: HashMap<u32, (i64, i64)>,
    last_key: Option<Vec<u8>>,
}

struct Pending {
    offset: i64,
    level: u32,
    /// No key of it may be greater.
    most: Option<Vec<u8>>,
}

impl<S: Storage> Check<'_, S> {
    /// Checks a tree, and calls `entry` with every key and value in order.
    pub(super) fn tree(
        &mut self,
        inode: u64,
        content: &Content,
        keys: Keys,
        duplicates: bool,
        entry: &mut dyn FnMut(&[u8], i64),
    ) -> Result<()> {
        let block = content.runs.first().map_or(inode, |run| run.0);
        if content.broken || content.size < 2048 || !content.size.is_multiple_of(1024) {
            let problem = format!("{} bytes do not make a tree", content.size);
            self.find(Class::Tree, inode, inode, "size", problem);
            return Ok(());
        }
        let header = self.content_at(content, 0, NODE)?;
        let levels = u32_at(&header, 8);
        let number = u32_at(&header, 12);
        let size = i64_at(&header, 32);
        let checks = [
            ("tree magic", u32_at(&header, 0) == 0x69f6_c2e8, i64::from(u32_at(&header, 0))),
            ("node_size", u32_at(&header, 4) as usize == NODE, i64::from(u32_at(&header, 4))),
            ("max_number_of_levels", (1..=HIGHEST).contains(&levels), i64::from(levels)),
            ("data_type", number == keys.0, i64::from(number)),
            ("maximum_size", size == content.size as i64, size),
        ];
        let mut sound = true;
        for (field, right, found) in checks {
            if !right {
                sound = false;
                self.find(Class::Tree, inode, block, field, format!("{found} cannot be"));
            }
        }
        if !sound {
            return Ok(());
        }
        let nodes = to_usize(content.size / NODE as u64);
        let mut walk = Walk {
            inode,
            content,
            keys,
            duplicates,
            levels,
            uses: vec![Use::Nothing; nodes],
            last: HashMap::new(),
            last_key: None,
        };
        walk.uses[0] = Use::Tree;
        self.free_nodes(&mut walk, i64_at(&header, 24))?;
        self.nodes(&mut walk, i64_at(&header, 16), entry)?;
        let ends: Vec<_> = walk.last.iter().map(|(_, (offset, right))| (*offset, *right)).collect();
        for (offset, right) in ends {
            if right != NONE {
                let problem = format!("node {offset}: {right} after the last of its level");
                self.find(Class::Tree, inode, block, "right_link", problem);
            }
        }
        self.unused(&walk)
    }

    fn wrong(&mut self, walk: &Walk<'_>, offset: i64, field: &'static str, problem: String) {
        let mut base = 0;
        let mut place = walk.inode;
        for (first, count) in &walk.content.runs {
            let end = base + self.super_block.bytes_of(*count);
            if (base..end).contains(&(offset as u64)) {
                place = first + ((offset as u64 - base) >> self.super_block.block_shift);
            }
            base = end;
        }
        let problem = format!("node {offset}: {problem}");
        self.find(Class::Tree, walk.inode, place, field, problem);
    }

    /// Reads a node and notes what leads to it; `None` if nothing may.
    fn enter(
        &mut self,
        walk: &mut Walk<'_>,
        offset: i64,
        what: Use,
        from: (i64, &'static str),
    ) -> Result<Option<Vec<u8>>> {
        let index = usize::try_from(offset).unwrap_or_default();
        if index % NODE != 0 || index == 0 || index / NODE >= walk.uses.len() {
            self.wrong(walk, from.0, from.1, format!("{offset} is not a node"));
            return Ok(None);
        }
        let known = walk.uses[index / NODE];
        walk.uses[index / NODE] = match (known, what) {
            (Use::Nothing, what) => what,
            (Use::Fragments(known), Use::Fragments(slot)) if known & slot == 0 => {
                Use::Fragments(known | slot)
            }
            _ => {
                self.wrong(walk, from.0, from.1, format!("{offset} is in use already"));
                return Ok(None);
            }
        };
        self.content_at(walk.content, offset as u64, NODE).map(Some)
    }

    fn free_nodes(&mut self, walk: &mut Walk<'_>, first: i64) -> Result<()> {
        let (mut at, mut from) = (first, (0, "free_node_pointer"));
        while at != NONE {
            let Some(node) = self.enter(walk, at, Use::Free, from)? else { break };
            if i64_at(&node, 16) != -2 {
                let problem = format!("{} in a free node", i64_at(&node, 16));
                self.wrong(walk, at, "overflow_link", problem);
                break;
            }
            from = (at, "left_link");
            at = i64_at(&node, 0);
        }
        Ok(())
    }

    fn nodes(
        &mut self,
        walk: &mut Walk<'_>,
        root: i64,
        entry: &mut dyn FnMut(&[u8], i64),
    ) -> Result<()> {
        let mut stack = vec![(Pending { offset: root, level: 1, most: None }, 0)];
        while let Some((pending, from)) = stack.pop() {
            let field = if from == 0 { "root_node_pointer" } else { "value" };
            let offset = pending.offset;
            let Some(node) = self.enter(walk, offset, Use::Tree, (from, field))? else { continue };
            self.siblings(walk, &node, &pending);
            let Some(keys) = self.keys_of(walk, offset, &node) else { continue };
            let overflow = i64_at(&node, 16);
            let leaf = overflow == NONE;
            if leaf != (pending.level == walk.levels) {
                let problem =
                    format!("a {} on level {} of {}", kind(leaf), pending.level, walk.levels);
                self.wrong(walk, offset, "overflow_link", problem);
                continue;
            }
            if let (Some(most), Some((last, _))) = (&pending.most, keys.last())
                && walk.keys.order(last, most) == Ordering::Greater
            {
                let problem = "its last key is above that of its parent".to_owned();
                self.wrong(walk, offset, "keys", problem);
            }
            if leaf {
                for (key, value) in keys {
                    if let Some(before) = &walk.last_key
                        && walk.keys.order(before, key) != Ordering::Less
                    {
                        let problem = format!("{:?} is not in order", String::from_utf8_lossy(key));
                        self.wrong(walk, offset, "keys", problem);
                    }
                    walk.last_key = Some(key.to_vec());
                    self.values(walk, offset, key, value, entry)?;
                }
                continue;
            }
            let level = pending.level + 1;
            stack.push((Pending { offset: overflow, level, most: pending.most }, offset));
            for (key, value) in keys.into_iter().rev() {
                stack.push((Pending { offset: value, level, most: Some(key.to_vec()) }, offset));
            }
        }
        Ok(())
    }

    fn siblings(&mut self, walk: &mut Walk<'_>, node: &[u8], pending: &Pending) {
        let (left, right) = (i64_at(node, 0), i64_at(node, 8));
        let (before, leads) =
            walk.last.insert(pending.level, (pending.offset, right)).unwrap_or((NONE, NONE));
        if left != before {
            let problem = format!("{left} in place of {before}");
            self.wrong(walk, pending.offset, "left_link", problem);
        }
        if before != NONE && leads != pending.offset {
            let problem = format!("{leads} in place of {}", pending.offset);
            self.wrong(walk, before, "right_link", problem);
        }
    }

    fn keys_of<'n>(
        &mut self,
        walk: &Walk<'_>,
        offset: i64,
        node: &'n [u8],
    ) -> Option<Vec<(&'n [u8], i64)>> {
        let (count, length) = (usize::from(u16_at(node, 24)), usize::from(u16_at(node, 26)));
        let ends = (28 + length).div_ceil(8) * 8;
        if ends + count * 10 > NODE {
            let problem = format!("{count} keys of {length} bytes do not fit");
            self.wrong(walk, offset, "all_key_count", problem);
            return None;
        }
        let mut start = 0;
        let mut keys: Vec<(&[u8], i64)> = Vec::with_capacity(count);
        for index in 0..count {
            let end = usize::from(u16_at(node, ends + index * 2));
            if end > length || end < start || !walk.keys.length().contains(&(end - start)) {
                self.wrong(walk, offset, "key lengths", format!("a key from {start} to {end}"));
                return None;
            }
            let key = &node[28 + start..28 + end];
            if let Some((before, _)) = keys.last()
                && walk.keys.order(before, key) != Ordering::Less
            {
                self.wrong(walk, offset, "keys", format!("key {index} is not in order"));
            }
            keys.push((key, i64_at(node, ends + count * 2 + index * 8)));
            start = end;
        }
        if start != length {
            let problem = format!("{length}, but the keys end at {start}");
            self.wrong(walk, offset, "all_key_length", problem);
        }
        Some(keys)
    }

    /// The values of one key.
    fn values(
        &mut self,
        walk: &mut Walk<'_>,
        offset: i64,
        key: &[u8],
        value: i64,
        entry: &mut dyn FnMut(&[u8], i64),
    ) -> Result<()> {
        let (kind, target) = (value as u64 >> 62, (value as u64 & 0x3fff_ffff_ffff_fc00) as i64);
        if kind < 2 || !walk.duplicates {
            entry(key, value);
            return Ok(());
        }
        let mut total = 0;
        if kind == 3 {
            let slot = value as u64 as usize & 0x3ff;
            if slot >= FRAGMENT_SLOTS {
                self.wrong(walk, offset, "duplicate link", format!("fragment {slot}"));
                return Ok(());
            }
            let what = Use::Fragments(1 << slot);
            let from = (offset, "duplicate link");
            if let Some(node) = self.enter(walk, target, what, from)? {
                total = self.array(walk, target, &node[slot * 64..], 7, key, entry);
            }
        } else {
            let (mut at, mut before) = (target, NONE);
            while at != NONE {
                let from = (if before == NONE { offset } else { before }, "duplicate link");
                let Some(node) = self.enter(walk, at, Use::Chain, from)? else { break };
                if i64_at(&node, 0) != before {
                    let problem = format!("{} in place of {before}", i64_at(&node, 0));
                    self.wrong(walk, at, "left_link", problem);
                }
                total += self.array(walk, at, &node[16..], 125, key, entry);
                before = at;
                at = i64_at(&node, 8);
            }
        }
        if total == 1 {
            let problem = "a single value is kept as several".to_owned();
            self.wrong(walk, offset, "duplicate link", problem);
        }
        Ok(())
    }

    fn array(
        &mut self,
        walk: &Walk<'_>,
        offset: i64,
        array: &[u8],
        most: usize,
        key: &[u8],
        entry: &mut dyn FnMut(&[u8], i64),
    ) -> usize {
        let count = usize::try_from(i64_at(array, 0)).unwrap_or_default();
        if !(1..=most).contains(&count) {
            let problem = format!("{} values in an array of {most}", i64_at(array, 0));
            self.wrong(walk, offset, "duplicate count", problem);
            return 0;
        }
        let mut before = None;
        for index in 1..=count {
            let value = i64_at(array, index * 8);
            if before.is_some_and(|before| before >= value) {
                self.wrong(walk, offset, "duplicate values", format!("{value} is not in order"));
            }
            before = Some(value);
            entry(key, value);
        }
        count
    }

    /// Nodes that nothing leads to, and fragments that no key leads to.
    fn unused(&mut self, walk: &Walk<'_>) -> Result<()> {
        for (index, what) in walk.uses.iter().enumerate() {
            let offset = (index * NODE) as i64;
            match what {
                Use::Nothing => {
                    self.wrong(walk, offset, "node", "nothing leads to it".to_owned());
                }
                Use::Fragments(slots) => {
                    let node = self.content_at(walk.content, offset as u64, NODE)?;
                    for slot in 0..FRAGMENT_SLOTS {
                        if slots >> slot & 1 == 0 && i64_at(&node, slot * 64) != 0 {
                            let problem = format!("nothing leads to fragment {slot}");
                            self.wrong(walk, offset, "duplicate count", problem);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn kind(leaf: bool) -> &'static str {
    if leaf { "leaf" } else { "node with children" }
}
