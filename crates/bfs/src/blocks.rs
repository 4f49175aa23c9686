//! Blocks of a volume: a bounded cache of what is on it, and what a transaction changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::Storage;

/// Blocks with their new content.
pub(crate) type Changes<'a> = Vec<(u64, &'a [u8])>;

/// The blocks of a volume, as the transaction under way sees them.
///
/// Metadata go through [`get`](Self::get) and [`modify`](Self::modify); the content of files goes
/// to the storage directly. A block changes from the one kind to the other only by way of
/// [`forget`](Self::forget).
#[derive(Debug)]
pub(crate) struct Blocks<S> {
    storage: S,
    shift: u32,
    /// Two generations, each of half the size of the cache: what is used moves to the young one,
    /// and when that is full, the old one goes.
    young: HashMap<u64, Arc<[u8]>>,
    old: HashMap<u64, Arc<[u8]>>,
    per_generation: usize,
    changed: BTreeMap<u64, Box<[u8]>>,
    /// Changed blocks that nothing on the volume refers to yet: they need not go through the log.
    fresh: BTreeSet<u64>,
    /// Blocks whose newest content is in the log of a volume that is not to be written.
    redirected: BTreeMap<u64, u64>,
}

impl<S: Storage> Blocks<S> {
    pub(crate) fn new(storage: S, shift: u32, cache: usize) -> Self {
        Self {
            storage,
            shift,
            young: HashMap::new(),
            old: HashMap::new(),
            per_generation: ((cache / 2) >> shift).max(8),
            changed: BTreeMap::new(),
            fresh: BTreeSet::new(),
            redirected: BTreeMap::new(),
        }
    }

    pub(crate) fn into_storage(self) -> S {
        self.storage
    }

    pub(crate) fn redirect(&mut self, blocks: BTreeMap<u64, u64>) {
        self.redirected = blocks;
    }

    fn size(&self) -> usize {
        1 << self.shift
    }

    /// Returns the content of a block.
    pub(crate) fn get(&mut self, block: u64) -> Result<Arc<[u8]>> {
        if let Some(content) = self.changed.get(&block) {
            return Ok(Arc::from(&**content));
        }
        if let Some(content) = self.young.get(&block) {
            return Ok(Arc::clone(content));
        }
        let content = match self.old.remove(&block) {
            Some(content) => content,
            None => {
                let mut content = vec![0; self.size()];
                self.read(block, &mut content)?;
                Arc::from(content)
            }
        };
        self.keep(block, Arc::clone(&content));
        Ok(content)
    }

    fn keep(&mut self, block: u64, content: Arc<[u8]>) {
        if self.young.len() >= self.per_generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(block, content);
    }

    /// Returns the content of a block for the transaction to change.
    pub(crate) fn modify(&mut self, block: u64) -> Result<&mut [u8]> {
        if !self.changed.contains_key(&block) {
            let content = self.get(block)?;
            self.changed.insert(block, Box::from(&*content));
        }
        Ok(self.changed.entry(block).or_default())
    }

    /// Returns a block of zeros in place of one that was just allocated.
    pub(crate) fn fresh(&mut self, block: u64) -> &mut [u8] {
        self.fresh.insert(block);
        let zeros = vec![0; self.size()].into_boxed_slice();
        let content = self.changed.entry(block).or_default();
        *content = zeros;
        content
    }

    /// Drops what is known of blocks that are metadata no longer.
    pub(crate) fn forget(&mut self, first: u64, length: u64) {
        let range = first..first + length;
        let changed: Vec<_> = self.changed.range(range.clone()).map(|(block, _)| *block).collect();
        for block in changed {
            self.changed.remove(&block);
            self.fresh.remove(&block);
        }
        if length as usize > self.young.len() + self.old.len() {
            self.young.retain(|block, _| !range.contains(block));
            self.old.retain(|block, _| !range.contains(block));
        } else {
            for block in range {
                self.young.remove(&block);
                self.old.remove(&block);
            }
        }
    }

    /// Drops the transaction.
    pub(crate) fn abort(&mut self) {
        self.changed.clear();
        self.fresh.clear();
    }

    /// Number of blocks that would go through the log.
    pub(crate) fn logged_count(&self) -> usize {
        self.changed.len() - self.fresh.len()
    }

    /// The blocks that the transaction changed: those that go through the log, then the others.
    pub(crate) fn changes(&self) -> (Changes<'_>, Changes<'_>) {
        self.changed
            .iter()
            .map(|(block, content)| (*block, &**content))
            .partition(|(block, _)| !self.fresh.contains(block))
    }

    /// Makes the changes part of what is on the volume.
    pub(crate) fn settle(&mut self) {
        self.fresh.clear();
        for (block, content) in std::mem::take(&mut self.changed) {
            self.old.remove(&block);
            self.keep(block, Arc::from(content));
        }
    }

    /// Reads whole blocks past the cache.
    pub(crate) fn read(&self, first: u64, bytes: &mut [u8]) -> Result<()> {
        let length = (bytes.len() >> self.shift) as u64;
        if self.redirected.range(first..first + length).next().is_none() {
            return self.read_bytes(first << self.shift, bytes);
        }
        let size = self.size();
        for (block, bytes) in (first..).zip(bytes.chunks_mut(size)) {
            let place = self.redirected.get(&block).unwrap_or(&block);
            self.read_bytes(place << self.shift, bytes)?;
        }
        Ok(())
    }

    pub(crate) fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let length = bytes.len();
        self.storage.read_at(bytes, offset).map_err(|source| Error::Io {
            action: "read",
            offset,
            length,
            source,
        })
    }

    /// Writes past the cache.
    pub(crate) fn write(&mut self, first: u64, bytes: &[u8]) -> Result<()> {
        self.write_bytes(first << self.shift, bytes)
    }

    pub(crate) fn write_bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.storage.write_at(bytes, offset).map_err(|source| Error::Io {
            action: "write",
            offset,
            length: bytes.len(),
            source,
        })
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.storage.flush().map_err(|source| Error::Io {
            action: "flush",
            offset: 0,
            length: 0,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_forgets_nothing_changed() {
        let disk: Vec<u8> = (0..100 * 1024_usize).map(|at| (at / 1024) as u8).collect();
        let mut blocks = Blocks::new(disk, 10, 16 * 1024);
        blocks.modify(7).unwrap()[0] = 200;
        for block in 0..100 {
            assert_eq!(blocks.get(block).unwrap()[1], block as u8);
            assert!(blocks.young.len() + blocks.old.len() <= 16);
        }
        assert_eq!(blocks.get(7).unwrap()[0], 200);
        blocks.abort();
        assert_eq!(blocks.get(7).unwrap()[0], 7);
        blocks.fresh(8)[0] = 1;
        assert_eq!((blocks.logged_count(), blocks.get(8).unwrap()[0]), (0, 1));
        blocks.forget(8, 1);
        assert_eq!(blocks.get(8).unwrap()[0], 8);
    }
}
