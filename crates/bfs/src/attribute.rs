//! Attributes: small ones in the inode, large ones as files of a directory of their own.

use std::io::Read;

use crate::error::{Error, Result, damaged};
use crate::inode::{Inode, mode};
use crate::small_data::{self, Item, NAME, STRING_TYPE};
use crate::storage::Storage;
use crate::super_block::Run;
use crate::tree::{Cursor, Tree};
use crate::volume::{NodeId, Volume};

/// Bytes of the longest name of an attribute or entry (B_FILE_NAME_LENGTH less the zero).
pub(crate) const LONGEST_NAME: usize = 255;
/// Larger values are refused, for they go through memory.
const LARGEST: usize = 64 << 20;

/// An attribute without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeInfo {
    /// The name: bytes, by custom UTF-8.
    pub name: Vec<u8>,
    /// The type code, such as `CSTR` as a number.
    pub kind: u32,
    /// Bytes of the value.
    pub size: u64,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The type code.
    pub kind: u32,
    /// The value.
    pub value: Vec<u8>,
}

/// The name that an inode has for itself.
pub(crate) fn name(inode: &Inode) -> Result<Vec<u8>> {
    let items = small_data::parse(inode)?;
    let found = items.into_iter().find(|item| item.name == NAME).map(|item| item.data);
    found.ok_or_else(|| damaged(inode.block, inode.block, "small_data", "there is no name"))
}

fn valid(name: &[u8]) -> Result<()> {
    let wrong = |why| Err(Error::InvalidName(String::from_utf8_lossy(name).into_owned(), why));
    match name {
        [] => wrong("it is empty"),
        _ if name.len() > LONGEST_NAME => wrong("it has more than 255 bytes"),
        _ if name.contains(&0) => wrong("it holds a zero"),
        _ if name == NAME => wrong("it is that of the node's own name"),
        // As in Haiku (.../bfs/Attribute.cpp, CheckAccess).
        b"name" | b"size" | b"last_modified" => wrong("the index of this name is not for it"),
        _ => Ok(()),
    }
}

impl<S: Storage> Volume<S> {
    /// Lists the attributes of a node: small ones as they lie, then large ones by name.
    ///
    /// # Errors
    /// The volume is damaged or cannot be read.
    pub fn attributes(&mut self, node: NodeId) -> Result<Vec<AttributeInfo>> {
        let inode = self.regular(node)?;
        let mut found = Vec::new();
        for Item { kind, name, data } in small_data::parse(&inode)? {
            if name != NAME {
                found.push(AttributeInfo { name, kind, size: data.len() as u64 });
            }
        }
        if let Some((_, tree)) = self.attribute_directory(&inode)? {
            let mut cursor = Cursor::first(self, tree)?;
            while let Some((name, block)) = cursor.next(self)? {
                let attribute = self.attribute_inode(node.0, block)?;
                let (kind, size) = (attribute.type_code(), attribute.size());
                found.push(AttributeInfo { name, kind, size });
            }
        }
        Ok(found)
    }

    /// Returns the value of an attribute, of at most 64 MiB.
    ///
    /// # Errors
    /// There is no such attribute; the volume is damaged or cannot be read.
    pub fn attribute(&mut self, node: NodeId, name: &[u8]) -> Result<Attribute> {
        let inode = self.regular(node)?;
        let items = small_data::parse(&inode)?;
        if let Some(item) = items.into_iter().find(|item| item.name == name && name != NAME) {
            return Ok(Attribute { kind: item.kind, value: item.data });
        }
        let attribute = self
            .large_attribute(&inode, name)?
            .ok_or_else(|| Error::NotFound(String::from_utf8_lossy(name).into_owned()))?;
        if attribute.size() > LARGEST as u64 {
            let reason = "attributes are read through memory";
            return Err(Error::TooLarge { size: attribute.size(), reason });
        }
        let value = self.read_all(&attribute, LARGEST)?;
        Ok(Attribute { kind: attribute.type_code(), value })
    }

    fn attribute_directory(&mut self, inode: &Inode) -> Result<Option<(Inode, Tree)>> {
        let Some(block) = inode.attributes(&self.super_block)? else { return Ok(None) };
        let directory = self.inode(block)?;
        if directory.mode() & mode::ATTRIBUTE_DIRECTORY == 0 {
            let problem = format!("{:o} is not an attribute directory's", directory.mode());
            return Err(damaged(inode.block, block, "mode", problem));
        }
        let tree = Tree::open(self, &directory)?;
        Ok(Some((directory, tree)))
    }

    fn attribute_inode(&mut self, owner: u64, block: u64) -> Result<Inode> {
        let inode = self.inode(block)?;
        if inode.mode() & mode::ATTRIBUTE == 0 || !inode.is_file() {
            let problem = format!("{:o} is not that of an attribute", inode.mode());
            return Err(damaged(owner, block, "mode", problem));
        }
        Ok(inode)
    }

    fn large_attribute(&mut self, inode: &Inode, name: &[u8]) -> Result<Option<Inode>> {
        let Some((_, tree)) = self.attribute_directory(inode)? else { return Ok(None) };
        match tree.find(self, name)? {
            Some(block) => self.attribute_inode(inode.block, block).map(Some),
            None => Ok(None),
        }
    }

    /// What an index holds of an attribute.
    fn indexed_value(&mut self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let items = small_data::parse(inode)?;
        if let Some(item) = items.into_iter().find(|item| item.name == name) {
            return Ok(Some(item.data));
        }
        match self.large_attribute(inode, name)? {
            Some(attribute) => self.read_all(&attribute, crate::tree::LONGEST_KEY).map(Some),
            None => Ok(None),
        }
    }

    /// Sets an attribute, in the inode if there is room, and keeps its index right.
    ///
    /// # Errors
    /// The name is not valid; no space; the volume is damaged or cannot be written.
    pub fn set_attribute(
        &mut self,
        node: NodeId,
        name: &[u8],
        kind: u32,
        value: &[u8],
    ) -> Result<()> {
        valid(name)?;
        if value.len() > LARGEST {
            let reason = "attributes are written through memory";
            return Err(Error::TooLarge { size: value.len() as u64, reason });
        }
        self.transact(|volume| {
            let mut inode = volume.regular(node)?;
            let old = volume.indexed_value(&inode, name)?;
            volume.put_attribute(&mut inode, name, kind, value)?;
            volume.touch_status(&mut inode);
            volume.store(&inode)?;
            volume.update_index(name, old.as_deref(), Some(value), node.0)
        })
    }

    fn put_attribute(
        &mut self,
        inode: &mut Inode,
        name: &[u8],
        kind: u32,
        value: &[u8],
    ) -> Result<()> {
        let mut items = small_data::parse(inode)?;
        let small = value.len() < inode.raw.len();
        let known = items.iter().position(|item| item.name == name);
        if small {
            let item = Item { kind, name: name.to_vec(), data: value.to_vec() };
            let mut changed = items.clone();
            match known {
                Some(index) => changed[index] = item,
                None => changed.push(item),
            }
            if small_data::fit(inode, &changed) {
                small_data::write(inode, &changed);
                return self.drop_large(inode, name).map(|_| ());
            }
        }
        if let Some(index) = known {
            items.remove(index);
            small_data::write(inode, &items);
        }
        self.put_large(inode, name, kind, value)
    }

    fn put_large(&mut self, inode: &mut Inode, name: &[u8], kind: u32, value: &[u8]) -> Result<()> {
        self.drop_large(inode, name)?;
        let (directory, mut tree) = match self.attribute_directory(inode)? {
            Some(found) => found,
            None => {
                let bits = mode::ATTRIBUTE_DIRECTORY | mode::DIRECTORY | 0o666;
                let mut directory = self.make_inode(inode.block, inode.block, bits)?;
                Tree::make(self, &mut directory, crate::tree::KeyType::String)?;
                inode.set_attributes(self.super_block.run(directory.block));
                self.store(inode)?;
                let tree = Tree::open(self, &directory)?;
                (directory, tree)
            }
        };
        let bits = mode::ATTRIBUTE | mode::FILE | 0o666;
        let mut attribute = self.make_inode(inode.block, directory.block, bits)?;
        attribute.set_type_code(kind);
        let mut source = value;
        let stream =
            self.fill(attribute.block, &mut source as &mut dyn Read, value.len() as u64)?;
        attribute.set_stream(&stream);
        self.store(&attribute)?;
        tree.insert(self, name, attribute.block)
    }

    /// Removes a large attribute, and the directory if it was the last. Returns whether it was
    /// there.
    fn drop_large(&mut self, inode: &mut Inode, name: &[u8]) -> Result<bool> {
        let Some((directory, mut tree)) = self.attribute_directory(inode)? else {
            return Ok(false);
        };
        let Some(block) = tree.find(self, name)? else { return Ok(false) };
        let attribute = self.attribute_inode(inode.block, block)?;
        tree.remove(self, name, block)?;
        self.free_inode(&attribute)?;
        if Cursor::first(self, tree)?.next(self)?.is_none() {
            let directory = self.inode(directory.block)?;
            self.free_inode(&directory)?;
            inode.set_attributes(Run::default());
        }
        Ok(true)
    }

    /// Removes an attribute and its entry in an index.
    ///
    /// # Errors
    /// There is no such attribute; the volume is damaged or cannot be written.
    pub fn remove_attribute(&mut self, node: NodeId, name: &[u8]) -> Result<()> {
        valid(name)?;
        self.transact(|volume| {
            let mut inode = volume.regular(node)?;
            let old = volume.indexed_value(&inode, name)?;
            let mut items = small_data::parse(&inode)?;
            let before = items.len();
            items.retain(|item| item.name != name);
            if items.len() < before {
                small_data::write(&mut inode, &items);
            } else if !volume.drop_large(&mut inode, name)? {
                return Err(Error::NotFound(String::from_utf8_lossy(name).into_owned()));
            }
            volume.touch_status(&mut inode);
            volume.store(&inode)?;
            volume.update_index(name, old.as_deref(), None, node.0)
        })
    }

    /// Sets the name that an inode has for itself; attributes make room for it.
    pub(crate) fn set_name(&mut self, inode: &mut Inode, name: &[u8]) -> Result<()> {
        let mut items = small_data::parse(inode)?;
        match items.iter_mut().find(|item| item.name == NAME) {
            Some(item) => item.data = name.to_vec(),
            None => {
                items.push(Item { kind: STRING_TYPE, name: NAME.to_vec(), data: name.to_vec() });
            }
        }
        while !small_data::fit(inode, &items) {
            let last = items.iter().rposition(|item| item.name != NAME);
            let Some(index) = last else { break };
            let item = items.remove(index);
            self.put_large(inode, &item.name, item.kind, &item.data)?;
        }
        small_data::write(inode, &items);
        Ok(())
    }

    /// Frees the large attributes of a node that goes, and takes all attributes out of the indices.
    pub(crate) fn free_attributes(&mut self, inode: &Inode) -> Result<()> {
        for item in small_data::parse(inode)? {
            if item.name != NAME {
                self.update_index(&item.name, Some(&item.data), None, inode.block)?;
            }
        }
        let Some((directory, tree)) = self.attribute_directory(inode)? else { return Ok(()) };
        let mut cursor = Cursor::first(self, tree)?;
        while let Some((name, block)) = cursor.next(self)? {
            let attribute = self.attribute_inode(inode.block, block)?;
            let value = self.read_all(&attribute, crate::tree::LONGEST_KEY)?;
            self.update_index(&name, Some(&value), None, inode.block)?;
            self.free_inode(&attribute)?;
        }
        self.free_inode(&directory)
    }
}
