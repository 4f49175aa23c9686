//! Making a data stream longer and shorter.

use crate::bytes::to_usize;
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::stream::{DIRECT, Piece, Place, Stream};
use crate::super_block::Run;
use crate::volume::Volume;

/// Blocks of the array of the indirect range (NUM_ARRAY_BLOCKS of Haiku's bfs.h).
const INDIRECT_BLOCKS: u64 = 4;

/// Where the next run of a stream will be recorded.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Runs of the inode that are used.
    direct: usize,
    /// The same for the array of the indirect range.
    indirect: usize,
    /// The block after the last one, as the place to look for room.
    goal: u64,
}

impl Tail {
    pub(crate) fn of<S: Storage>(
        volume: &mut Volume<S>,
        inode: u64,
        stream: &Stream,
    ) -> Result<Self> {
        let mut tail = Self { direct: 0, indirect: 0, goal: inode + 1 };
        let indirect = volume.super_block.range(stream.indirect).unwrap_or_default();
        let per_block = volume.super_block.runs_per_block();
        let (super_block, blocks) = volume.geometry();
        stream.visit(super_block, blocks, inode, |piece| {
            let Piece::Data(block, length, place) = piece else { return };
            tail.goal = block + length;
            match place {
                Place::Direct(index) => tail.direct = index + 1,
                Place::Array(block, index) => {
                    if (indirect.0..indirect.0 + indirect.1).contains(&block) {
                        tail.indirect = to_usize(block - indirect.0) * per_block + index + 1;
                    }
                }
            }
        })?;
        Ok(tail)
    }
}

impl<S: Storage> Volume<S> {
    /// Makes a stream `size` bytes long; the new blocks hold what they held.
    pub(crate) fn grow(&mut self, inode: u64, stream: &mut Stream, size: u64) -> Result<()> {
        if size > stream.capacity() {
            let mut tail = Tail::of(self, inode, stream)?;
            let mut wanted = self.super_block.blocks_for(size - stream.capacity());
            // Trees grow by a node at a time: keep their blocks together.
            if stream.capacity() > 0 && wanted < 8 && self.free_blocks() > 128 {
                let more = self.super_block.blocks_for(stream.capacity().min(65536));
                wanted = wanted.max(more);
            }
            while size > stream.capacity() {
                let (_, length) = self.extend(stream, &mut tail, wanted)?;
                wanted = wanted.saturating_sub(length).max(1);
            }
        }
        stream.size = size;
        Ok(())
    }

    /// Appends up to `wanted` blocks to a stream, in one run. Returns the first and how many: more
    /// than wanted where the double indirect range demands it.
    pub(crate) fn extend(
        &mut self,
        stream: &mut Stream,
        tail: &mut Tail,
        wanted: u64,
    ) -> Result<(u64, u64)> {
        if stream.max_double == 0 && stream.indirect.is_zero() {
            // In the last place, a run that continues the one before it needs none.
            if tail.direct < DIRECT {
                return self.extend_direct(stream, tail, wanted);
            }
            self.add_indirect(stream, tail)?;
        }
        if stream.max_double == 0 {
            let (_, blocks) = self.super_block.range(stream.indirect).unwrap_or_default();
            if tail.indirect < to_usize(blocks) * self.super_block.runs_per_block() {
                return self.extend_indirect(stream, tail, wanted);
            }
        }
        self.extend_double(stream, tail, wanted)
    }

    fn extend_direct(
        &mut self,
        stream: &mut Stream,
        tail: &mut Tail,
        wanted: u64,
    ) -> Result<(u64, u64)> {
        let (first, length) = self.allocate(tail.goal, wanted, 1)?;
        let last = tail.direct.checked_sub(1).map(|index| &mut stream.direct[index]);
        match last.and_then(|last| {
            join(*last, self.super_block.run_of(first, length)).map(|run| (last, run))
        }) {
            Some((last, run)) => *last = run,
            None => {
                stream.direct[tail.direct] = self.super_block.run_of(first, length);
                tail.direct += 1;
            }
        }
        stream.max_direct += self.super_block.bytes_of(length);
        tail.goal = first + length;
        Ok((first, length))
    }

    fn add_indirect(&mut self, stream: &mut Stream, tail: &mut Tail) -> Result<()> {
        // Where there is not even room for four blocks together, one will do.
        let (first, length) = match self.allocate(tail.goal, INDIRECT_BLOCKS, INDIRECT_BLOCKS) {
            Err(Error::NoSpace { .. }) => self.allocate(tail.goal, 1, 1)?,
            other => other?,
        };
        for block in first..first + length {
            self.blocks.fresh(block);
        }
        stream.indirect = self.super_block.run_of(first, length);
        stream.max_indirect = stream.max_direct;
        tail.indirect = 0;
        Ok(())
    }

    fn extend_indirect(
        &mut self,
        stream: &mut Stream,
        tail: &mut Tail,
        wanted: u64,
    ) -> Result<(u64, u64)> {
        stream.max_indirect = stream.max_indirect.max(stream.max_direct);
        let (first, length) = self.allocate(tail.goal, wanted, 1)?;
        let (array, _) = self.super_block.range(stream.indirect).unwrap_or_default();
        let run = self.super_block.run_of(first, length);
        let per_block = self.super_block.runs_per_block();
        let place =
            |index: usize| (array + (index / per_block) as u64, index % per_block * Run::SIZE);
        let mut joined = None;
        if let Some(last) = tail.indirect.checked_sub(1) {
            let (block, at) = place(last);
            joined = join(Run::parse(&self.blocks.get(block)?, at), run).map(|run| (last, run));
        }
        let (index, run) = joined.unwrap_or((tail.indirect, run));
        let (block, at) = place(index);
        run.put(self.blocks.modify(block)?, at);
        tail.indirect = index + 1;
        stream.max_indirect += self.super_block.bytes_of(length);
        tail.goal = first + length;
        Ok((first, length))
    }

    fn extend_double(
        &mut self,
        stream: &mut Stream,
        tail: &mut Tail,
        wanted: u64,
    ) -> Result<(u64, u64)> {
        if stream.double.is_zero() {
            let unit = self.super_block.double_array_blocks();
            let (first, length) = self.allocate(tail.goal, unit, unit)?;
            for block in first..first + length {
                self.blocks.fresh(block);
            }
            stream.double = self.super_block.run_of(first, length);
            stream.max_double = stream.max_indirect;
        }
        let unit = u64::from(stream.double.length);
        let (top, _) = self.super_block.range(stream.double).unwrap_or_default();
        let per_block = self.super_block.runs_per_block() as u64;
        let per_array = per_block * unit;
        let done = self.super_block.blocks_for(stream.max_double - stream.max_indirect) / unit;
        // One array at a time, so that a run never has to be recorded in two.
        let left = per_array - done % per_array;
        if done / per_array >= per_array {
            let size = stream.capacity() + 1;
            return Err(Error::TooLarge { size, reason: "its double indirect range is full" });
        }
        let (block, at) = {
            let index = done / per_array;
            (top + index / per_block, to_usize(index % per_block) * Run::SIZE)
        };
        let mut array = Run::parse(&self.blocks.get(block)?, at);
        if done.is_multiple_of(per_array) {
            let (first, length) = self.allocate(tail.goal, unit, unit)?;
            for block in first..first + length {
                self.blocks.fresh(block);
            }
            array = self.super_block.run_of(first, length);
            array.put(self.blocks.modify(block)?, at);
        }
        let (first, length) = self.allocate(tail.goal, wanted.min(left * unit), unit)?;
        let (array, _) = self.super_block.range(array).unwrap_or_default();
        for (index, start) in
            (done % per_array..).zip((first..first + length).step_by(to_usize(unit)))
        {
            let run = self.super_block.run_of(start, unit);
            let at = to_usize(index % per_block) * Run::SIZE;
            run.put(self.blocks.modify(array + index / per_block)?, at);
        }
        stream.max_double += self.super_block.bytes_of(length);
        tail.goal = first + length;
        Ok((first, length))
    }

    /// Frees the blocks after the first `size` bytes of a stream, and sets its size if it was
    /// larger.
    pub(crate) fn shrink(&mut self, inode: u64, stream: &mut Stream, size: u64) -> Result<()> {
        let keep = self.super_block.blocks_for(size);
        let unit = u64::from(stream.double.length).max(1);
        let ranges = [stream.indirect, stream.double]
            .map(|run| self.super_block.range(run).unwrap_or_default());
        let mut pieces = Vec::new();
        let (super_block, blocks) = self.geometry();
        stream.visit(super_block, blocks, inode, |piece| pieces.push(piece))?;
        let (mut at, mut kept) = (0, stream.clone());
        (kept.max_direct, kept.max_indirect, kept.max_double) = (0, 0, 0);
        let in_range =
            |block: u64, (first, length): (u64, u64)| (first..first + length).contains(&block);
        // An array goes when nothing that it leads to stays; it comes before what it leads to, and
        // what is in an array that goes need not be cleared.
        let (mut array_stays, mut top_stays) = (true, true);
        for piece in pieces {
            match piece {
                Piece::Data(first, length, place) => {
                    let mut stay = keep.saturating_sub(at).min(length);
                    let in_double = matches!(place, Place::Array(block, _)
                        if !in_range(block, ranges[0]));
                    if in_double {
                        stay = stay.next_multiple_of(unit).min(length);
                    }
                    at += length;
                    let end = self.super_block.bytes_of(at - length + stay);
                    if stay > 0 {
                        match place {
                            Place::Direct(_) => kept.max_direct = end,
                            Place::Array(_, _) if in_double => kept.max_double = end,
                            Place::Array(_, _) => kept.max_indirect = end,
                        }
                    }
                    if stay < length {
                        self.release(first + stay, length - stay);
                        let run = match stay {
                            0 => Run::default(),
                            stay => self.super_block.run_of(first, stay),
                        };
                        match place {
                            Place::Direct(index) => kept.direct[index] = run,
                            Place::Array(block, index) if array_stays => {
                                run.put(self.blocks.modify(block)?, index * Run::SIZE);
                            }
                            Place::Array(..) => {}
                        }
                    }
                }
                Piece::Array(first, length) => {
                    array_stays = keep > at;
                    if first == ranges[1].0 {
                        top_stays = array_stays;
                    }
                    if array_stays {
                        continue;
                    }
                    self.release(first, length);
                    if first == ranges[0].0 {
                        kept.indirect = Run::default();
                    } else if first == ranges[1].0 {
                        kept.double = Run::default();
                    } else if top_stays {
                        self.forget_array(stream, at, unit)?;
                    }
                }
            }
        }
        kept.size = stream.size.min(size);
        *stream = kept;
        Ok(())
    }

    /// Clears the entry of the double indirect array whose content begins with block `at`.
    fn forget_array(&mut self, stream: &Stream, at: u64, unit: u64) -> Result<()> {
        let per_block = self.super_block.runs_per_block() as u64;
        let before = at - self.super_block.blocks_for(stream.max_indirect);
        let index = before / unit / (per_block * unit);
        let (top, _) = self.super_block.range(stream.double).unwrap_or_default();
        let place = to_usize(index % per_block) * Run::SIZE;
        Run::default().put(self.blocks.modify(top + index / per_block)?, place);
        Ok(())
    }
}

/// Joins two runs that follow each other in a group.
fn join(one: Run, other: Run) -> Option<Run> {
    let length = one.length.checked_add(other.length)?;
    let follows = u32::from(one.start) + u32::from(one.length) == u32::from(other.start);
    let joins = follows && one.group == other.group && one.length > 0;
    joins.then_some(Run { length, ..one })
}
