//! Keys with several values.
//!
//! The value of such a key is a link, told by its two highest bits. Up to seven values are in a
//! fragment, one of sixteen arrays in a node of its own; more are in a chain of duplicate nodes,
//! of up to 125 values each (Haiku, .../bfs/BPlusTree.h). Values of an array are sorted.

use crate::bytes::{i64_at, put};
use crate::error::Result;
use crate::storage::Storage;
use crate::volume::Volume;

use super::node::{NODE, NONE};
use super::{Step, Tree};

const FRAGMENT_VALUES: usize = 7;
const FRAGMENT_SIZE: usize = (FRAGMENT_VALUES + 1) * 8;
const NODE_VALUES: usize = 125;
/// The array of a duplicate node is where `overflow` of another node is.
const NODE_ARRAY: usize = 16;
const FRAGMENT: u64 = 3 << 62;
const DUPLICATE: u64 = 2 << 62;
const INDEX_MASK: u64 = 0x3ff;
const OFFSET_MASK: u64 = 0x3fff_ffff_ffff_fc00;

/// Whether a value of a leaf leads to several.
pub(super) fn is_link(value: i64) -> bool {
    value as u64 & DUPLICATE == DUPLICATE
}

fn is_fragment(link: i64) -> bool {
    link as u64 & FRAGMENT == FRAGMENT
}

fn offset_of(link: i64) -> i64 {
    (link as u64 & OFFSET_MASK) as i64
}

fn fragment_link(offset: i64, index: usize) -> i64 {
    (FRAGMENT | offset as u64 | index as u64) as i64
}

/// The link to a node of a chain.
pub(super) fn chain_link(offset: i64) -> i64 {
    (DUPLICATE | offset as u64) as i64
}

fn values(raw: &[u8], at: usize) -> Vec<i64> {
    let count = usize::try_from(i64_at(raw, at)).unwrap_or_default();
    (1..=count).map(|index| i64_at(raw, at + index * 8)).collect()
}

fn put_values(raw: &mut [u8], at: usize, values: &[i64], most: usize) {
    raw[at..at + (most + 1) * 8].fill(0);
    put(raw, at, &(values.len() as i64).to_le_bytes());
    for (index, value) in values.iter().enumerate() {
        put(raw, at + (index + 1) * 8, &value.to_le_bytes());
    }
}

fn insert_sorted(values: &mut Vec<i64>, value: i64) {
    let place = values.partition_point(|known| *known < value);
    values.insert(place, value);
}

fn fragments_used(raw: &[u8]) -> usize {
    (0..NODE / FRAGMENT_SIZE).filter(|index| i64_at(raw, index * FRAGMENT_SIZE) != 0).count()
}

/// The values of one fragment, or of one duplicate node with the links of its chain.
pub(super) struct Array {
    pub(super) values: Vec<i64>,
    left: i64,
    pub(super) right: i64,
}

impl Tree {
    /// Reads the array that a link leads to.
    pub(super) fn array<S: Storage>(&self, volume: &mut Volume<S>, link: i64) -> Result<Array> {
        let offset = offset_of(link);
        let raw = self.raw(volume, offset)?;
        let (at, least, most) = if is_fragment(link) {
            (self.fragment(volume, link)?, 1, FRAGMENT_VALUES)
        } else {
            (NODE_ARRAY, 0, NODE_VALUES)
        };
        let count = i64_at(&raw, at);
        if !usize::try_from(count).is_ok_and(|count| (least..=most).contains(&count)) {
            let problem = format!("{count} values in an array of {most}");
            return Err(self.damaged(volume, offset, "duplicate count", problem));
        }
        let (left, right) = match is_fragment(link) {
            true => (NONE, NONE),
            false => (i64_at(&raw, 0), i64_at(&raw, 8)),
        };
        Ok(Array { values: values(&raw, at), left, right })
    }

    /// Where a fragment is within its node.
    fn fragment<S: Storage>(&self, volume: &Volume<S>, link: i64) -> Result<usize> {
        let index = (link as u64 & INDEX_MASK) as usize;
        if index < NODE / FRAGMENT_SIZE {
            return Ok(index * FRAGMENT_SIZE);
        }
        let problem = format!("fragment {index} of {}", NODE / FRAGMENT_SIZE);
        Err(self.damaged(volume, offset_of(link), "duplicate link", problem))
    }

    fn put_fragment<S: Storage>(
        &self,
        volume: &mut Volume<S>,
        link: i64,
        values: &[i64],
    ) -> Result<()> {
        let at = self.fragment(volume, link)?;
        put_values(self.raw_mut(volume, offset_of(link))?, at, values, FRAGMENT_VALUES);
        Ok(())
    }

    fn put_node<S: Storage>(
        &self,
        volume: &mut Volume<S>,
        offset: i64,
        array: &Array,
    ) -> Result<()> {
        let raw = self.raw_mut(volume, offset)?;
        put(raw, 0, &array.left.to_le_bytes());
        put(raw, 8, &array.right.to_le_bytes());
        put_values(raw, NODE_ARRAY, &array.values, NODE_VALUES);
        Ok(())
    }

    fn set_value<S: Storage>(&self, volume: &mut Volume<S>, leaf: Step, value: i64) -> Result<()> {
        let Step { offset, mut node, index } = leaf;
        node.values[index] = value;
        self.write(volume, offset, &node)
    }

    /// Finds a fragment that is not used, in a node that the leaf's other keys use.
    fn free_fragment<S: Storage>(
        &self,
        volume: &mut Volume<S>,
        leaf: &Step,
    ) -> Result<Option<i64>> {
        let mut last = NONE;
        for value in &leaf.node.values {
            let offset = offset_of(*value);
            if !is_link(*value) || !is_fragment(*value) || offset == last {
                continue;
            }
            last = offset;
            let raw = self.raw(volume, offset)?;
            let free =
                (0..NODE / FRAGMENT_SIZE).find(|index| i64_at(&raw, index * FRAGMENT_SIZE) == 0);
            if let Some(index) = free {
                return Ok(Some(fragment_link(offset, index)));
            }
        }
        Ok(None)
    }

    /// Puts values into a fragment and lets the leaf's key lead there.
    fn make_fragment<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        leaf: Step,
        values: &[i64],
    ) -> Result<()> {
        let link = match self.free_fragment(volume, &leaf)? {
            Some(link) => link,
            None => {
                let offset = self.allocate(volume)?;
                self.raw_mut(volume, offset)?.fill(0);
                fragment_link(offset, 0)
            }
        };
        self.put_fragment(volume, link, values)?;
        self.set_value(volume, leaf, link)
    }

    /// Adds a value to a key that has one or more.
    pub(super) fn insert_duplicate<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        leaf: Step,
        value: i64,
    ) -> Result<()> {
        let stored = leaf.node.values[leaf.index];
        if !is_link(stored) {
            let mut values = vec![stored];
            insert_sorted(&mut values, value);
            return self.make_fragment(volume, leaf, &values);
        }
        let mut array = self.array(volume, stored)?;
        if is_fragment(stored) {
            insert_sorted(&mut array.values, value);
            if array.values.len() <= FRAGMENT_VALUES {
                return self.put_fragment(volume, stored, &array.values);
            }
            let used = fragments_used(&self.raw(volume, offset_of(stored))?);
            let offset = if used < 2 {
                offset_of(stored)
            } else {
                self.put_fragment(volume, stored, &[])?;
                self.allocate(volume)?
            };
            self.raw_mut(volume, offset)?.fill(0);
            self.put_node(volume, offset, &array)?;
            return self.set_value(volume, leaf, chain_link(offset));
        }
        let mut offset = offset_of(stored);
        for _ in 0..self.most_nodes() {
            if array.values.len() < NODE_VALUES {
                insert_sorted(&mut array.values, value);
                return self.put_node(volume, offset, &array);
            }
            if array.right == NONE {
                let other = self.allocate(volume)?;
                self.raw_mut(volume, other)?.fill(0);
                array.right = other;
                self.put_node(volume, offset, &array)?;
                let last = Array { values: vec![value], left: offset, right: NONE };
                return self.put_node(volume, other, &last);
            }
            offset = array.right;
            array = self.array(volume, chain_link(offset))?;
        }
        Err(self.damaged(volume, offset, "right_link", "the chain is a circle".to_owned()))
    }

    /// Removes a value of a key that has several. Returns whether it was there.
    pub(super) fn remove_duplicate<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        leaf: Step,
        value: i64,
    ) -> Result<bool> {
        let stored = leaf.node.values[leaf.index];
        let mut array = self.array(volume, stored)?;
        if is_fragment(stored) {
            let Ok(index) = array.values.binary_search(&value) else { return Ok(false) };
            array.values.remove(index);
            if array.values.len() > 1 {
                self.put_fragment(volume, stored, &array.values)?;
                return Ok(true);
            }
            let offset = offset_of(stored);
            if fragments_used(&self.raw(volume, offset)?) == 1 {
                self.release(volume, offset)?;
            } else {
                self.put_fragment(volume, stored, &[])?;
            }
            let Some(last) = array.values.first() else {
                let problem = "a single value in a fragment".to_owned();
                return Err(self.damaged(volume, offset, "duplicate count", problem));
            };
            self.set_value(volume, leaf, *last)?;
            return Ok(true);
        }
        let mut offset = offset_of(stored);
        for _ in 0..self.most_nodes() {
            if let Ok(index) = array.values.binary_search(&value) {
                array.values.remove(index);
                self.shrink_chain(volume, leaf, offset, array)?;
                return Ok(true);
            }
            if array.right == NONE {
                return Ok(false);
            }
            offset = array.right;
            array = self.array(volume, chain_link(offset))?;
        }
        Err(self.damaged(volume, offset, "right_link", "the chain is a circle".to_owned()))
    }

    /// Writes back a node of a chain that lost a value: drops it when it is empty, and turns a
    /// chain of one node with few values back into a fragment.
    fn shrink_chain<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        leaf: Step,
        offset: i64,
        array: Array,
    ) -> Result<()> {
        let mut leaf = leaf;
        let (mut offset, mut array) = (offset, array);
        if array.values.is_empty() {
            let (left, right) = (array.left, array.right);
            if left == NONE && right == NONE {
                let problem = "a single value in a chain".to_owned();
                return Err(self.damaged(volume, offset, "duplicate count", problem));
            }
            self.release(volume, offset)?;
            for (link, neighbour_of) in [(left, true), (right, false)] {
                if link == NONE {
                    continue;
                }
                let mut neighbour = self.array(volume, chain_link(link))?;
                if neighbour_of {
                    neighbour.right = right;
                } else {
                    neighbour.left = left;
                }
                self.put_node(volume, link, &neighbour)?;
                (offset, array) = (link, neighbour);
            }
            if left == NONE {
                leaf.node.values[leaf.index] = chain_link(right);
                self.write(volume, leaf.offset, &leaf.node)?;
            }
        }
        let only = array.left == NONE && array.right == NONE;
        if !only || array.values.len() > FRAGMENT_VALUES {
            return self.put_node(volume, offset, &array);
        }
        self.release(volume, offset)?;
        match array.values.as_slice() {
            [last] => self.set_value(volume, leaf, *last),
            values => self.make_fragment(volume, leaf, values),
        }
    }
}
