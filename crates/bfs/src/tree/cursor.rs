//! Going through a tree in the order of its keys.

use crate::error::Result;
use crate::storage::Storage;
use crate::volume::Volume;

use super::node::{NONE, Node};
use super::{Tree, duplicates};

/// A place in a tree. The tree must not change while one is in use.
#[derive(Debug)]
pub(crate) struct Cursor {
    tree: Tree,
    offset: i64,
    node: Node,
    index: usize,
    /// Values of the key before `index` that are still to come, the next one last.
    pending: Vec<i64>,
    /// The rest of the chain that they are from.
    chain: i64,
    /// Nodes that may still be entered before the links must be a circle.
    steps: u64,
}

impl Cursor {
    /// Stands before the first key.
    pub(crate) fn first<S: Storage>(volume: &mut Volume<S>, tree: Tree) -> Result<Self> {
        let mut offset = tree.root;
        let mut node = tree.node(volume, offset)?;
        let mut level = 1;
        while !node.is_leaf() {
            level += 1;
            if level > tree.levels {
                let problem = format!("not a leaf, on level {}", level - 1);
                return Err(tree.damaged(volume, offset, "overflow_link", problem));
            }
            offset = node.child(0);
            node = tree.node(volume, offset)?;
        }
        let steps = tree.most_nodes();
        Ok(Self { tree, offset, node, index: 0, pending: Vec::new(), chain: NONE, steps })
    }

    /// Returns the next key with one of its values.
    pub(crate) fn next<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
    ) -> Result<Option<(Vec<u8>, u64)>> {
        loop {
            if let Some(value) = self.pending.pop() {
                let value = self.tree.inode_value(volume, self.offset, value)?;
                return Ok(Some((self.node.key(self.index - 1).to_vec(), value)));
            }
            if self.chain != NONE {
                self.step(volume)?;
                let link = self.chain;
                self.load(volume, link)?;
                continue;
            }
            if self.index < self.node.count() {
                let value = self.node.child(self.index);
                self.index += 1;
                if self.tree.duplicates && duplicates::is_link(value) {
                    self.load(volume, value)?;
                } else {
                    self.pending.push(value);
                }
                continue;
            }
            if self.node.right == NONE {
                return Ok(None);
            }
            self.step(volume)?;
            self.offset = self.node.right;
            self.node = self.tree.node(volume, self.offset)?;
            self.index = 0;
            if !self.node.is_leaf() {
                let problem = "not a leaf, among leaves".to_owned();
                return Err(self.tree.damaged(volume, self.offset, "overflow_link", problem));
            }
        }
    }

    fn load<S: Storage>(&mut self, volume: &mut Volume<S>, link: i64) -> Result<()> {
        let array = self.tree.array(volume, link)?;
        self.pending = array.values;
        self.pending.reverse();
        self.chain = match array.right {
            NONE => NONE,
            right => duplicates::chain_link(right),
        };
        Ok(())
    }

    fn step<S: Storage>(&mut self, volume: &Volume<S>) -> Result<()> {
        let circle = || "the nodes are linked in a circle".to_owned();
        let left = self.steps.checked_sub(1);
        self.steps =
            left.ok_or_else(|| self.tree.damaged(volume, self.offset, "right_link", circle()))?;
        Ok(())
    }
}
