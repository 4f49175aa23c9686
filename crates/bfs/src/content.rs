//! Writing the content of files.
//!
//! Content does not go through the log. Where it replaces what was there, it goes to other blocks,
//! and the inode leads to them when all of it is written.

use std::io::Read;

use crate::bytes::to_usize;
use crate::error::{Error, Result};
use crate::inode::{Inode, mode};
use crate::resize::Tail;
use crate::storage::Storage;
use crate::stream::{Extent, Stream};
use crate::volume::{NodeId, Volume};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

impl<S: Storage> Volume<S> {
    /// Makes an empty file.
    ///
    /// # Errors
    /// The name is not valid or there; no space; the volume is damaged or cannot be written.
    pub fn create_file(
        &mut self,
        directory: NodeId,
        name: &[u8],
        permissions: u32,
    ) -> Result<NodeId> {
        let bits = mode::FILE | permissions & 0o7777;
        self.transact(|volume| volume.add(directory, name, bits, |_, _| Ok(())))
    }

    /// Makes a file with `size` bytes from `source`, or replaces the content of the one that is
    /// there, as one transaction: after a failure, it is as it was.
    ///
    /// Only where there is not room for both, the old content goes in a transaction before. Where the
    /// log may be too small for one transaction (on volumes of tens of gigabytes), the content goes
    /// to a file of another name first, `.NAME.part` or the like, which then takes this place.
    ///
    /// # Errors
    /// The entry is a directory or a link; the source fails or ends early; no space; the volume is
    /// damaged or cannot be written.
    pub fn write_file(
        &mut self,
        directory: NodeId,
        name: &[u8],
        permissions: u32,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<NodeId> {
        if let Some(node) = self.entry_if_any(directory, name)? {
            let inode = self.regular(node)?;
            if inode.is_directory() {
                return Err(Error::IsADirectory(String::from_utf8_lossy(name).into_owned()));
            }
            if !inode.is_file() {
                return Err(Error::NotAFile(node.0));
            }
            self.replace_content(node, source, size)?;
            return Ok(node);
        }
        if !self.fits_the_log(size) {
            return self.write_in_steps(directory, name, permissions, source, size);
        }
        self.make_room(self.super_block.blocks_for(size))?;
        let bits = mode::FILE | permissions & 0o7777;
        self.transact(|volume| {
            volume.add(directory, name, bits, |volume, inode| {
                let stream = volume.fill(inode.block, source, size)?;
                inode.set_stream(&stream);
                Ok(())
            })
        })
    }

    /// Replaces the content of a file; see [`write_file`](Self::write_file).
    ///
    /// # Errors
    /// As there.
    pub fn replace_content(
        &mut self,
        node: NodeId,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<()> {
        let inode = self.file(node)?;
        if !self.fits_the_log(size.saturating_add(inode.stream().capacity())) {
            return self.replace_in_steps(node, source, size);
        }
        let wanted = self.super_block.blocks_for(size);
        // With the arrays that lead to them, and trees that grow.
        let wanted = wanted + wanted / 256 + 8;
        self.make_room(wanted)?;
        let free = self.free_blocks();
        if wanted + 16 > free {
            let old = self.super_block.blocks_for(inode.stream().capacity());
            if wanted > free + old {
                return Err(Error::NoSpace { wanted, free });
            }
            self.truncate_in_steps(node, 0)?;
        }
        self.transact(|volume| {
            let before = volume.file(node)?;
            let mut old = before.stream();
            let stream = volume.fill(node.0, source, size)?;
            volume.shrink(node.0, &mut old, 0)?;
            let mut inode = before.clone();
            inode.set_stream(&stream);
            volume.touch(&mut inode);
            volume.store(&inode)?;
            volume.reindex(&before, &inode)
        })
    }

    pub(crate) fn file(&mut self, node: NodeId) -> Result<Inode> {
        let inode = self.regular(node)?;
        if inode.is_file() { Ok(inode) } else { Err(Error::NotAFile(node.0)) }
    }

    /// Allocates a stream of `size` bytes and fills it.
    pub(crate) fn fill(&mut self, inode: u64, source: &mut dyn Read, size: u64) -> Result<Stream> {
        let wanted = self.super_block.blocks_for(size);
        if wanted > self.free_blocks() {
            return Err(Error::NoSpace { wanted, free: self.free_blocks() });
        }
        let mut stream = Stream::default();
        let mut tail = Tail::of(self, inode, &stream)?;
        let mut buffer = vec![0; PIECE.min(to_usize(self.super_block.bytes_of(wanted)))];
        let mut done = 0;
        while done < size {
            let left = self.super_block.blocks_for(size - done);
            let (first, length) = self.extend(&mut stream, &mut tail, left)?;
            let end = size.min(done + self.super_block.bytes_of(length));
            let mut block = first;
            while done < end {
                let bytes = to_usize(end - done).min(PIECE);
                source.read_exact(&mut buffer[..bytes]).map_err(Error::Source)?;
                let whole = bytes.next_multiple_of(self.super_block.block_size());
                buffer[bytes..whole].fill(0);
                self.blocks.write(block, &buffer[..whole])?;
                block += (whole >> self.super_block.block_shift) as u64;
                done += bytes as u64;
            }
        }
        stream.size = size;
        Ok(stream)
    }

    /// Writes into a file, which becomes longer where needed; a gap before `offset` is filled with
    /// zeros.
    ///
    /// What is overwritten is overwritten in place: after a failure, it may be old or new. So may
    /// the end of what is appended, where that is too much for one transaction.
    ///
    /// # Errors
    /// `node` is not a file; no space; the volume is damaged or cannot be written.
    pub fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        let size = self.file(node)?.size();
        if self.fits_the_log(end.saturating_sub(size)) {
            return self.write_at_once(node, offset, bytes);
        }
        if offset > size {
            self.truncate(node, offset)?;
        }
        for (piece, at) in bytes.chunks(self.step()).zip((offset..).step_by(self.step())) {
            self.write_at_once(node, at, piece)?;
        }
        Ok(())
    }

    fn write_at_once(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.make_room(self.super_block.blocks_for(end))?;
        self.transact(|volume| {
            let before = volume.file(node)?;
            let mut inode = before.clone();
            let end = offset.saturating_add(bytes.len() as u64);
            if end > inode.size() && !bytes.is_empty() {
                volume.lengthen(&mut inode, end, offset)?;
            }
            let extents = volume.extents(&inode)?;
            volume.write_content(&extents, offset, bytes, before.size())?;
            volume.touch(&mut inode);
            volume.store(&inode)?;
            volume.reindex(&before, &inode)
        })
    }

    /// Appends to a file.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn append(&mut self, node: NodeId, bytes: &[u8]) -> Result<()> {
        let size = self.file(node)?.size();
        self.write(node, size, bytes)
    }

    /// Makes a file shorter, or longer by zeros.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn truncate(&mut self, node: NodeId, size: u64) -> Result<()> {
        let mut at = self.file(node)?.size();
        while !self.fits_the_log(size.saturating_sub(at)) {
            at += self.step() as u64;
            self.transact(|volume| volume.resize(node, at))?;
        }
        match self.transact(|volume| volume.resize(node, size)) {
            Err(Error::TransactionTooLarge { .. }) => self.truncate_in_steps(node, size),
            other => other,
        }
    }

    pub(crate) fn resize(&mut self, node: NodeId, size: u64) -> Result<()> {
        let before = self.file(node)?;
        let mut inode = before.clone();
        if size > before.size() {
            self.lengthen(&mut inode, size, size)?;
        } else {
            let mut stream = inode.stream();
            self.shrink(node.0, &mut stream, size)?;
            inode.set_stream(&stream);
        }
        self.touch(&mut inode);
        self.store(&inode)?;
        self.reindex(&before, &inode)
    }

    /// Makes a stream `size` bytes long, with zeros from its old end to `zeros_to`.
    fn lengthen(&mut self, inode: &mut Inode, size: u64, zeros_to: u64) -> Result<()> {
        let old = inode.size();
        let mut stream = inode.stream();
        let missing = self.super_block.blocks_for(size.saturating_sub(stream.capacity()));
        if missing > self.free_blocks() {
            return Err(Error::NoSpace { wanted: missing, free: self.free_blocks() });
        }
        self.grow(inode.block, &mut stream, size)?;
        inode.set_stream(&stream);
        let extents = self.extents(inode)?;
        let zeros = vec![0; PIECE];
        let mut at = old;
        while at < zeros_to {
            let length = to_usize(zeros_to - at).min(PIECE);
            self.write_content(&extents, at, &zeros[..length], old)?;
            at += length as u64;
        }
        Ok(())
    }

    /// Writes into blocks that a stream has. What lies in them at or after byte `valid` of the
    /// content was never written, and counts as zeros.
    fn write_content(
        &mut self,
        extents: &[Extent],
        offset: u64,
        bytes: &[u8],
        valid: u64,
    ) -> Result<()> {
        let shift = self.super_block.block_shift;
        let block_size = self.super_block.block_size();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let index =
                extents.partition_point(|extent| (extent.at + extent.length) << shift <= at);
            let Some(extent) = extents.get(index) else { break };
            let skipped = (at >> shift) - extent.at;
            let block = extent.block + skipped;
            let within = to_usize(at & (block_size as u64 - 1));
            let left = bytes.len() - done;
            if within == 0 && left >= block_size {
                let count = (extent.length - skipped).min((left >> shift) as u64);
                let length = to_usize(count << shift);
                self.blocks.write(block, &bytes[done..done + length])?;
                done += length;
                continue;
            }
            let mut content = vec![0; block_size];
            let start = at - within as u64;
            if start < valid {
                self.blocks.read(block, &mut content)?;
                let known = to_usize(valid - start).min(block_size);
                content[known..].fill(0);
            }
            let length = left.min(block_size - within);
            content[within..within + length].copy_from_slice(&bytes[done..done + length]);
            self.blocks.write(block, &content)?;
            done += length;
        }
        Ok(())
    }
}
