//! B+trees: directories, indices and the directories of large attributes.
//!
//! The stream of such an inode holds a header in place of the first node and nodes after it. Keys
//! are sorted; a leaf has a value for each of them, an index node a child for each, with keys not
//! above it, and one more child (`overflow`) for what is above all. Nodes of a level are linked.
//! In an index a key may have many values (see [`duplicates`]).

mod change;
mod cursor;
mod duplicates;
mod node;

use std::cmp::Ordering;

use crate::bytes::{i64_at, put, u32_at};
use crate::error::{Error, Result, damaged};
use crate::inode::{Inode, mode};
use crate::storage::Storage;
use crate::stream::Extent;
use crate::volume::Volume;

pub(crate) use cursor::Cursor;
pub(crate) use node::{LONGEST_KEY, NODE_SIZE, Node};
use node::{NODE, NONE};

const MAGIC: u32 = 0x69f6_c2e8;
/// No tree is higher: even with the longest keys, a node has three children.
const MOST_LEVELS: u32 = 40;

// The offsets are those of struct bplustree_header (Haiku, .../bfs/BPlusTree.h).
const DATA_TYPE: usize = 12;
const MAX_LEVELS: usize = 8;
const ROOT: usize = 16;
const FREE_NODE: usize = 24;
const MAXIMUM_SIZE: usize = 32;

/// What the keys of a tree are, by the numbers in its header (`bplustree_types` there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    String,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Float,
    Double,
}

impl KeyType {
    const ALL: [Self; 7] = [
        Self::String,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::Float,
        Self::Double,
    ];

    fn of_header(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// The type that an inode's mode asks for (BPlusTree.cpp, ModeToKeyType).
    pub(crate) fn of_mode(bits: u32) -> Option<Self> {
        let known = [
            (mode::STRING_KEYS, Self::String),
            (mode::INT_KEYS, Self::Int32),
            (mode::UINT_KEYS, Self::Uint32),
            (mode::LONG_KEYS, Self::Int64),
            (mode::ULONG_KEYS, Self::Uint64),
            (mode::FLOAT_KEYS, Self::Float),
            (mode::DOUBLE_KEYS, Self::Double),
        ];
        let all = known.iter().fold(0, |all, (bit, _)| all | bit);
        known.into_iter().find(|(bit, _)| bits & all == *bit).map(|(_, kind)| kind)
    }

    /// Bytes of a key, where all have the same.
    pub(crate) fn size(self) -> Option<usize> {
        match self {
            Self::String => None,
            Self::Int32 | Self::Uint32 | Self::Float => Some(4),
            Self::Int64 | Self::Uint64 | Self::Double => Some(8),
        }
    }

    /// Orders two keys of the right size (QueryParserUtils.cpp, compareKeys).
    pub(crate) fn compare(self, one: &[u8], other: &[u8]) -> Ordering {
        fn four(key: &[u8]) -> [u8; 4] {
            key.try_into().unwrap_or_default()
        }
        fn eight(key: &[u8]) -> [u8; 8] {
            key.try_into().unwrap_or_default()
        }
        match self {
            Self::String => one.cmp(other),
            Self::Int32 => i32::from_le_bytes(four(one)).cmp(&i32::from_le_bytes(four(other))),
            Self::Uint32 => u32::from_le_bytes(four(one)).cmp(&u32::from_le_bytes(four(other))),
            Self::Int64 => i64::from_le_bytes(eight(one)).cmp(&i64::from_le_bytes(eight(other))),
            Self::Uint64 => u64::from_le_bytes(eight(one)).cmp(&u64::from_le_bytes(eight(other))),
            // What has no order counts as equal there; here it must not depend on the direction.
            Self::Float => {
                let (one, other) = (f32::from_le_bytes(four(one)), f32::from_le_bytes(four(other)));
                one.partial_cmp(&other).unwrap_or_else(|| one.total_cmp(&other))
            }
            Self::Double => {
                let (one, other) =
                    (f64::from_le_bytes(eight(one)), f64::from_le_bytes(eight(other)));
                one.partial_cmp(&other).unwrap_or_else(|| one.total_cmp(&other))
            }
        }
    }
}

/// A tree, opened: its header and where its nodes are.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) inode: u64,
    pub(crate) kind: KeyType,
    duplicates: bool,
    extents: Vec<Extent>,
    levels: u32,
    root: i64,
    free: i64,
    size: u64,
}

/// A node on the way from the root to a leaf.
#[derive(Debug)]
struct Step {
    offset: i64,
    node: Node,
    index: usize,
}

impl Tree {
    /// Makes the tree of a new inode: a header and an empty leaf.
    pub(crate) fn make<S: Storage>(
        volume: &mut Volume<S>,
        inode: &mut Inode,
        kind: KeyType,
    ) -> Result<()> {
        let mut stream = inode.stream();
        volume.grow(inode.block, &mut stream, 2 * NODE_SIZE)?;
        inode.set_stream(&stream);
        volume.store(inode)?;
        let tree = Self {
            inode: inode.block,
            kind,
            duplicates: inode.mode() & mode::INDEX != 0,
            extents: volume.extents(inode)?,
            levels: 1,
            root: NODE_SIZE as i64,
            free: NONE,
            size: 2 * NODE_SIZE,
        };
        for offset in [0, NODE_SIZE] {
            let (block, _) = tree.place(volume, offset as i64)?;
            volume.blocks.fresh(block);
        }
        tree.write(volume, tree.root, &Node::leaf())?;
        tree.write_header(volume)
    }

    pub(crate) fn open<S: Storage>(volume: &mut Volume<S>, inode: &Inode) -> Result<Self> {
        let stream = inode.stream();
        let extents = volume.extents(inode)?;
        let first = extents.first().map_or(inode.block, |extent| extent.block);
        let wrong = |field, problem: String| Err(damaged(inode.block, first, field, problem));
        if !inode.is_directory() && inode.mode() & mode::ATTRIBUTE_DIRECTORY == 0 {
            return wrong("mode", format!("{:o} is not that of a directory", inode.mode()));
        }
        if stream.size < 2 * NODE_SIZE || !stream.size.is_multiple_of(NODE_SIZE) {
            return wrong("size", format!("{} bytes do not make a tree", stream.size));
        }
        let block = volume.blocks.get(first)?;
        if u32_at(&block, 0) != MAGIC {
            return wrong("tree magic", format!("{:#x}", u32_at(&block, 0)));
        }
        if u32_at(&block, 4) as usize != NODE {
            return wrong("node_size", u32_at(&block, 4).to_string());
        }
        let levels = u32_at(&block, MAX_LEVELS);
        if !(1..=MOST_LEVELS).contains(&levels) {
            return wrong("max_number_of_levels", levels.to_string());
        }
        let number = u32_at(&block, DATA_TYPE);
        let expected = KeyType::of_mode(inode.mode()).unwrap_or(KeyType::String);
        let Some(kind) = KeyType::of_header(number).filter(|kind| *kind == expected) else {
            return wrong("data_type", format!("{number} in place of {}", expected.number()));
        };
        let size = i64_at(&block, MAXIMUM_SIZE);
        if size != stream.size as i64 {
            return wrong("maximum_size", format!("{size} in place of {}", stream.size));
        }
        let tree = Self {
            inode: inode.block,
            kind,
            duplicates: inode.mode() & mode::INDEX != 0
                && volume.super_block.indices != Some(inode.block),
            extents,
            levels,
            root: i64_at(&block, ROOT),
            free: i64_at(&block, FREE_NODE),
            size: stream.size,
        };
        for (field, link, none) in
            [("root_node_pointer", tree.root, false), ("free_node_pointer", tree.free, true)]
        {
            if !(tree.is_node(link) || none && link == NONE) {
                return wrong(field, format!("{link} is not a node"));
            }
        }
        Ok(tree)
    }

    /// Whether a link leads to a node.
    fn is_node(&self, link: i64) -> bool {
        u64::try_from(link).is_ok_and(|link| {
            link >= NODE_SIZE && link % NODE_SIZE == 0 && link <= self.size - NODE_SIZE
        })
    }

    /// Number of nodes that there can be: more steps than this are a circle.
    fn most_nodes(&self) -> u64 {
        self.size / NODE_SIZE
    }

    /// The block of a node, and where in it the node begins.
    fn place<S: Storage>(&self, volume: &Volume<S>, offset: i64) -> Result<(u64, usize)> {
        let shift = volume.super_block.block_shift;
        let offset = offset as u64;
        let at = offset >> shift;
        let index = self.extents.partition_point(|extent| extent.at + extent.length <= at);
        let Some(extent) = self.extents.get(index).filter(|extent| extent.at <= at) else {
            let problem = format!("node {offset} is not within the stream");
            return Err(damaged(self.inode, self.inode, "node link", problem));
        };
        let within = crate::super_block::SuperBlock::within(shift, offset);
        Ok((extent.block + (at - extent.at), within))
    }

    fn damaged<S: Storage>(
        &self,
        volume: &Volume<S>,
        offset: i64,
        field: &'static str,
        problem: String,
    ) -> Error {
        let block = self.place(volume, offset).map_or(self.inode, |(block, _)| block);
        damaged(self.inode, block, field, format!("node {offset}: {problem}"))
    }

    /// Reads the raw bytes of a node that `link` leads to.
    fn raw<S: Storage>(&self, volume: &mut Volume<S>, link: i64) -> Result<[u8; NODE]> {
        if !self.is_node(link) {
            let problem = format!("{link} is not a node");
            return Err(damaged(self.inode, self.inode, "node link", problem));
        }
        let (block, at) = self.place(volume, link)?;
        let content = volume.blocks.get(block)?;
        let mut node = [0; NODE];
        node.copy_from_slice(&content[at..at + NODE]);
        Ok(node)
    }

    fn raw_mut<'a, S: Storage>(
        &self,
        volume: &'a mut Volume<S>,
        link: i64,
    ) -> Result<&'a mut [u8]> {
        let (block, at) = self.place(volume, link)?;
        Ok(&mut volume.blocks.modify(block)?[at..at + NODE])
    }

    fn node<S: Storage>(&self, volume: &mut Volume<S>, link: i64) -> Result<Node> {
        let raw = self.raw(volume, link)?;
        let node = Node::parse(&raw, self.kind)
            .map_err(|(field, problem)| self.damaged(volume, link, field, problem))?;
        for (field, link_to) in [("left_link", node.left), ("right_link", node.right)] {
            if link_to != NONE && (!self.is_node(link_to) || link_to == link) {
                let problem = format!("{link_to} is not another node");
                return Err(self.damaged(volume, link, field, problem));
            }
        }
        if node.overflow != NONE && !self.is_node(node.overflow) {
            let problem = format!("{} is not a node", node.overflow);
            return Err(self.damaged(volume, link, "overflow_link", problem));
        }
        Ok(node)
    }

    fn write<S: Storage>(&self, volume: &mut Volume<S>, offset: i64, node: &Node) -> Result<()> {
        node.write(self.raw_mut(volume, offset)?);
        Ok(())
    }

    fn write_header<S: Storage>(&self, volume: &mut Volume<S>) -> Result<()> {
        let (block, at) = self.place(volume, 0)?;
        let header = &mut volume.blocks.modify(block)?[at..at + NODE];
        put(header, 0, &MAGIC.to_le_bytes());
        put(header, 4, &(NODE as u32).to_le_bytes());
        put(header, MAX_LEVELS, &self.levels.to_le_bytes());
        put(header, DATA_TYPE, &self.kind.number().to_le_bytes());
        put(header, ROOT, &self.root.to_le_bytes());
        put(header, FREE_NODE, &self.free.to_le_bytes());
        put(header, MAXIMUM_SIZE, &self.size.to_le_bytes());
        Ok(())
    }

    /// Walks from the root to the leaf where a key is or belongs. In the last step, `index` is the
    /// place of the key; whether it is there is told too.
    fn descend<S: Storage>(&self, volume: &mut Volume<S>, key: &[u8]) -> Result<(Vec<Step>, bool)> {
        let mut path = Vec::new();
        let mut offset = self.root;
        loop {
            let node = self.node(volume, offset)?;
            let found = node.search(self.kind, key);
            let (Ok(index) | Err(index)) = found;
            let (leaf, child) = (node.is_leaf(), node.child(index));
            path.push(Step { offset, node, index });
            if leaf {
                return Ok((path, found.is_ok()));
            }
            if path.len() >= self.levels as usize {
                let problem = format!("not a leaf, on level {}", path.len());
                return Err(self.damaged(volume, offset, "overflow_link", problem));
            }
            offset = child;
        }
    }

    /// Finds the value of a key in a tree without duplicates.
    pub(crate) fn find<S: Storage>(
        &self,
        volume: &mut Volume<S>,
        key: &[u8],
    ) -> Result<Option<u64>> {
        let (path, found) = self.descend(volume, key)?;
        match path.last() {
            Some(leaf) if found => {
                let value = leaf.node.child(leaf.index);
                self.inode_value(volume, leaf.offset, value).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn inode_value<S: Storage>(&self, volume: &Volume<S>, offset: i64, value: i64) -> Result<u64> {
        match u64::try_from(value) {
            Ok(block) if volume.super_block.is_data_block(block) => Ok(block),
            _ => Err(self.damaged(volume, offset, "value", format!("{value} is not an inode"))),
        }
    }
}
