//! Operations that are too large for one transaction.
//!
//! What a transaction changes must fit into the log. Each block of the bitmap stands for so many
//! others that only a file that lies all over a volume of tens of gigabytes can touch more of them
//! than the log holds; or one on a volume whose log somebody made small.

use std::io::Read;

use crate::bytes::to_usize;
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::volume::{NodeId, Volume};

/// Blocks that an operation may change besides the bitmap: inodes, and nodes of the directory and
/// of the indices, on the way down and where they are divided.
const OTHERS: u64 = 64;

impl<S: Storage> Volume<S> {
    /// Whether a transaction that takes or frees room for `size` bytes fits into the log wherever
    /// that room is.
    pub(crate) fn fits_the_log(&self, size: u64) -> bool {
        let blocks = self.super_block.blocks_for(size);
        self.super_block.bitmap_blocks().min(blocks) + OTHERS <= self.capacity() as u64
            || blocks <= (self.step() >> self.super_block.block_shift) as u64
    }

    /// Bytes for which a transaction certainly has room.
    pub(crate) fn step(&self) -> usize {
        let blocks = (self.capacity() / 4).clamp(1, 512);
        blocks << self.super_block.block_shift
    }

    /// Makes a file by one transaction after another, under another name until it is whole.
    pub(crate) fn write_in_steps(
        &mut self,
        directory: NodeId,
        name: &[u8],
        permissions: u32,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<NodeId> {
        let (part, node) = self.fill_in_steps(directory, name, permissions, source, size)?;
        self.rename(directory, &part, directory, name)?;
        Ok(node)
    }

    /// Replaces the content of a file: the new one is made beside it, and they change places.
    pub(crate) fn replace_in_steps(
        &mut self,
        node: NodeId,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<()> {
        let inode = self.file(node)?;
        let name = self.name(node)?;
        let directory = NodeId(self.parent_block(node.0, inode.parent())?);
        let (part, other) = self.fill_in_steps(directory, &name, 0, source, size)?;
        self.transact(|volume| {
            let (before, other) = (volume.file(node)?, volume.file(other)?);
            for (from, to) in [(&before, &other), (&other, &before)] {
                let mut inode = to.clone();
                inode.set_stream(&from.stream());
                volume.touch(&mut inode);
                volume.store(&inode)?;
                volume.reindex(to, &inode)?;
            }
            Ok(())
        })?;
        self.remove(directory, &part)
    }

    /// Makes a file with another name than `name`. Returns that, and the file.
    fn fill_in_steps(
        &mut self,
        directory: NodeId,
        name: &[u8],
        permissions: u32,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<(Vec<u8>, NodeId)> {
        let (wanted, free) = (self.super_block.blocks_for(size), self.free_blocks());
        if wanted > free {
            return Err(Error::NoSpace { wanted, free });
        }
        let part = self.free_name(directory, name)?;
        let node = self.create_file(directory, &part, permissions)?;
        let done = self.append_all(node, source, size);
        if done.is_err() && !self.failed {
            self.remove(directory, &part)?;
        }
        done.map(|()| (part, node))
    }

    fn append_all(&mut self, node: NodeId, source: &mut dyn Read, size: u64) -> Result<()> {
        let mut buffer = vec![0; self.step()];
        let mut left = size;
        while left > 0 {
            let piece = &mut buffer[..to_usize(left).min(self.step())];
            source.read_exact(piece).map_err(Error::Source)?;
            self.append(node, piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    /// A name that is not there, by which a person sees what it is a part of.
    fn free_name(&mut self, directory: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        const LONGEST: usize = 230;
        let name = &name[..name.len().min(LONGEST)];
        let mut part = [b".", name, b".part"].concat();
        for number in 0_u64.. {
            if number > 0 {
                part = [b".", name, format!(".part{number}").as_bytes()].concat();
            }
            if self.entry_if_any(directory, &part)?.is_none() {
                break;
            }
        }
        Ok(part)
    }

    /// Makes a file shorter by no more at a time than the log holds.
    pub(crate) fn truncate_in_steps(&mut self, node: NodeId, size: u64) -> Result<()> {
        loop {
            let inode = self.file(node)?;
            let extents = self.extents(&inode)?;
            let per_block = 8 << self.super_block.block_shift;
            let mut room = (self.capacity() / 4) as u64;
            let mut keep = 0;
            for extent in extents.iter().rev() {
                // Blocks of the bitmap that the extent's bits are in, and of an array of runs.
                let cost = extent.length / per_block + 4;
                if cost > room {
                    let blocks = (room.saturating_sub(4) * per_block).min(extent.length);
                    keep = extent.at + extent.length - blocks;
                    break;
                }
                room -= cost;
            }
            let target = self.super_block.bytes_of(keep).max(size);
            self.transact(|volume| volume.resize(node, target.min(inode.size())))?;
            if target == size || target >= inode.stream().capacity() {
                return Ok(());
            }
        }
    }
}
