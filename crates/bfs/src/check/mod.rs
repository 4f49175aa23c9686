//! Checking a volume: everything that must agree is compared, and nothing is written.
//!
//! This is written from the layout alone. Of the rest of the crate it uses the super block, the
//! entries of the log and the reading of blocks; trees, streams, attributes, the bitmap and the
//! indices are read by code of its own, so that a mistake of the writer is not also one here.
//!
//! It holds what Haiku's `checkfs` holds (src/add-ons/kernel/file_systems/bfs/CheckVisitor.cpp and
//! BPlusTree.cpp, Validate) and more: that every index has exactly what the files say, that a name
//! is the same in the directory and in the inode, that a parent is the right one.
//!
//! In memory are a bit for each block, the entries that are still to be visited, and 32 bytes for
//! each entry of each index.

mod bitmap;
mod indices;
mod nodes;
mod streams;
mod tree;

use std::fmt;

use crate::blocks::Blocks;
use crate::error::{Damage, Error, Result};
use crate::journal;
use crate::storage::Storage;
use crate::super_block::{OFFSET, SIZE, SuperBlock};

pub(crate) use indices::{Mismatch, hash};

/// Findings that are kept; those beyond are only counted.
const MOST_FINDINGS: usize = 1000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The super block contradicts the rest.
    SuperBlock,
    /// The log holds something, so that the volume was not unmounted.
    Log,
    /// The block bitmap differs from what is in use.
    Bitmap,
    /// A field of an inode.
    Inode,
    /// Where the content of an inode lies.
    Stream,
    /// A B+tree.
    Tree,
    /// A directory and what it leads to disagree.
    Directory,
    /// An attribute, or the directory of an inode's large ones.
    Attribute,
    /// An index has what no file says, or lacks what one does.
    Index,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SuperBlock => "super block",
            Self::Log => "log",
            Self::Bitmap => "bitmap",
            Self::Inode => "inode",
            Self::Stream => "stream",
            Self::Tree => "tree",
            Self::Directory => "directory",
            Self::Attribute => "attribute",
            Self::Index => "index",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub class: Class,
    /// Where it is and what it is.
    pub damage: Damage,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.damage)
    }
}

/// What a check found and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, the first thousand.
    pub findings: Vec<Finding>,
    /// What is not as it should be, but as Haiku itself leaves it: values of attributes that are
    /// older than their index, and times of long links.
    pub notes: Vec<Finding>,
    /// How many findings there were beyond.
    pub omitted: u64,
    /// Files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Attributes in inodes.
    pub small_attributes: u64,
    /// Attributes with an inode of their own.
    pub large_attributes: u64,
    /// Indices.
    pub indices: u64,
    /// Blocks that are in use.
    pub used_blocks: u64,
    /// Of these, blocks allocated behind the end of a content, which is no error: the kernel does
    /// it for files that are open, and for trees.
    pub preallocated_blocks: u64,
    /// Blocks of the boot block, bitmap and log that the bitmap says are free.
    pub unreserved_blocks: u64,
    /// Other blocks in use that the bitmap says are free.
    pub missing_blocks: u64,
    /// Blocks that nothing uses, but the bitmap says are used.
    pub lost_blocks: u64,
    /// Blocks that belong to two things at once.
    pub shared_blocks: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A volume under check.
pub(crate) struct Check<'a, S> {
    super_block: SuperBlock,
    blocks: Blocks<&'a mut S>,
    used: Vec<u64>,
    report: Report,
    expected: indices::Expected,
}

/// Checks the volume that `storage` holds. A volume that was not unmounted is a finding, and the
/// rest is checked as it would be after a replay.
///
/// # Errors
/// There is no volume, its super block is damaged, or it cannot be read.
pub fn check<S: Storage>(storage: &mut S) -> Result<Report> {
    let mut check = Check::open(storage)?;
    check.run()?;
    Ok(check.report)
}

impl<'a, S: Storage> Check<'a, S> {
    pub(crate) fn open(storage: &'a mut S) -> Result<Self> {
        let failed =
            |action, length| move |source| Error::Io { action, offset: OFFSET, length, source };
        let size = storage.size().map_err(failed("find the end of", 0))?;
        let mut raw = [0; SIZE];
        if size < OFFSET + SIZE as u64 {
            return Err(Error::Truncated { volume: OFFSET + SIZE as u64, storage: size });
        }
        storage.read_at(&mut raw, OFFSET).map_err(failed("read", SIZE))?;
        let super_block = SuperBlock::parse(&raw)?;
        let volume = super_block.bytes_of(super_block.num_blocks);
        if volume > size {
            return Err(Error::Truncated { volume, storage: size });
        }
        let words = crate::bytes::to_usize(super_block.num_blocks.div_ceil(64));
        Ok(Self {
            blocks: Blocks::new(storage, super_block.block_shift, 0),
            used: vec![0; words],
            report: Report::default(),
            expected: indices::Expected::default(),
            super_block,
        })
    }

    /// Checks everything. Fails only where the volume cannot be read.
    pub(crate) fn run(&mut self) -> Result<()> {
        self.log()?;
        for block in 0..self.super_block.reserved() {
            self.set_used(block);
        }
        self.visit_all()?;
        self.compare_indices()?;
        self.compare_bitmap()
    }

    /// The report, a bit for each block in use, and what is wrong with the indices.
    pub(crate) fn into_parts(self) -> (Report, Vec<u64>, Vec<Mismatch>) {
        (self.report, self.used, self.expected.into_mismatches())
    }

    fn log(&mut self) -> Result<()> {
        let (start, end) = self.super_block.log();
        let length = self.super_block.log_length;
        if start % length == end % length {
            if !self.super_block.is_flagged_clean() {
                let problem = format!("{:#x} with an empty log", self.super_block.flags());
                self.find(Class::SuperBlock, None, 0, "flags", problem);
            }
            return Ok(());
        }
        let problem = format!("entries from {start} to {end} are not carried out");
        self.find(Class::Log, None, 0, "log_start", problem);
        match journal::pending(&self.super_block, &self.blocks) {
            Ok(pending) => self.blocks.redirect(pending),
            Err(Error::Damaged(damage)) => self.add(Finding { class: Class::Log, damage }),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn find(
        &mut self,
        class: Class,
        inode: impl Into<Option<u64>>,
        block: u64,
        field: &'static str,
        problem: impl Into<String>,
    ) {
        let damage = Damage { inode: inode.into(), block, field, problem: problem.into() };
        self.add(Finding { class, damage });
    }

    fn add(&mut self, finding: Finding) {
        if self.report.findings.len() < MOST_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.omitted += 1;
        }
    }

    fn block(&mut self, block: u64) -> Result<Vec<u8>> {
        let mut content = vec![0; self.super_block.block_size()];
        self.blocks.read(block, &mut content)?;
        Ok(content)
    }

    /// Notes that a block is in use. Returns whether it was not before.
    fn set_used(&mut self, block: u64) -> bool {
        let word = &mut self.used[crate::bytes::to_usize(block / 64)];
        let bit = 1 << (block % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

impl<S> fmt::Debug for Check<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("report", &self.report).finish_non_exhaustive()
    }
}
