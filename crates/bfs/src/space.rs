//! Which blocks are free: the bitmap, and finding room in it.

use std::collections::BTreeMap;

use crate::bytes::to_usize;
use crate::error::{Error, Result, damaged};
use crate::storage::Storage;
use crate::volume::Volume;

/// Bytes of contiguous room that are good enough to end a search.
const GOOD_ENOUGH: u64 = 256 * 1024;
/// A run's length is 16 bits wide.
const LONGEST_RUN: u64 = 65535;

/// What is known of free space besides the bitmap.
#[derive(Debug, Default)]
pub(crate) struct Space {
    groups: Vec<Group>,
    /// Freed by the operation under way: the bits go when it is complete.
    released: Vec<(u64, u64)>,
    /// Blocks allocated by the operation under way.
    taken: u64,
    /// Freed by operations that are complete, but not written yet: nothing may be written there,
    /// for the volume still refers to it. First block and length, which lie in one group.
    held: BTreeMap<u64, u64>,
    /// Blocks in them.
    held_blocks: u64,
}

#[derive(Clone, Debug)]
struct Group {
    /// No block before this one is free.
    first_free: u64,
    /// No free run is longer.
    longest: u64,
}

impl Space {
    pub(crate) fn new(groups: u64) -> Self {
        let group = Group { first_free: 0, longest: u64::MAX };
        Self { groups: vec![group; to_usize(groups)], ..Self::default() }
    }

    /// Forgets the operation under way and everything that was concluded from it.
    pub(crate) fn abort(&mut self) {
        let held = std::mem::take(&mut self.held);
        *self = Self { held, held_blocks: self.held_blocks, ..Self::new(self.groups.len() as u64) };
    }

    /// Completes the operation under way.
    pub(crate) fn hold(&mut self) {
        for (first, length) in std::mem::take(&mut self.released) {
            self.held.insert(first, length);
            self.held_blocks += length;
        }
        self.taken = 0;
    }

    /// What the transaction freed is free indeed, or is not after all.
    pub(crate) fn settle(&mut self, shift: u32) {
        for first in std::mem::take(&mut self.held).into_keys() {
            let hint = &mut self.groups[to_usize(first >> shift)];
            hint.first_free = hint.first_free.min(first & ((1 << shift) - 1));
            hint.longest = u64::MAX;
        }
        self.held_blocks = 0;
    }
}

/// One group's part of the bitmap.
struct Bits {
    bytes: Vec<u8>,
    count: u64,
}

impl Bits {
    fn word(&self, index: u64) -> u64 {
        let at = to_usize(index * 8);
        let mut raw = [0xff; 8];
        let end = self.bytes.len().min(at + 8);
        raw[..end - at].copy_from_slice(&self.bytes[at..end]);
        u64::from_le_bytes(raw)
    }

    /// Returns the first bit that is `used` from `from` on, or the end.
    fn next(&self, from: u64, used: bool) -> u64 {
        let mut at = from;
        while at < self.count {
            let word = self.word(at / 64) >> (at % 64);
            let word = if used { word } else { !word };
            let left = 64 - at % 64;
            let zeros = u64::from(word.trailing_zeros());
            if zeros < left {
                return (at + zeros).min(self.count);
            }
            at += left;
        }
        self.count
    }
}

impl<S: Storage> Volume<S> {
    /// Number of free blocks, by the super block and the operations under way.
    pub(crate) fn free_blocks(&self) -> u64 {
        let used = self.super_block.used_blocks() + self.space.taken + self.space.held_blocks;
        self.super_block.num_blocks.saturating_sub(used)
    }

    /// Writes the operations before, if what they freed is needed for `wanted` blocks.
    pub(crate) fn make_room(&mut self, wanted: u64) -> Result<()> {
        let spare = self.super_block.num_blocks / 8;
        let short = self.free_blocks() < wanted.saturating_add(spare);
        if self.space.held_blocks > 0 && short { self.commit() } else { Ok(()) }
    }

    fn bits(&mut self, group: u64) -> Result<Bits> {
        let count = self.super_block.group_blocks(group);
        let first = 1 + group * self.super_block.blocks_per_ag;
        let blocks = count.div_ceil(8 << self.super_block.block_shift);
        let mut bytes = Vec::with_capacity(to_usize(blocks << self.super_block.block_shift));
        for block in first..first + blocks {
            bytes.extend_from_slice(&self.blocks.get(block)?);
        }
        let base = group << self.super_block.ag_shift;
        for (first, length) in self.space.held.range(base..base + count) {
            for bit in first - base..first - base + length {
                bytes[to_usize(bit / 8)] |= 1 << (bit % 8);
            }
        }
        Ok(Bits { bytes, count })
    }

    /// Finds free blocks at or after `goal` where possible and marks them used. Returns the first
    /// block and how many: a multiple of `unit`, at least one, at most `wanted` rounded up.
    ///
    /// # Errors
    /// No run of `unit` blocks is free.
    pub(crate) fn allocate(&mut self, goal: u64, wanted: u64, unit: u64) -> Result<(u64, u64)> {
        let shift = self.super_block.ag_shift;
        let groups = self.super_block.num_ags;
        let wanted = wanted.next_multiple_of(unit).min(LONGEST_RUN / unit * unit).max(unit);
        let good = (GOOD_ENOUGH >> self.super_block.block_shift).max(unit).min(wanted);
        let goal = if self.super_block.is_data_block(goal) { goal } else { 0 };
        let (home, start) = (goal >> shift, goal & ((1 << shift) - 1));
        let mut best = (0, 0);
        // The home group comes twice: from the goal on, and at last from its beginning.
        for step in 0..=groups {
            let group = (home + step) % groups;
            let hint = &self.space.groups[to_usize(group)];
            if hint.longest < unit || hint.longest <= best.1 && best.1 >= unit {
                continue;
            }
            let from = if step == 0 { start.max(hint.first_free) } else { hint.first_free };
            let found = self.search(group, from, wanted)?;
            if found.1 > best.1 {
                best = found;
            }
            if best.1 >= good {
                break;
            }
        }
        let length = best.1.min(wanted) / unit * unit;
        if length == 0 {
            return Err(Error::NoSpace { wanted: unit, free: self.free_blocks() });
        }
        self.take(best.0, length)?;
        Ok((best.0, length))
    }

    /// Looks for a run of `wanted` free blocks in a group; returns the longest if there is none.
    fn search(&mut self, group: u64, from: u64, wanted: u64) -> Result<(u64, u64)> {
        let bits = self.bits(group)?;
        let base = group << self.super_block.ag_shift;
        let first = bits.next(from, false);
        let (mut at, mut best) = (first, (0, 0));
        while at < bits.count {
            let end = bits.next(at, true);
            if end - at > best.1 {
                best = (base + at, end - at);
            }
            if best.1 >= wanted {
                break;
            }
            at = bits.next(end, false);
        }
        let hint = &mut self.space.groups[to_usize(group)];
        if from <= hint.first_free {
            hint.first_free = first;
            if best.1 < wanted {
                hint.longest = best.1;
            }
        }
        Ok(best)
    }

    fn take(&mut self, first: u64, length: u64) -> Result<()> {
        if first < self.super_block.reserved() {
            let problem = "the boot block, bitmap or log is marked free".to_owned();
            return Err(damaged(None, 1, "block bitmap", problem));
        }
        self.mark(first, length, true)?;
        self.space.taken += length;
        self.blocks.forget(first, length);
        Ok(())
    }

    /// Frees blocks when the operation is complete.
    pub(crate) fn release(&mut self, first: u64, length: u64) {
        self.space.released.push((first, length));
    }

    /// Clears the bits of what the operation freed, and returns the new number of used blocks.
    pub(crate) fn settle_space(&mut self) -> Result<u64> {
        let mut used = self.super_block.used_blocks() + self.space.taken;
        for index in 0..self.space.released.len() {
            let (first, length) = self.space.released[index];
            self.mark(first, length, false)?;
            self.blocks.forget(first, length);
            used = used.saturating_sub(length);
        }
        Ok(used)
    }

    /// Sets or clears bits, all of which must be the other way.
    pub(crate) fn mark(&mut self, first: u64, length: u64, used: bool) -> Result<()> {
        let per_block = 8_u64 << self.super_block.block_shift;
        let mut at = first;
        while at < first + length {
            let block = 1 + at / per_block;
            let end = (first + length).min((at / per_block + 1) * per_block);
            let content = self.blocks.modify(block)?;
            for bit in at..end {
                let byte = &mut content[to_usize(bit % per_block / 8)];
                let mask = 1_u8 << (bit % 8);
                if (*byte & mask != 0) == used {
                    let state = if used { "used" } else { "free" };
                    let problem = format!("block {bit} is {state} already");
                    return Err(damaged(None, block, "block bitmap", problem));
                }
                *byte ^= mask;
            }
            at = end;
        }
        Ok(())
    }

    /// Counts the used blocks by the bitmap.
    pub(crate) fn count_used(&mut self) -> Result<u64> {
        let mut used = 0;
        for group in 0..self.super_block.num_ags {
            let bits = self.bits(group)?;
            let mut at = 0;
            while at < bits.count {
                let start = bits.next(at, true);
                at = bits.next(start, false);
                used += at - start;
            }
        }
        Ok(used)
    }
}
