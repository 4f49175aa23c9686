//! The log: what Haiku left in it, and our own transactions.
//!
//! An entry is one block with an array of runs, each of length 1, and then the new content of
//! these blocks in the same order; places in the log are counted round its end (Haiku,
//! src/add-ons/kernel/file_systems/bfs/Journal.cpp). The super block says where the first entry
//! that was not carried out begins, and where the last one ends.

use std::collections::BTreeMap;

use crate::blocks::Blocks;
use crate::bytes::{i32_at, put};
use crate::error::{Error, Result, damaged};
use crate::storage::Storage;
use crate::super_block::{OFFSET, Run, SuperBlock};
use crate::volume::Volume;

/// Runs that an array is said to hold, and those that are used, one less (run_array::MaxRuns in
/// Journal.cpp: "an off-by-one error in Be's BFS implementation").
const ARRAY_SAYS: i32 = 127;
const ARRAY_HOLDS: usize = 126;

/// Reads the log of a volume that was not unmounted: for each block, the place in the log of its
/// newest content.
///
/// All of it is validated first, by the rules of the kernel (_CheckRunArray, _ReplayRunArray).
pub(crate) fn pending<S: Storage>(
    super_block: &SuperBlock,
    blocks: &Blocks<S>,
) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    let length = super_block.log_length;
    let (start, end) = super_block.log();
    let (mut at, end) = (start % length, end % length);
    let mut walked = 0;
    let mut array = vec![0; super_block.block_size()];
    while at != end {
        let block = super_block.log_first + at;
        let wrong = |field, problem: String| Err(damaged(None, block, field, problem));
        blocks.read(block, &mut array)?;
        let (count, says) = (i32_at(&array, 0), i32_at(&array, 4));
        if says != ARRAY_SAYS {
            return wrong("run_array max_runs", says.to_string());
        }
        let Some(count) = usize::try_from(count).ok().filter(|n| (1..=ARRAY_HOLDS).contains(n))
        else {
            return wrong("run_array count", count.to_string());
        };
        walked += count as u64 + 1;
        if walked >= length {
            return wrong("log_end", format!("{end} is not the end of an entry"));
        }
        for index in 0..count {
            let run = Run::parse(&array, 8 + index * Run::SIZE);
            at = (at + 1) % length;
            let Some((target, 1)) = super_block.range(run) else {
                return wrong("run_array runs", format!("{run} is not one block"));
            };
            let in_log = super_block.log_first..super_block.reserved();
            if in_log.contains(&target) {
                return wrong("run_array runs", format!("{run} is in the log"));
            }
            let image = super_block.log_first + at;
            if target == 0 {
                let mut content = vec![0; super_block.block_size()];
                blocks.read(image, &mut content)?;
                SuperBlock::parse(&content[512..])?;
            }
            found.insert(target, image);
        }
        at = (at + 1) % length;
    }
    Ok(found)
}

impl<S: Storage> Volume<S> {
    /// Carries out what is in the log, as the kernel does when it mounts the volume.
    pub(crate) fn replay(&mut self, pending: BTreeMap<u64, u64>) -> Result<()> {
        let mut content = vec![0; self.super_block.block_size()];
        for (block, image) in pending {
            self.blocks.read(image, &mut content)?;
            self.blocks.write(block, &content)?;
        }
        self.barrier()?;
        let (_, end) = self.super_block.log();
        self.super_block.set_log(end, end);
        // An entry may hold block 0, of which only the boot code counts.
        let used = self.count_used()?;
        self.super_block.set_used_blocks(used);
        self.write_super_block()?;
        self.barrier()
    }

    fn write_super_block(&mut self) -> Result<()> {
        let raw = *self.super_block.raw();
        self.blocks.write_bytes(OFFSET, &raw)
    }

    fn barrier(&mut self) -> Result<()> {
        if self.barriers { self.blocks.flush() } else { Ok(()) }
    }

    /// Completes operations together from now on, up to half of the log's size in one transaction, which
    /// saves most of the writes and flushes of many small ones. Each is still done all or not at
    /// all; but what is done after the last [`sync`](Self::sync) may be lost with this process, the
    /// last operation first.
    ///
    /// An error when a transaction is written ends the batch: the volume then refuses more.
    pub fn batch(&mut self) {
        self.batch = true;
    }

    /// Writes what a batch left, and flushes the storage.
    ///
    /// # Errors
    /// What was written may be lost.
    pub fn sync(&mut self) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.commit()?;
        self.blocks.flush()
    }

    /// Blocks that one transaction can change, not counting those that it allocates.
    pub(crate) fn capacity(&self) -> usize {
        let length = crate::bytes::to_usize(self.super_block.log_length - 1);
        length - length.div_ceil(ARRAY_HOLDS + 1)
    }

    /// Completes the operation under way, and the transaction that it belongs to: its own, or in a
    /// batch one that ends with as many blocks as half of the log has.
    pub(crate) fn complete(&mut self) -> Result<()> {
        let used = self.settle_space()?;
        let (logged, capacity) = (self.blocks.logged_count(), self.capacity());
        if logged > capacity {
            return Err(Error::TransactionTooLarge { blocks: logged, capacity });
        }
        if self.blocks.held_logged() + logged > capacity {
            self.commit()?;
        }
        let before = self.super_block.used_blocks();
        self.super_block.set_used_blocks(used);
        self.blocks.hold();
        self.space.hold();
        if self.batch && self.blocks.held_count() <= capacity / 2 {
            return Ok(());
        }
        let done = self.commit();
        if done.is_err() && !self.failed {
            self.super_block.set_used_blocks(before);
        }
        done
    }

    /// Writes the transaction of all complete operations.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let done = self.write_transaction();
        if done.is_err() {
            // Operations that were told to be complete are not, or one may be by half.
            self.failed |= self.batch;
            self.blocks.drop_held();
        } else {
            self.blocks.settle();
        }
        self.space.settle(self.super_block.ag_shift);
        done
    }

    /// New blocks are written in place, for nothing refers to them yet. Then the log, then the
    /// super block that makes it count; from there on a replay gives the new state. Then the
    /// blocks in place, and the super block that empties the log.
    fn write_transaction(&mut self) -> Result<()> {
        let (changes, fresh) = self.blocks.changes();
        if changes.is_empty() && fresh.is_empty() {
            return Ok(());
        }
        let fresh: Vec<_> = joined(&fresh);
        let length = self.super_block.log_length;
        let (_, start) = self.super_block.log();
        let start = start % length;
        let (log, end) = entries(&self.super_block, &changes, start);
        let changes = joined(&changes);
        for (block, content) in fresh {
            self.blocks.write(block, &content)?;
        }
        for (block, content) in log {
            self.blocks.write(block, &content)?;
        }
        self.barrier()?;
        // From here on, what is on the volume and what is in memory may differ.
        self.failed = true;
        self.super_block.set_log(start, end);
        self.write_super_block()?;
        self.barrier()?;
        for (block, content) in changes {
            self.blocks.write(block, &content)?;
        }
        self.barrier()?;
        self.super_block.set_log(end, end);
        self.write_super_block()?;
        self.failed = false;
        Ok(())
    }
}

/// Joins neighbouring blocks to pieces that are written at once, of a MiB at most.
fn joined(blocks: &[(u64, &[u8])]) -> Vec<(u64, Vec<u8>)> {
    const MOST: usize = 1 << 20;
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut next = None;
    for (block, content) in blocks {
        match pieces.last_mut() {
            Some((_, piece)) if next == Some(*block) && piece.len() < MOST => {
                piece.extend_from_slice(content);
            }
            _ => pieces.push((*block, content.to_vec())),
        }
        next = Some(block + 1);
    }
    pieces
}

/// Makes the entries for a transaction: pieces of the log to write, and the new end.
fn entries(
    super_block: &SuperBlock,
    changes: &[(u64, &[u8])],
    start: u64,
) -> (Vec<(u64, Vec<u8>)>, u64) {
    let mut images: Vec<Vec<u8>> = Vec::new();
    for part in changes.chunks(ARRAY_HOLDS) {
        let mut array = vec![0; super_block.block_size()];
        put(&mut array, 0, &(part.len() as u64).to_le_bytes()[..4]);
        put(&mut array, 4, &ARRAY_SAYS.to_le_bytes());
        for (index, (block, _)) in part.iter().enumerate() {
            super_block.run(*block).put(&mut array, 8 + index * Run::SIZE);
        }
        images.push(array);
        images.extend(part.iter().map(|(_, content)| content.to_vec()));
    }
    let length = super_block.log_length;
    let mut placed: Vec<(u64, &[u8])> = Vec::new();
    let mut at = start;
    for image in &images {
        placed.push((super_block.log_first + at, image));
        at = (at + 1) % length;
    }
    (joined(&placed), at)
}
