//! The inode: one block for everything about a file but its content.

use crate::bytes::{i64_at, put, u32_at};
use crate::error::{Result, damaged};
use crate::stream::Stream;
use crate::super_block::{Run, SuperBlock};

// The offsets are those of struct bfs_inode (Haiku, .../bfs/bfs.h).
const MAGIC: usize = 0;
const INODE_NUM: usize = 4;
const UID: usize = 12;
const GID: usize = 16;
const MODE: usize = 20;
const FLAGS: usize = 24;
const CREATE_TIME: usize = 28;
const LAST_MODIFIED: usize = 36;
const PARENT: usize = 44;
const ATTRIBUTES: usize = 52;
const TYPE: usize = 60;
const INODE_SIZE: usize = 64;
const STREAM: usize = 72;
const STATUS_CHANGE: usize = 216;
/// Where the area of the small attributes begins.
pub(crate) const SMALL_DATA: usize = 232;
/// Room for the target of a short symbolic link, with the zero at its end.
pub(crate) const SHORT_LINK: usize = Stream::SIZE;

const MAGIC_VALUE: u32 = 0x3bbe_0ad9;

pub(crate) const IN_USE: u32 = 1;
pub(crate) const DELETED: u32 = 0x10;
/// The target of a link is in blocks. The kernel sets LOGGED (8) with it.
pub(crate) const LONG_LINK: u32 = 0x40;
pub(crate) const LOGGED: u32 = 8;

/// Bits of an inode's mode (Haiku, headers/posix/sys/stat.h).
pub(crate) mod mode {
    /// The bits that tell the type.
    pub(crate) const TYPE: u32 = 0o170_000;
    /// A symbolic link.
    pub(crate) const LINK: u32 = 0o120_000;
    /// A regular file.
    pub(crate) const FILE: u32 = 0o100_000;
    /// A directory, of any kind.
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    /// The directory of an inode's large attributes.
    pub(crate) const ATTRIBUTE_DIRECTORY: u32 = 0o1_000_000_000;
    /// A large attribute.
    pub(crate) const ATTRIBUTE: u32 = 0o2_000_000_000;
    /// An index, or the directory of all indices.
    pub(crate) const INDEX: u32 = 0o4_000_000_000;
    /// Keys are strings.
    pub(crate) const STRING_KEYS: u32 = 0o100_000_000;
    /// Keys are of 32 bits, signed.
    pub(crate) const INT_KEYS: u32 = 0o200_000_000;
    /// Keys are of 32 bits, unsigned.
    pub(crate) const UINT_KEYS: u32 = 0o400_000_000;
    /// Keys are of 64 bits, signed.
    pub(crate) const LONG_KEYS: u32 = 0o010_000_000;
    /// Keys are of 64 bits, unsigned.
    pub(crate) const ULONG_KEYS: u32 = 0o020_000_000;
    /// Keys are of type `float`.
    pub(crate) const FLOAT_KEYS: u32 = 0o040_000_000;
    /// Keys are of type `double`.
    pub(crate) const DOUBLE_KEYS: u32 = 0o001_000_000;
}

/// An inode in memory: its block, with the parts that have a place of their own.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) block: u64,
    pub(crate) raw: Box<[u8]>,
}

impl Inode {
    /// Takes over the content of a block that is said to be an inode.
    pub(crate) fn parse(super_block: &SuperBlock, block: u64, raw: &[u8]) -> Result<Self> {
        let this = Self { block, raw: Box::from(raw) };
        let wrong = |field, problem: String| Err(damaged(block, block, field, problem));
        if u32_at(raw, MAGIC) != MAGIC_VALUE {
            return wrong("magic1", format!("{:#x}", u32_at(raw, MAGIC)));
        }
        let number = Run::parse(raw, INODE_NUM);
        if number != super_block.run(block) {
            return wrong("inode_num", format!("{number} is not its own"));
        }
        if u32_at(raw, INODE_SIZE) as usize != super_block.block_size() {
            return wrong("inode_size", u32_at(raw, INODE_SIZE).to_string());
        }
        if this.flags() & IN_USE == 0 {
            return wrong("flags", format!("{:#x}: not in use", this.flags()));
        }
        if this.flags() & DELETED != 0 {
            return wrong("flags", format!("{:#x}: deleted", this.flags()));
        }
        if !matches!(this.mode() & mode::TYPE, mode::LINK | mode::FILE | mode::DIRECTORY) {
            return wrong("mode", format!("{:o} is of no known type", this.mode()));
        }
        if this.has_stream() {
            this.stream().validate(super_block, block)?;
        }
        Ok(this)
    }

    /// Makes the inode of a new node.
    pub(crate) fn make(super_block: &SuperBlock, block: u64, parent: u64, mode: u32) -> Self {
        let mut this = Self { block, raw: vec![0; super_block.block_size()].into_boxed_slice() };
        put(&mut this.raw, MAGIC, &MAGIC_VALUE.to_le_bytes());
        super_block.run(block).put(&mut this.raw, INODE_NUM);
        put(&mut this.raw, INODE_SIZE, &(super_block.block_size() as u32).to_le_bytes());
        put(&mut this.raw, MODE, &mode.to_le_bytes());
        this.set_flags(IN_USE);
        this.set_parent(super_block, parent);
        this
    }

    pub(crate) fn uid(&self) -> u32 {
        u32_at(&self.raw, UID)
    }

    pub(crate) fn gid(&self) -> u32 {
        u32_at(&self.raw, GID)
    }

    pub(crate) fn set_owner(&mut self, uid: u32, gid: u32) {
        put(&mut self.raw, UID, &uid.to_le_bytes());
        put(&mut self.raw, GID, &gid.to_le_bytes());
    }

    pub(crate) fn mode(&self) -> u32 {
        u32_at(&self.raw, MODE)
    }

    pub(crate) fn set_mode(&mut self, mode: u32) {
        put(&mut self.raw, MODE, &mode.to_le_bytes());
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.mode() & mode::TYPE == mode::DIRECTORY
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode() & mode::TYPE == mode::LINK
    }

    pub(crate) fn is_file(&self) -> bool {
        self.mode() & mode::TYPE == mode::FILE
    }

    /// Whether it is a node of the tree of files, not an attribute or an index.
    pub(crate) fn is_regular(&self) -> bool {
        self.mode() & (mode::ATTRIBUTE_DIRECTORY | mode::ATTRIBUTE | mode::INDEX) == 0
    }

    pub(crate) fn flags(&self) -> u32 {
        u32_at(&self.raw, FLAGS)
    }

    pub(crate) fn set_flags(&mut self, flags: u32) {
        put(&mut self.raw, FLAGS, &flags.to_le_bytes());
    }

    pub(crate) fn has_stream(&self) -> bool {
        !self.is_link() || self.flags() & LONG_LINK != 0
    }

    pub(crate) fn create_time(&self) -> i64 {
        i64_at(&self.raw, CREATE_TIME)
    }

    pub(crate) fn set_create_time(&mut self, time: i64) {
        put(&mut self.raw, CREATE_TIME, &time.to_le_bytes());
    }

    pub(crate) fn last_modified(&self) -> i64 {
        i64_at(&self.raw, LAST_MODIFIED)
    }

    pub(crate) fn set_last_modified(&mut self, time: i64) {
        put(&mut self.raw, LAST_MODIFIED, &time.to_le_bytes());
    }

    pub(crate) fn status_change(&self) -> i64 {
        i64_at(&self.raw, STATUS_CHANGE)
    }

    pub(crate) fn set_status_change(&mut self, time: i64) {
        put(&mut self.raw, STATUS_CHANGE, &time.to_le_bytes());
    }

    pub(crate) fn parent(&self) -> Run {
        Run::parse(&self.raw, PARENT)
    }

    pub(crate) fn set_parent(&mut self, super_block: &SuperBlock, parent: u64) {
        super_block.run(parent).put(&mut self.raw, PARENT);
    }

    /// The inode of the directory of its large attributes.
    pub(crate) fn attributes(&self, super_block: &SuperBlock) -> Result<Option<u64>> {
        let run = Run::parse(&self.raw, ATTRIBUTES);
        if run.is_zero() {
            return Ok(None);
        }
        let wrong = || damaged(self.block, self.block, "attributes", format!("{run} is no inode"));
        super_block.inode_block(run).map(Some).ok_or_else(wrong)
    }

    pub(crate) fn set_attributes(&mut self, run: Run) {
        run.put(&mut self.raw, ATTRIBUTES);
    }

    pub(crate) fn type_code(&self) -> u32 {
        u32_at(&self.raw, TYPE)
    }

    pub(crate) fn set_type_code(&mut self, code: u32) {
        put(&mut self.raw, TYPE, &code.to_le_bytes());
    }

    pub(crate) fn stream(&self) -> Stream {
        Stream::parse(&self.raw[STREAM..STREAM + Stream::SIZE])
    }

    pub(crate) fn set_stream(&mut self, stream: &Stream) {
        stream.put(&mut self.raw[STREAM..STREAM + Stream::SIZE]);
    }

    /// Size of the content in bytes; 0 where a short link has its target instead.
    pub(crate) fn size(&self) -> u64 {
        if self.has_stream() { self.stream().size } else { 0 }
    }

    pub(crate) fn short_link(&self) -> &[u8] {
        let area = &self.raw[STREAM..STREAM + SHORT_LINK];
        let end = area.iter().position(|byte| *byte == 0).unwrap_or(area.len());
        &area[..end]
    }

    pub(crate) fn set_short_link(&mut self, target: &[u8]) {
        let area = &mut self.raw[STREAM..STREAM + SHORT_LINK];
        area.fill(0);
        area[..target.len()].copy_from_slice(target);
    }
}
