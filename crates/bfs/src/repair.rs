//! Repairing what can be told from the rest: the bitmap and the values of the indices.

use crate::attribute;
use crate::check::{Check, Class, Mismatch, Report, hash};
use crate::error::Result;
use crate::index;
use crate::storage::Storage;
use crate::tree::{Cursor, Tree};
use crate::volume::{NodeId, Options, Volume};

/// What a repair found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The state before, the log carried out.
    pub before: Report,
    /// The state after. It is that before where there was nothing to repair, or where something
    /// else is damaged too, so that it cannot be told what the bitmap and the indices should be.
    pub after: Report,
}

/// Carries out the log of a volume, and makes its bitmap and indices agree with its files. Each
/// step is a transaction.
///
/// Nothing is changed where the damage goes further: files that share blocks, or whose inodes
/// cannot be read, are for a person to look at.
///
/// # Errors
/// There is no volume, its super block is damaged, or it cannot be read or written.
pub fn repair<S: Storage>(storage: &mut S, options: &Options) -> Result<Repair> {
    drop(Volume::open(&mut *storage, options)?);
    let mut check = Check::open(storage)?;
    check.run()?;
    let (before, used, mismatches) = check.into_parts();
    let repairable =
        |class| matches!(class, Class::Bitmap | Class::Index | Class::SuperBlock | Class::Log);
    let all = before.findings.iter().all(|finding| repairable(finding.class));
    if before.is_clean() || !all || before.omitted > 0 {
        return Ok(Repair { after: before.clone(), before });
    }
    let mut volume = Volume::open(&mut *storage, options)?;
    volume.repair_bitmap(&used, before.used_blocks)?;
    for mismatch in mismatches {
        volume.repair_index(&mismatch)?;
    }
    drop(volume);
    let after = crate::check::check(storage)?;
    Ok(Repair { before, after })
}

impl<S: Storage> Volume<S> {
    fn repair_bitmap(&mut self, used: &[u64], count: u64) -> Result<()> {
        let bytes: Vec<u8> = used.iter().flat_map(|word| word.to_le_bytes()).collect();
        let size = self.super_block.block_size();
        let blocks: Vec<_> = (1..).zip(bytes.chunks(size)).collect();
        // A bitmap may be larger than the log. Between two transactions it is partly right.
        for part in blocks.chunks(self.capacity() / 2) {
            self.transact(|volume| {
                for (block, right) in part {
                    let known = volume.blocks.get(*block)?;
                    if known[..right.len()] != **right {
                        let content = volume.blocks.modify(*block)?;
                        content.fill(0);
                        content[..right.len()].copy_from_slice(right);
                    }
                }
                Ok(())
            })?;
        }
        self.space.abort();
        // The super block goes with every transaction; one that changes nothing else needs one
        // block in it.
        self.transact(|volume| {
            volume.super_block.set_used_blocks(count);
            volume.blocks.modify(1).map(|_| ())
        })
    }

    fn repair_index(&mut self, mismatch: &Mismatch) -> Result<()> {
        let Some(block) = self.index_inode(&mismatch.index)? else { return Ok(()) };
        let inode = self.inode(block)?;
        let tree = Tree::open(self, &inode)?;
        let mut cursor = Cursor::first(self, tree)?;
        let mut stale = Vec::new();
        while let Some((key, node)) = cursor.next(self)? {
            if mismatch.stale.binary_search(&(node, hash(&key))).is_ok() {
                stale.push((key, node));
            }
        }
        for (key, node) in stale {
            self.transact(|volume| {
                let inode = volume.inode(block)?;
                Tree::open(volume, &inode)?.remove(volume, &key, node).map(|_| ())
            })?;
        }
        for node in &mismatch.missing {
            self.transact(|volume| volume.enter(&mismatch.index, NodeId(*node)))?;
        }
        Ok(())
    }

    /// Enters the value that a node has for an index.
    fn enter(&mut self, index: &[u8], node: NodeId) -> Result<()> {
        let inode = self.regular(node)?;
        let value = match index {
            index::NAME => attribute::name(&inode)?,
            index::SIZE => inode.size().to_le_bytes().to_vec(),
            index::LAST_MODIFIED => inode.last_modified().to_le_bytes().to_vec(),
            name => self.attribute(node, name)?.value,
        };
        self.update_index(index, None, Some(&value), node.0)
    }
}
