//! Making, moving and removing files, directories and links.

use std::io::Read;

use crate::attribute::{self, LONGEST_NAME};
use crate::error::{Error, Result};
use crate::index;
use crate::inode::{Inode, LOGGED, LONG_LINK, SHORT_LINK, mode};
use crate::storage::Storage;
use crate::super_block::Run;
use crate::time::Time;
use crate::tree::{KeyType, Tree};
use crate::volume::{NodeId, Volume};

/// A directory's inode goes so many groups after its parent's (Haiku, .../bfs/BlockAllocator.cpp,
/// AllocateForInode).
const DIRECTORY_GROUPS: u64 = 8;

fn valid(name: &[u8]) -> Result<()> {
    let wrong = |why| Err(Error::InvalidName(String::from_utf8_lossy(name).into_owned(), why));
    match name {
        [] => wrong("it is empty"),
        b"." | b".." => wrong("every directory has it already"),
        _ if name.len() > LONGEST_NAME => wrong("it has more than 255 bytes"),
        _ if name.contains(&0) => wrong("it holds a zero"),
        _ if name.contains(&b'/') => wrong("it holds a slash"),
        _ => Ok(()),
    }
}

impl<S: Storage> Volume<S> {
    /// Does something all or not at all: as one transaction, or in a batch as a part of one.
    pub(crate) fn transact<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if !self.writable {
            return Err(Error::ReadOnly);
        }
        if self.failed {
            return Err(Error::Failed);
        }
        self.make_room(0)?;
        let done = action(self).and_then(|value| self.complete().map(|()| value));
        if done.is_err() {
            self.blocks.abort();
            self.space.abort();
            self.indices = None;
        }
        done
    }

    pub(crate) fn store(&mut self, inode: &Inode) -> Result<()> {
        self.blocks.modify(inode.block)?.copy_from_slice(&inode.raw);
        Ok(())
    }

    pub(crate) fn now(&mut self) -> Time {
        self.unique = self.unique.wrapping_add(1);
        Time::unique((self.clock)(), self.unique)
    }

    pub(crate) fn touch_status(&mut self, inode: &mut Inode) {
        let now = self.now();
        inode.set_status_change(now.raw());
    }

    pub(crate) fn touch(&mut self, inode: &mut Inode) {
        let now = self.now();
        inode.set_last_modified(now.raw());
        inode.set_status_change(now.raw());
    }

    /// Makes an inode near another one; it is on no tree yet.
    pub(crate) fn make_inode(&mut self, near: u64, parent: u64, bits: u32) -> Result<Inode> {
        let group = self.super_block.num_blocks.min(1 << self.super_block.ag_shift);
        let goal = if bits & mode::TYPE == mode::DIRECTORY
            && bits & (mode::ATTRIBUTE_DIRECTORY | mode::INDEX) == 0
        {
            let away = near / group + DIRECTORY_GROUPS;
            away % self.super_block.num_ags * group
        } else {
            near
        };
        let (block, _) = self.allocate(goal, 1, 1)?;
        self.blocks.fresh(block);
        let mut inode = Inode::make(&self.super_block, block, parent, bits);
        let now = self.now().raw();
        inode.set_create_time(now);
        inode.set_last_modified(now);
        inode.set_status_change(now);
        self.store(&inode)?;
        Ok(inode)
    }

    /// Frees an inode with its content.
    pub(crate) fn free_inode(&mut self, inode: &Inode) -> Result<()> {
        if inode.has_stream() {
            let mut stream = inode.stream();
            self.shrink(inode.block, &mut stream, 0)?;
        }
        self.release(inode.block, 1);
        Ok(())
    }

    /// Makes a node, fills it by `fill`, and enters it into its directory and the indices.
    pub(crate) fn add(
        &mut self,
        directory: NodeId,
        name: &[u8],
        bits: u32,
        fill: impl FnOnce(&mut Self, &mut Inode) -> Result<()>,
    ) -> Result<NodeId> {
        valid(name)?;
        let (parent, tree) = self.directory(directory)?;
        if tree.find(self, name)?.is_some() {
            return Err(Error::Exists(String::from_utf8_lossy(name).into_owned()));
        }
        let mut inode = self.make_inode(parent.block, parent.block, bits)?;
        inode.set_owner(parent.uid(), parent.gid());
        self.set_name(&mut inode, name)?;
        if inode.is_directory() {
            Tree::make(self, &mut inode, KeyType::String)?;
            let mut tree = Tree::open(self, &inode)?;
            tree.insert(self, b".", inode.block)?;
            tree.insert(self, b"..", parent.block)?;
        }
        fill(self, &mut inode)?;
        self.store(&inode)?;
        self.link(directory, name, inode.block)?;
        self.index_node(&inode, name, true)?;
        Ok(NodeId(inode.block))
    }

    /// Enters a node into a directory, whose time changes.
    fn link(&mut self, directory: NodeId, name: &[u8], node: u64) -> Result<()> {
        let (_, mut tree) = self.directory(directory)?;
        tree.insert(self, name, node)?;
        let mut parent = self.regular(directory)?;
        self.touch(&mut parent);
        self.store(&parent)
    }

    fn unlink(&mut self, directory: NodeId, name: &[u8], node: u64) -> Result<()> {
        let (_, mut tree) = self.directory(directory)?;
        tree.remove(self, name, node)?;
        let mut parent = self.regular(directory)?;
        self.touch(&mut parent);
        self.store(&parent)
    }

    /// Makes an empty directory with the given permission bits.
    ///
    /// # Errors
    /// The name is not valid or there; no space; the volume is damaged or cannot be written.
    pub fn create_directory(
        &mut self,
        directory: NodeId,
        name: &[u8],
        permissions: u32,
    ) -> Result<NodeId> {
        let bits = mode::DIRECTORY | mode::STRING_KEYS | permissions & 0o7777;
        self.transact(|volume| volume.add(directory, name, bits, |_, _| Ok(())))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As for a directory; the target is empty, holds a zero or is longer than 4095 bytes.
    pub fn create_symlink(
        &mut self,
        directory: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<NodeId> {
        if target.is_empty() || target.contains(&0) || target.len() > 4095 {
            let text = String::from_utf8_lossy(target).into_owned();
            return Err(Error::InvalidName(text, "no target of a link"));
        }
        self.transact(|volume| {
            volume.add(directory, name, mode::LINK | 0o777, |volume, inode| {
                if target.len() < SHORT_LINK {
                    inode.set_short_link(target);
                    return Ok(());
                }
                let mut source = target;
                let size = target.len() as u64;
                let stream = volume.fill(inode.block, &mut source as &mut dyn Read, size)?;
                inode.set_flags(inode.flags() | LONG_LINK | LOGGED);
                inode.set_stream(&stream);
                Ok(())
            })
        })
    }

    /// Removes a file, a link or an empty directory, with its attributes.
    ///
    /// A file in so many pieces that the log cannot hold their release in one transaction is made
    /// shorter first, in several.
    ///
    /// # Errors
    /// There is no such entry; the directory is not empty; the volume is damaged or cannot be
    /// written.
    pub fn remove(&mut self, directory: NodeId, name: &[u8]) -> Result<()> {
        valid(name)?;
        match self.transact(|volume| volume.remove_entry(directory, name)) {
            Err(Error::TransactionTooLarge { .. }) => {
                let node = self.entry(directory, name)?;
                self.truncate_in_steps(node, 0)?;
                self.transact(|volume| volume.remove_entry(directory, name))
            }
            other => other,
        }
    }

    fn remove_entry(&mut self, directory: NodeId, name: &[u8]) -> Result<()> {
        let node = self.entry(directory, name)?;
        let inode = self.regular(node)?;
        self.check_empty(&inode, name)?;
        self.unlink(directory, name, node.0)?;
        self.index_node(&inode, name, false)?;
        self.free_attributes(&inode)?;
        self.free_inode(&inode)
    }

    fn check_empty(&mut self, inode: &Inode, name: &[u8]) -> Result<()> {
        if inode.is_directory()
            && let Some(entry) = self.entries(NodeId(inode.block))?.next()
        {
            entry?;
            return Err(Error::NotEmpty(String::from_utf8_lossy(name).into_owned()));
        }
        Ok(())
    }

    /// Gives a node another name or directory. A file or link of the new name goes; so does an
    /// empty directory, for a directory.
    ///
    /// # Errors
    /// There is no such entry; a directory would go into itself, take the place of what is none,
    /// or the other way round; the volume is damaged or cannot be written.
    pub fn rename(&mut self, from: NodeId, name: &[u8], to: NodeId, new_name: &[u8]) -> Result<()> {
        valid(name)?;
        valid(new_name)?;
        match self.transact(|volume| volume.move_entry(from, name, to, new_name)) {
            Err(Error::TransactionTooLarge { .. }) => {
                let in_the_way = self.entry(to, new_name)?;
                self.truncate_in_steps(in_the_way, 0)?;
                self.transact(|volume| volume.move_entry(from, name, to, new_name))
            }
            other => other,
        }
    }

    fn move_entry(&mut self, from: NodeId, name: &[u8], to: NodeId, new_name: &[u8]) -> Result<()> {
        let node = self.entry(from, name)?;
        if (from, name) == (to, new_name) {
            return Ok(());
        }
        let inode = self.regular(node)?;
        self.make_way(&inode, to, new_name)?;
        self.unlink(from, name, node.0)?;
        self.link(to, new_name, node.0)?;
        let mut inode = self.regular(node)?;
        self.set_name(&mut inode, new_name)?;
        inode.set_parent(&self.super_block, to.0);
        self.touch_status(&mut inode);
        self.store(&inode)?;
        if inode.is_directory() && from != to {
            let mut tree = Tree::open(self, &inode)?;
            tree.replace(self, b"..", to.0)?;
        }
        self.update_index(index::NAME, Some(name), Some(new_name), node.0)
    }

    /// Removes what is in the way of a node that gets a new place.
    fn make_way(&mut self, inode: &Inode, to: NodeId, name: &[u8]) -> Result<()> {
        let text = || String::from_utf8_lossy(name).into_owned();
        if inode.is_directory() {
            let mut at = to.0;
            // A chain of parents that is longer than there are blocks goes round in a circle.
            for _ in 0..self.super_block.num_blocks {
                if at == inode.block {
                    return Err(Error::IntoItself(text()));
                }
                if at == self.super_block.root {
                    break;
                }
                let parent = self.inode(at)?.parent();
                at = self.parent_block(at, parent)?;
            }
        }
        let Some(there) = self.entry_if_any(to, name)? else { return Ok(()) };
        if there.0 == inode.block {
            return Ok(());
        }
        match (inode.is_directory(), self.regular(there)?.is_directory()) {
            (false, true) => Err(Error::IsADirectory(text())),
            (true, false) => Err(Error::NotADirectory(text())),
            _ => self.remove_entry(to, name),
        }
    }

    pub(crate) fn parent_block(&self, inode: u64, run: Run) -> Result<u64> {
        let wrong = || crate::error::damaged(inode, inode, "parent", format!("{run} is no inode"));
        self.super_block.inode_block(run).ok_or_else(wrong)
    }

    /// Sets the times of a node; `None` leaves one as it is.
    ///
    /// # Errors
    /// The volume is damaged or cannot be written.
    pub fn set_times(
        &mut self,
        node: NodeId,
        created: Option<Time>,
        modified: Option<Time>,
    ) -> Result<()> {
        self.transact(|volume| {
            let before = volume.regular(node)?;
            let mut inode = before.clone();
            if let Some(created) = created {
                inode.set_create_time(created.raw());
            }
            if let Some(modified) = modified {
                inode.set_last_modified(modified.raw());
            }
            volume.touch_status(&mut inode);
            volume.store(&inode)?;
            volume.reindex(&before, &inode)
        })
    }

    /// Sets permission bits, owner and group of a node; `None` leaves one as it is.
    ///
    /// # Errors
    /// The volume is damaged or cannot be written.
    pub fn set_owner(
        &mut self,
        node: NodeId,
        permissions: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        self.transact(|volume| {
            let mut inode = volume.regular(node)?;
            if let Some(permissions) = permissions {
                inode.set_mode(inode.mode() & !0o7777 | permissions & 0o7777);
            }
            inode.set_owner(uid.unwrap_or(inode.uid()), gid.unwrap_or(inode.gid()));
            volume.touch_status(&mut inode);
            volume.store(&inode)
        })
    }

    /// Returns the name of a node, as its inode has it.
    ///
    /// # Errors
    /// It has none (the root); the volume is damaged or cannot be read.
    pub fn name(&mut self, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.regular(node)?;
        attribute::name(&inode)
    }
}
