//! The super block and the geometry that it describes.

use std::fmt;

use crate::bytes::{i32_at, i64_at, put, to_usize, u16_at, u32_at};
use crate::error::{Error, Result, damaged};

/// Bytes of a super block, and where it lies in the volume.
///
/// On x86 the first sector is the boot block (Haiku, src/add-ons/kernel/file_systems/bfs/Volume.cpp,
/// CheckSuperBlock).
pub(crate) const SIZE: usize = 512;
pub(crate) const OFFSET: u64 = 512;

// The offsets are those of struct disk_super_block (Haiku, .../bfs/bfs.h).
const NAME: usize = 0;
const MAGIC_1: usize = 32;
const BYTE_ORDER: usize = 36;
const BLOCK_SIZE: usize = 40;
const BLOCK_SHIFT: usize = 44;
const NUM_BLOCKS: usize = 48;
const USED_BLOCKS: usize = 56;
const INODE_SIZE: usize = 64;
const MAGIC_2: usize = 68;
const BLOCKS_PER_AG: usize = 72;
const AG_SHIFT: usize = 76;
const NUM_AGS: usize = 80;
const FLAGS: usize = 84;
const LOG_BLOCKS: usize = 88;
const LOG_START: usize = 96;
const LOG_END: usize = 104;
const MAGIC_3: usize = 112;
const ROOT_DIR: usize = 116;
const INDICES: usize = 124;

const MAGIC_VALUE_1: u32 = 0x4246_5331;
const MAGIC_VALUE_2: u32 = 0xdd12_1031;
const MAGIC_VALUE_3: u32 = 0x15b6_830e;
const NATIVE_ORDER: u32 = 0x4249_4745;
const CLEAN: u32 = 0x434c_454e;
const DIRTY: u32 = 0x4449_5254;

/// A run of blocks within one allocation group (struct block_run in bfs.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) group: i32,
    pub(crate) start: u16,
    pub(crate) length: u16,
}

impl Run {
    pub(crate) const SIZE: usize = 8;

    pub(crate) fn parse(bytes: &[u8], at: usize) -> Self {
        Self {
            group: i32_at(bytes, at),
            start: u16_at(bytes, at + 4),
            length: u16_at(bytes, at + 6),
        }
    }

    pub(crate) fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.group.to_le_bytes());
        put(bytes, at + 4, &self.start.to_le_bytes());
        put(bytes, at + 6, &self.length.to_le_bytes());
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", self.group, self.start, self.length)
    }
}

/// The geometry of a volume and the state of its log.
#[derive(Clone, Debug)]
pub(crate) struct SuperBlock {
    raw: [u8; SIZE],
    pub(crate) block_shift: u32,
    pub(crate) num_blocks: u64,
    pub(crate) blocks_per_ag: u64,
    pub(crate) ag_shift: u32,
    pub(crate) num_ags: u64,
    pub(crate) root: u64,
    pub(crate) indices: Option<u64>,
    pub(crate) log_first: u64,
    pub(crate) log_length: u64,
}

impl SuperBlock {
    /// Parses and validates the 512 bytes at byte 512 of a volume.
    ///
    /// Stricter than the kernel (Volume.cpp, disk_super_block::IsValid): the bitmap, the log and
    /// the two directories must lie where blocks can be.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut raw = [0; SIZE];
        raw.copy_from_slice(&bytes[..SIZE]);
        let word = |at| u32_at(&raw, at);
        let foreign = |field, found: u32| Error::NotBfs { field, found: format!("{found:#x}") };
        if word(MAGIC_1) == MAGIC_VALUE_1.swap_bytes() {
            return Err(Error::BigEndian);
        }
        if word(MAGIC_1) != MAGIC_VALUE_1 {
            return Err(foreign("magic1", word(MAGIC_1)));
        }
        if word(BYTE_ORDER) != NATIVE_ORDER {
            return Err(foreign("fs_byte_order", word(BYTE_ORDER)));
        }
        if word(MAGIC_2) != MAGIC_VALUE_2 {
            return Err(foreign("magic2", word(MAGIC_2)));
        }
        if word(MAGIC_3) != MAGIC_VALUE_3 {
            return Err(foreign("magic3", word(MAGIC_3)));
        }
        let wrong = |field, problem: String| damaged(None, 0, field, problem);
        let (block_size, block_shift) = (word(BLOCK_SIZE), word(BLOCK_SHIFT));
        if !matches!(block_size, 1024 | 2048 | 4096 | 8192) {
            return Err(wrong("block_size", format!("{block_size} is not supported")));
        }
        if 1_u32.checked_shl(block_shift) != Some(block_size) {
            return Err(wrong("block_shift", format!("{block_shift} for blocks of {block_size}")));
        }
        if word(INODE_SIZE) != block_size {
            return Err(wrong("inode_size", format!("{} for {block_size}", word(INODE_SIZE))));
        }
        let num_blocks = u64::try_from(i64_at(&raw, NUM_BLOCKS))
            .ok()
            .filter(|count| *count >= 10 && count.checked_shl(block_shift + 3).is_some())
            .filter(|count| *count < 1 << 47)
            .ok_or_else(|| wrong("num_blocks", i64_at(&raw, NUM_BLOCKS).to_string()))?;
        let ag_shift = word(AG_SHIFT);
        if !(1..=16).contains(&ag_shift) {
            return Err(wrong("ag_shift", format!("{ag_shift} is not between 1 and 16")));
        }
        let blocks_per_ag = u64::from(word(BLOCKS_PER_AG));
        if blocks_per_ag << (block_shift + 3) != 1 << ag_shift {
            return Err(wrong(
                "blocks_per_ag",
                format!("{blocks_per_ag} bitmap blocks do not make groups of 2^{ag_shift} blocks"),
            ));
        }
        let num_ags = u64::from(word(NUM_AGS));
        if num_ags != num_blocks.div_ceil(1 << ag_shift) {
            return Err(wrong("num_ags", format!("{num_ags} for {num_blocks} blocks")));
        }
        let mut this = Self {
            raw,
            block_shift,
            num_blocks,
            blocks_per_ag,
            ag_shift,
            num_ags,
            root: 0,
            indices: None,
            log_first: 0,
            log_length: 0,
        };
        this.parse_places()?;
        Ok(this)
    }

    fn parse_places(&mut self) -> Result<()> {
        let log = Run::parse(&self.raw, LOG_BLOCKS);
        (self.log_first, self.log_length) = self
            .range(log)
            .filter(|(first, length)| *first > self.bitmap_blocks() && *length >= 8)
            .ok_or_else(|| damaged(None, 0, "log_blocks", format!("{log} cannot be the log")))?;
        for (at, field) in [(LOG_START, "log_start"), (LOG_END, "log_end")] {
            if i64_at(&self.raw, at) < 0 {
                let problem = format!("{} is negative", i64_at(&self.raw, at));
                return Err(damaged(None, 0, field, problem));
            }
        }
        let root = Run::parse(&self.raw, ROOT_DIR);
        self.root = self
            .inode_block(root)
            .ok_or_else(|| damaged(None, 0, "root_dir", format!("{root} cannot be an inode")))?;
        let indices = Run::parse(&self.raw, INDICES);
        if !indices.is_zero() {
            self.indices = Some(self.inode_block(indices).ok_or_else(|| {
                damaged(None, 0, "indices", format!("{indices} cannot be an inode"))
            })?);
        }
        Ok(())
    }

    /// Describes a new volume, as Haiku does it (Volume.cpp, disk_super_block::Initialize and
    /// Volume::Initialize).
    pub(crate) fn make(name: &str, block_size: u32, size: u64) -> Result<Self> {
        // Allocation groups that small volumes are divided into; Haiku's kDesiredAllocationGroups.
        const DESIRED_GROUPS: u64 = 56;
        let num_blocks = size / u64::from(block_size);
        let block_shift = block_size.trailing_zeros();
        let (mut ag_shift, mut blocks_per_ag) = (block_shift + 3, 1_u32);
        while num_blocks.div_ceil(1 << ag_shift) > DESIRED_GROUPS && ag_shift < 16 {
            ag_shift += 1;
            blocks_per_ag *= 2;
        }
        let too_large = || Error::Parameters(format!("{size} bytes are too many"));
        let num_ags = u32::try_from(num_blocks.div_ceil(1 << ag_shift)).map_err(|_| too_large())?;
        let log_length = match num_blocks {
            _ if size > 1 << 30 => 4096,
            0..=20480 => 512,
            _ => 2048_u16,
        };
        let log_first = 1 + num_blocks.div_ceil(u64::from(block_size) * 8);
        let mut raw = [0; SIZE];
        let length = name.len().min(31);
        put(&mut raw, NAME, &name.as_bytes()[..length]);
        for (at, value) in [
            (MAGIC_1, MAGIC_VALUE_1),
            (BYTE_ORDER, NATIVE_ORDER),
            (BLOCK_SIZE, block_size),
            (BLOCK_SHIFT, block_shift),
            (INODE_SIZE, block_size),
            (MAGIC_2, MAGIC_VALUE_2),
            (BLOCKS_PER_AG, blocks_per_ag),
            (AG_SHIFT, ag_shift),
            (NUM_AGS, num_ags),
            (FLAGS, CLEAN),
            (MAGIC_3, MAGIC_VALUE_3),
        ] {
            put(&mut raw, at, &value.to_le_bytes());
        }
        put(&mut raw, NUM_BLOCKS, &num_blocks.to_le_bytes());
        put(&mut raw, USED_BLOCKS, &(log_first + u64::from(log_length)).to_le_bytes());
        let mut this = Self {
            raw,
            block_shift,
            num_blocks,
            blocks_per_ag: u64::from(blocks_per_ag),
            ag_shift,
            num_ags: u64::from(num_ags),
            root: 0,
            indices: None,
            log_first,
            log_length: u64::from(log_length),
        };
        // Room for the log, the root and the four indices with their trees.
        if num_blocks < this.reserved() + 64 {
            return Err(Error::Parameters(format!("{size} bytes are too few")));
        }
        if log_first >= 1 << ag_shift || this.reserved() > 1 << ag_shift {
            return Err(too_large());
        }
        let mut log = this.run(log_first);
        log.length = log_length;
        log.put(&mut this.raw, LOG_BLOCKS);
        put(&mut this.raw, LOG_START, &log_first.to_le_bytes());
        put(&mut this.raw, LOG_END, &log_first.to_le_bytes());
        Ok(this)
    }

    pub(crate) fn set_directories(&mut self, root: u64, indices: u64) {
        (self.root, self.indices) = (root, Some(indices));
        self.run(root).put(&mut self.raw, ROOT_DIR);
        self.run(indices).put(&mut self.raw, INDICES);
    }

    pub(crate) fn raw(&self) -> &[u8; SIZE] {
        &self.raw
    }

    pub(crate) fn name(&self) -> String {
        let end = self.raw[..MAGIC_1].iter().position(|byte| *byte == 0).unwrap_or(32);
        String::from_utf8_lossy(&self.raw[..end]).into_owned()
    }

    pub(crate) fn block_size(&self) -> usize {
        1 << self.block_shift
    }

    pub(crate) fn used_blocks(&self) -> u64 {
        u64::try_from(i64_at(&self.raw, USED_BLOCKS)).unwrap_or_default().min(self.num_blocks)
    }

    pub(crate) fn raw_used_blocks(&self) -> i64 {
        i64_at(&self.raw, USED_BLOCKS)
    }

    pub(crate) fn set_used_blocks(&mut self, count: u64) {
        put(&mut self.raw, USED_BLOCKS, &count.to_le_bytes());
    }

    pub(crate) fn is_flagged_clean(&self) -> bool {
        u32_at(&self.raw, FLAGS) == CLEAN
    }

    pub(crate) fn flags(&self) -> u32 {
        u32_at(&self.raw, FLAGS)
    }

    /// The log position of the first entry, and the one after the last.
    pub(crate) fn log(&self) -> (u64, u64) {
        let at = |at| i64_at(&self.raw, at).unsigned_abs();
        (at(LOG_START), at(LOG_END))
    }

    pub(crate) fn set_log(&mut self, start: u64, end: u64) {
        put(&mut self.raw, LOG_START, &start.to_le_bytes());
        put(&mut self.raw, LOG_END, &end.to_le_bytes());
        let flags = if start == end { CLEAN } else { DIRTY };
        put(&mut self.raw, FLAGS, &flags.to_le_bytes());
    }

    /// Blocks of the bitmap that are in use, from block 1 on.
    pub(crate) fn bitmap_blocks(&self) -> u64 {
        self.num_blocks.div_ceil(1 << (self.block_shift + 3))
    }

    /// The first block that can belong to an inode: after the boot block, bitmap and log.
    pub(crate) fn reserved(&self) -> u64 {
        self.log_first + self.log_length
    }

    /// Number of blocks of a group; the last one is shorter.
    pub(crate) fn group_blocks(&self, group: u64) -> u64 {
        (self.num_blocks - (group << self.ag_shift)).min(1 << self.ag_shift)
    }

    /// First block and length of a run, if it lies within the volume and one group.
    pub(crate) fn range(&self, run: Run) -> Option<(u64, u64)> {
        let group = u64::try_from(run.group).ok().filter(|group| *group < self.num_ags)?;
        let (start, length) = (u64::from(run.start), u64::from(run.length));
        let fits = length > 0 && start + length <= self.group_blocks(group);
        fits.then_some(((group << self.ag_shift) + start, length))
    }

    /// The same for a run that an inode may own: not in the boot block, bitmap or log.
    pub(crate) fn data_range(&self, run: Run) -> Option<(u64, u64)> {
        self.range(run).filter(|(first, _)| *first >= self.reserved())
    }

    /// The block of an inode that a run of length 1 names.
    pub(crate) fn inode_block(&self, run: Run) -> Option<u64> {
        self.data_range(run).filter(|(_, length)| *length == 1).map(|(first, _)| first)
    }

    /// Whether a block can be that of an inode.
    pub(crate) fn is_data_block(&self, block: u64) -> bool {
        (self.reserved()..self.num_blocks).contains(&block)
    }

    /// The run of length 1 for a block.
    pub(crate) fn run(&self, block: u64) -> Run {
        self.run_of(block, 1)
    }

    /// The run for blocks that the allocator found in one group.
    pub(crate) fn run_of(&self, block: u64, length: u64) -> Run {
        let start = block & ((1 << self.ag_shift) - 1);
        Run {
            group: i32::try_from(block >> self.ag_shift).unwrap_or(i32::MAX),
            start: u16::try_from(start).unwrap_or(u16::MAX),
            length: u16::try_from(length).unwrap_or(u16::MAX),
        }
    }

    /// Entries of one block of an array of runs.
    pub(crate) fn runs_per_block(&self) -> usize {
        self.block_size() / Run::SIZE
    }

    /// Blocks of an array of the double indirect range: 4096 bytes, at least one block
    /// (Inode.cpp, _DoubleIndirectBlockLength).
    pub(crate) fn double_array_blocks(&self) -> u64 {
        (4096 >> self.block_shift).max(1)
    }

    /// Blocks that hold so many bytes.
    pub(crate) fn blocks_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(1 << self.block_shift)
    }

    /// The bytes of so many blocks.
    pub(crate) fn bytes_of(&self, blocks: u64) -> u64 {
        blocks << self.block_shift
    }

    /// Where a block of the volume is in memory, given its content.
    pub(crate) fn within(block_shift: u32, offset: u64) -> usize {
        to_usize(offset & ((1 << block_shift) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_is_that_of_haiku() {
        // Taken from volumes that Haiku's own tools made.
        for (block_size, size, expected) in [
            (1024, 32 << 20, (32768, 1, 13, 4, 5, 2048)),
            (2048, 96 << 20, (49152, 1, 14, 3, 4, 2048)),
            (2048, 48 << 20, (24576, 1, 14, 2, 3, 2048)),
            (8192, 48 << 20, (6144, 1, 16, 1, 2, 512)),
        ] {
            let made = SuperBlock::make("x", block_size, size).unwrap();
            let found = (
                made.num_blocks,
                made.blocks_per_ag,
                made.ag_shift,
                made.num_ags,
                made.log_first,
                made.log_length,
            );
            assert_eq!(found, expected, "{block_size}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (block_size, size) in [(1024, 10_000), (2048, 1 << 20), (1024, u64::MAX)] {
            assert!(SuperBlock::make("x", block_size, size).is_err(), "{block_size} {size}");
        }
    }

    #[test]
    fn runs_stay_in_their_group() {
        let mut block = SuperBlock::make("x", 2048, 96 << 20).unwrap();
        block.set_directories(3000, 3001);
        let block = SuperBlock::parse(block.raw()).unwrap();
        let run = |group, start, length| Run { group, start, length };
        assert_eq!(block.range(run(1, 4, 3)), Some((16388, 3)));
        assert_eq!(block.range(run(0, 16383, 1)), Some((16383, 1)));
        for bad in [run(0, 16383, 2), run(3, 0, 1), run(-1, 0, 1), run(0, 5, 0)] {
            assert_eq!(block.range(bad), None, "{bad}");
        }
        assert_eq!(block.data_range(run(0, 2051, 1)), None);
        assert_eq!(block.run(16388), run(1, 4, 1));
    }
}
