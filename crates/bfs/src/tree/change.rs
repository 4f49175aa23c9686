//! Inserting and removing keys.

use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::volume::Volume;

use super::node::{FREE, LONGEST_KEY, NODE_SIZE, NONE, Node};
use super::{Step, Tree};

impl Tree {
    /// Inserts a key, or one more value of it where the tree allows for that.
    ///
    /// # Errors
    /// The key exists in a tree without duplicates; the volume is full or damaged.
    pub(crate) fn insert<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        key: &[u8],
        value: u64,
    ) -> Result<()> {
        debug_assert!((1..=LONGEST_KEY).contains(&key.len()));
        let value = value as i64;
        let (mut path, found) = self.descend(volume, key)?;
        if found {
            if self.duplicates
                && let Some(leaf) = path.pop()
            {
                return self.insert_duplicate(volume, leaf, value);
            }
            return Err(Error::Exists(String::from_utf8_lossy(key).into_owned()));
        }
        let (mut key, mut value) = (key.to_vec(), value);
        while let Some(Step { offset, mut node, index }) = path.pop() {
            let fits = node.fits(&key);
            node.insert(index, &key, value);
            if fits {
                return self.write(volume, offset, &node);
            }
            let other = self.allocate(volume)?;
            let (mut lower, separator) = node.split();
            (lower.left, lower.right, node.left) = (node.left, offset, other);
            if lower.left != NONE {
                self.relink(volume, lower.left, |node| node.right = other)?;
            }
            self.write(volume, offset, &node)?;
            self.write(volume, other, &lower)?;
            if offset == self.root {
                let root = self.allocate(volume)?;
                let mut node = Node::linked(NONE, offset);
                node.insert(0, &separator, other);
                self.write(volume, root, &node)?;
                (self.root, self.levels) = (root, self.levels + 1);
                return self.write_header(volume);
            }
            (key, value) = (separator, other);
        }
        Ok(())
    }

    /// Gives a key of a tree without duplicates another value.
    pub(crate) fn replace<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        key: &[u8],
        value: u64,
    ) -> Result<bool> {
        let (mut path, found) = self.descend(volume, key)?;
        match path.pop() {
            Some(mut leaf) if found => {
                leaf.node.values[leaf.index] = value as i64;
                self.write(volume, leaf.offset, &leaf.node)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes one value of a key. Returns whether it was there.
    pub(crate) fn remove<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        key: &[u8],
        value: u64,
    ) -> Result<bool> {
        let value = value as i64;
        let (mut path, found) = self.descend(volume, key)?;
        let Some(leaf) = path.last().filter(|_| found) else { return Ok(false) };
        let stored = leaf.node.child(leaf.index);
        if self.duplicates && super::duplicates::is_link(stored) {
            return match path.pop() {
                Some(leaf) => self.remove_duplicate(volume, leaf, value),
                None => Ok(false),
            };
        }
        if stored != value {
            return Ok(false);
        }
        while let Some(Step { offset, mut node, index }) = path.pop() {
            let (leaf, count) = (node.is_leaf(), node.count());
            if offset == self.root && (count == 0 || leaf && count == 1) {
                self.write(volume, offset, &Node::linked(node.left, NONE))?;
                self.levels = 1;
                self.write_header(volume)?;
                return Ok(true);
            }
            if count > 1 || !leaf && count == 1 {
                if leaf {
                    node.remove(index);
                } else {
                    node.remove_child(index);
                }
                self.write(volume, offset, &node)?;
                return Ok(true);
            }
            if node.left != NONE {
                self.relink(volume, node.left, |left| left.right = node.right)?;
            }
            if node.right != NONE {
                self.relink(volume, node.right, |right| right.left = node.left)?;
            }
            self.release(volume, offset)?;
        }
        Ok(true)
    }

    fn relink<S: Storage>(
        &self,
        volume: &mut Volume<S>,
        offset: i64,
        change: impl FnOnce(&mut Node),
    ) -> Result<()> {
        let mut node = self.node(volume, offset)?;
        change(&mut node);
        self.write(volume, offset, &node)
    }

    /// Finds room for a node: one that was released, or at the end of the stream.
    pub(super) fn allocate<S: Storage>(&mut self, volume: &mut Volume<S>) -> Result<i64> {
        if self.free != NONE {
            let offset = self.free;
            let raw = self.raw(volume, offset)?;
            let (next, state) = (crate::bytes::i64_at(&raw, 0), crate::bytes::i64_at(&raw, 16));
            if state != FREE || next != NONE && !self.is_node(next) {
                let problem = format!("free node with overflow {state} and next {next}");
                return Err(self.damaged(volume, offset, "free_node_pointer", problem));
            }
            self.free = next;
            self.write_header(volume)?;
            return Ok(offset);
        }
        let offset = self.size;
        let mut inode = volume.inode(self.inode)?;
        let mut stream = inode.stream();
        let known = stream.capacity();
        volume.grow(self.inode, &mut stream, offset + NODE_SIZE)?;
        inode.set_stream(&stream);
        volume.store(&inode)?;
        if stream.capacity() != known {
            self.extents = volume.extents(&inode)?;
        }
        self.size = offset + NODE_SIZE;
        self.write_header(volume)?;
        let (block, at) = self.place(volume, offset as i64)?;
        // A block that held no node before need not be read, nor go through the log.
        if at == 0 {
            volume.blocks.fresh(block);
        }
        Ok(offset as i64)
    }

    pub(super) fn release<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        offset: i64,
    ) -> Result<()> {
        self.write(volume, offset, &Node::linked(self.free, FREE))?;
        self.free = offset;
        self.write_header(volume)
    }
}
