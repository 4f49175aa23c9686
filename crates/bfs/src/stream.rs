//! Where the content of an inode lies: the three ranges of its data stream.

use crate::blocks::Blocks;
use crate::bytes::{i64_at, put};
use crate::error::{Result, damaged};
use crate::storage::Storage;
use crate::super_block::{Run, SuperBlock};

/// Runs that an inode holds itself (NUM_DIRECT_BLOCKS of Haiku's bfs.h).
pub(crate) const DIRECT: usize = 12;
/// Haiku's arrays have 4 blocks (NUM_ARRAY_BLOCKS); more than this is taken for damage.
const MOST_ARRAY_BLOCKS: u16 = 64;

// The offsets are those of struct data_stream (Haiku, .../bfs/bfs.h).
const MAX_DIRECT: usize = 96;
const INDIRECT: usize = 104;
const MAX_INDIRECT: usize = 112;
const DOUBLE: usize = 120;
const MAX_DOUBLE: usize = 128;
const SIZE_AT: usize = 136;

/// A data stream. The three limits are in bytes from the start of the content; a range that is not
/// used has the limit 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) direct: [Run; DIRECT],
    pub(crate) max_direct: u64,
    pub(crate) indirect: Run,
    pub(crate) max_indirect: u64,
    pub(crate) double: Run,
    pub(crate) max_double: u64,
    pub(crate) size: u64,
}

/// Blocks that follow each other, in the content and on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Block of the content.
    pub(crate) at: u64,
    /// Block of the volume.
    pub(crate) block: u64,
    /// Number of blocks.
    pub(crate) length: u64,
}

impl Stream {
    pub(crate) const SIZE: usize = 144;

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let number = |at| i64_at(bytes, at) as u64;
        Self {
            direct: std::array::from_fn(|index| Run::parse(bytes, index * Run::SIZE)),
            max_direct: number(MAX_DIRECT),
            indirect: Run::parse(bytes, INDIRECT),
            max_indirect: number(MAX_INDIRECT),
            double: Run::parse(bytes, DOUBLE),
            max_double: number(MAX_DOUBLE),
            size: number(SIZE_AT),
        }
    }

    pub(crate) fn put(&self, bytes: &mut [u8]) {
        for (index, run) in self.direct.iter().enumerate() {
            run.put(bytes, index * Run::SIZE);
        }
        put(bytes, MAX_DIRECT, &self.max_direct.to_le_bytes());
        self.indirect.put(bytes, INDIRECT);
        put(bytes, MAX_INDIRECT, &self.max_indirect.to_le_bytes());
        self.double.put(bytes, DOUBLE);
        put(bytes, MAX_DOUBLE, &self.max_double.to_le_bytes());
        put(bytes, SIZE_AT, &self.size.to_le_bytes());
    }

    /// Checks what can be checked without reading the arrays.
    pub(crate) fn validate(&self, super_block: &SuperBlock, inode: u64) -> Result<()> {
        let wrong = |field, problem: String| Err(damaged(inode, inode, field, problem));
        let volume = super_block.bytes_of(super_block.num_blocks);
        for (field, limit) in [
            ("max_direct_range", self.max_direct),
            ("max_indirect_range", self.max_indirect),
            ("max_double_indirect_range", self.max_double),
        ] {
            if limit > volume || limit & ((1 << super_block.block_shift) - 1) != 0 {
                return wrong(field, format!("{} cannot be", limit as i64));
            }
        }
        if self.max_indirect != 0 && self.max_indirect < self.max_direct {
            return wrong("max_indirect_range", format!("{} is too small", self.max_indirect));
        }
        if self.max_double != 0 && self.max_double < self.max_indirect.max(self.max_direct) {
            return wrong("max_double_indirect_range", format!("{} is too small", self.max_double));
        }
        if self.size > self.capacity() {
            let problem = format!("{} is more than the {} allocated", self.size, self.capacity());
            return wrong("size", problem);
        }
        Ok(())
    }

    /// Bytes that the allocated blocks hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.max_double.max(self.max_indirect).max(self.max_direct)
    }

    /// Reads where everything lies, neighbouring runs joined.
    pub(crate) fn extents<S: Storage>(
        &self,
        super_block: &SuperBlock,
        blocks: &mut Blocks<S>,
        inode: u64,
    ) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut total = 0;
        self.visit(super_block, blocks, inode, |piece| {
            let Piece::Data(block, length, _) = piece else { return };
            match extents.last_mut() {
                Some(Extent { block: last, length: known, .. }) if *last + *known == block => {
                    *known += length;
                }
                _ => extents.push(Extent { at: total, block, length }),
            }
            total += length;
        })?;
        Ok(extents)
    }

    /// Calls `visit` with every piece of the stream, in the order of the content.
    ///
    /// Each run is valid, and they hold what the limits say.
    pub(crate) fn visit<S: Storage>(
        &self,
        super_block: &SuperBlock,
        blocks: &mut Blocks<S>,
        inode: u64,
        mut visit: impl FnMut(Piece),
    ) -> Result<()> {
        let mut walk = Walk { super_block, blocks, inode, done: 0, visit: &mut visit };
        for (index, run) in self.direct.iter().enumerate() {
            if walk.done == self.max_direct {
                break;
            }
            walk.data(*run, inode, "direct", Place::Direct(index), self.max_direct)?;
        }
        walk.reached(self.max_direct, inode, "max_direct_range")?;
        if self.max_indirect > self.max_direct {
            walk.indirect(self)?;
        } else if !self.indirect.is_zero() {
            walk.array(self.indirect, inode, "indirect")?;
        }
        if self.max_double > self.max_indirect {
            walk.double(self)?;
        } else if !self.double.is_zero() {
            walk.array(self.double, inode, "double_indirect")?;
        }
        Ok(())
    }
}

/// Where a run is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the inode: index.
    Direct(usize),
    /// In an array: block and index.
    Array(u64, usize),
}

/// A piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// First block and length of content, and where the run is recorded.
    Data(u64, u64, Place),
    /// First block and length of an array of runs.
    Array(u64, u64),
}

struct Walk<'a, S> {
    super_block: &'a SuperBlock,
    blocks: &'a mut Blocks<S>,
    inode: u64,
    done: u64,
    visit: &'a mut dyn FnMut(Piece),
}

impl<S: Storage> Walk<'_, S> {
    fn data(
        &mut self,
        run: Run,
        block: u64,
        field: &'static str,
        place: Place,
        limit: u64,
    ) -> Result<u64> {
        let wrong = |problem: String| damaged(self.inode, block, field, problem);
        let (first, length) = self
            .super_block
            .data_range(run)
            .ok_or_else(|| wrong(format!("{run} is not a run of data")))?;
        let bytes = self.super_block.bytes_of(length);
        if self.done + bytes > limit {
            return Err(wrong(format!("{run} goes beyond the limit of its range, {limit}")));
        }
        self.done += bytes;
        (self.visit)(Piece::Data(first, length, place));
        Ok(length)
    }

    fn array(&mut self, run: Run, block: u64, field: &'static str) -> Result<(u64, u64)> {
        match self.super_block.data_range(run) {
            Some((first, length)) if run.length <= MOST_ARRAY_BLOCKS => {
                (self.visit)(Piece::Array(first, length));
                Ok((first, length))
            }
            _ => Err(damaged(self.inode, block, field, format!("{run} is not an array of runs"))),
        }
    }

    fn reached(&self, limit: u64, block: u64, field: &'static str) -> Result<()> {
        if self.done == limit {
            return Ok(());
        }
        let problem = format!("{limit}, but the runs end at {}", self.done);
        Err(damaged(self.inode, block, field, problem))
    }

    fn indirect(&mut self, stream: &Stream) -> Result<()> {
        let (first, length) = self.array(stream.indirect, self.inode, "indirect")?;
        let per_block = self.super_block.runs_per_block();
        for block in first..first + length {
            let array = self.blocks.get(block)?;
            for index in 0..per_block {
                if self.done == stream.max_indirect {
                    return Ok(());
                }
                let run = Run::parse(&array, index * Run::SIZE);
                let place = Place::Array(block, index);
                self.data(run, block, "indirect", place, stream.max_indirect)?;
            }
        }
        self.reached(stream.max_indirect, self.inode, "max_indirect_range")
    }

    fn double(&mut self, stream: &Stream) -> Result<()> {
        let (first, length) = self.array(stream.double, self.inode, "double_indirect")?;
        self.done = self.done.max(stream.max_indirect);
        let per_block = self.super_block.runs_per_block();
        for block in first..first + length {
            let array = self.blocks.get(block)?;
            for index in 0..per_block {
                if self.done == stream.max_double {
                    return Ok(());
                }
                let run = Run::parse(&array, index * Run::SIZE);
                let (below, count) = self.array(run, block, "double_indirect")?;
                if count != length {
                    let problem = format!("{run} has not the length of its array, {length}");
                    return Err(damaged(self.inode, block, "double_indirect", problem));
                }
                self.double_leaves(stream, below, length)?;
            }
        }
        self.reached(stream.max_double, self.inode, "max_double_indirect_range")
    }

    fn double_leaves(&mut self, stream: &Stream, first: u64, length: u64) -> Result<()> {
        let per_block = self.super_block.runs_per_block();
        for block in first..first + length {
            let array = self.blocks.get(block)?;
            for index in 0..per_block {
                if self.done == stream.max_double {
                    return Ok(());
                }
                let run = Run::parse(&array, index * Run::SIZE);
                let place = Place::Array(block, index);
                let limit = stream.max_double;
                if self.data(run, block, "double_indirect", place, limit)? != length {
                    let problem = format!("{run} has not the length of its array, {length}");
                    return Err(damaged(self.inode, block, "double_indirect", problem));
                }
            }
        }
        Ok(())
    }
}
