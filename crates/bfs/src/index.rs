//! The indices: for each of some attributes, and for name, size and time of the last change, a
//! tree from values to nodes.
//!
//! What is in which index follows Haiku (.../bfs/Inode.cpp, InNameIndex and its neighbours;
//! Index.cpp): the name of every file, directory and link but the root; the size of every file;
//! the time of every file and link; and of an attribute its first 256 bytes.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::storage::Storage;
use crate::tree::{KeyType, LONGEST_KEY, Tree};
use crate::volume::{NodeId, Volume};

pub(crate) const NAME: &[u8] = b"name";
pub(crate) const SIZE: &[u8] = b"size";
pub(crate) const LAST_MODIFIED: &[u8] = b"last_modified";

/// Names that are remembered with their index, or with there being none.
const MOST_KNOWN: usize = 256;

impl<S: Storage> Volume<S> {
    pub(crate) fn index_inode(&mut self, name: &[u8]) -> Result<Option<u64>> {
        let Some(directory) = self.super_block.indices else { return Ok(None) };
        if let Some(known) = self.indices.as_ref().and_then(|known| known.get(name)) {
            return Ok(Some(*known).filter(|block| *block != 0));
        }
        let inode = self.inode(directory)?;
        let tree = Tree::open(self, &inode)?;
        let found = tree.find(self, name)?;
        let known = self.indices.get_or_insert_with(HashMap::new);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(name.to_vec(), found.unwrap_or(0));
        Ok(found)
    }

    /// Lists the indices: name and inode.
    ///
    /// # Errors
    /// The volume is damaged or cannot be read.
    pub fn indices(&mut self) -> Result<Vec<(Vec<u8>, NodeId)>> {
        let Some(directory) = self.super_block.indices else { return Ok(Vec::new()) };
        let inode = self.inode(directory)?;
        let tree = Tree::open(self, &inode)?;
        let mut cursor = crate::tree::Cursor::first(self, tree)?;
        let mut found = Vec::new();
        while let Some((name, block)) = cursor.next(self)? {
            found.push((name, NodeId(block)));
        }
        Ok(found)
    }

    /// Returns the nodes that an index has for a range of keys, in order, `visit`ed one by one.
    ///
    /// # Errors
    /// There is no such index; the volume is damaged or cannot be read; `visit` fails.
    pub fn query(
        &mut self,
        index: &[u8],
        mut visit: impl FnMut(&[u8], NodeId) -> Result<()>,
    ) -> Result<()> {
        let found = self.index_inode(index)?;
        let block =
            found.ok_or_else(|| Error::NotFound(String::from_utf8_lossy(index).into_owned()))?;
        let inode = self.inode(block)?;
        let tree = Tree::open(self, &inode)?;
        let mut cursor = crate::tree::Cursor::first(self, tree)?;
        while let Some((key, node)) = cursor.next(self)? {
            visit(&key, NodeId(node))?;
        }
        Ok(())
    }

    /// Changes what an index has for a node, if there is that index.
    ///
    /// As in the kernel, a value that is empty or cannot be a key is not indexed, and an old one
    /// that is not there is no error.
    pub(crate) fn update_index(
        &mut self,
        name: &[u8],
        old: Option<&[u8]>,
        new: Option<&[u8]>,
        node: u64,
    ) -> Result<()> {
        let Some(block) = self.index_inode(name)? else { return Ok(()) };
        let inode = self.inode(block)?;
        let mut tree = Tree::open(self, &inode)?;
        let key = |value: Option<&[u8]>| value.and_then(|value| key(tree.kind, value));
        let (old, new) = (key(old), key(new));
        if old == new {
            return Ok(());
        }
        if let Some(old) = old
            && !tree.remove(self, &old, node)?
            && matches!(name, NAME | SIZE | LAST_MODIFIED)
        {
            self.purge(&mut tree, node)?;
        }
        if let Some(new) = new {
            tree.insert(self, &new, node)?;
        }
        Ok(())
    }

    /// Removes whatever an index has for a node, by going through all of it.
    ///
    /// The kernel leaves wrong times of long links in the index (Inode.cpp, WriteAt does not
    /// update it). A value for a node that is gone, or is another one by then, would be worse.
    fn purge(&mut self, tree: &mut Tree, node: u64) -> Result<()> {
        let mut cursor = crate::tree::Cursor::first(self, tree.clone())?;
        let mut found = Vec::new();
        while let Some((key, value)) = cursor.next(self)? {
            if value == node {
                found.push(key);
            }
        }
        for key in found {
            tree.remove(self, &key, node)?;
        }
        Ok(())
    }

    /// Puts a new node into the indices of name, size and time, or takes one out.
    pub(crate) fn index_node(&mut self, inode: &Inode, name: &[u8], there: bool) -> Result<()> {
        let mut update = |index, value: &[u8]| {
            let (old, new) = if there { (None, Some(value)) } else { (Some(value), None) };
            self.update_index(index, old, new, inode.block)
        };
        update(NAME, name)?;
        if inode.is_file() {
            update(SIZE, &inode.size().to_le_bytes())?;
        }
        if !inode.is_directory() {
            update(LAST_MODIFIED, &inode.last_modified().to_le_bytes())?;
        }
        Ok(())
    }

    /// Brings size and time of a file or link up to date in the indices.
    pub(crate) fn reindex(&mut self, before: &Inode, after: &Inode) -> Result<()> {
        if after.is_file() {
            let (old, new) = (before.size().to_le_bytes(), after.size().to_le_bytes());
            self.update_index(SIZE, Some(&old), Some(&new), after.block)?;
        }
        if !after.is_directory() {
            let old = before.last_modified().to_le_bytes();
            let new = after.last_modified().to_le_bytes();
            self.update_index(LAST_MODIFIED, Some(&old), Some(&new), after.block)?;
        }
        Ok(())
    }
}

/// The key for a value, if it can be one.
fn key(kind: KeyType, value: &[u8]) -> Option<Vec<u8>> {
    match kind.size() {
        Some(size) => (value.len() == size).then(|| value.to_vec()),
        None if value.is_empty() => None,
        None => Some(value[..value.len().min(LONGEST_KEY)].to_vec()),
    }
}
