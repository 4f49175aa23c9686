//! Blocks of a volume: a bounded cache of what is on it, and what a transaction changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::Storage;

/// Blocks with their new content.
pub(crate) type Changes<'a> = Vec<(u64, &'a [u8])>;

/// The blocks of a volume, as the operation under way sees them.
///
/// What an operation changed is held when it is complete, until the transaction that it belongs to
/// is written: it may have several.
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
    changed: Changed,
    held: Changed,
    /// Blocks whose newest content is in the log of a volume that is not to be written.
    redirected: BTreeMap<u64, u64>,
}

/// Changed blocks.
#[derive(Debug, Default)]
struct Changed {
    content: BTreeMap<u64, Arc<[u8]>>,
    /// Those that nothing on the volume refers to yet: they need not go through the log.
    fresh: BTreeSet<u64>,
}

impl Changed {
    fn logged_count(&self) -> usize {
        self.content.len() - self.fresh.len()
    }
}

impl<S: Storage> Blocks<S> {
    pub(crate) fn new(storage: S, shift: u32, cache: usize) -> Self {
        Self {
            storage,
            shift,
            young: HashMap::new(),
            old: HashMap::new(),
            per_generation: ((cache / 2) >> shift).max(8),
            changed: Changed::default(),
            held: Changed::default(),
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
        let changed = self.changed.content.get(&block);
        if let Some(content) = changed.or_else(|| self.held.content.get(&block)) {
            return Ok(Arc::clone(content));
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

    /// Returns the content of a block for the operation to change.
    pub(crate) fn modify(&mut self, block: u64) -> Result<&mut [u8]> {
        if !self.changed.content.contains_key(&block) {
            let content = self.get(block)?;
            self.changed.content.insert(block, content);
        }
        Ok(Arc::make_mut(self.changed.content.entry(block).or_default()))
    }

    /// Returns a block of zeros in place of one that was just allocated.
    pub(crate) fn fresh(&mut self, block: u64) -> &mut [u8] {
        self.changed.fresh.insert(block);
        let zeros = Arc::from(vec![0; self.size()]);
        let content = self.changed.content.entry(block).or_default();
        *content = zeros;
        Arc::make_mut(content)
    }

    /// Drops what is known of blocks that are metadata no longer.
    pub(crate) fn forget(&mut self, first: u64, length: u64) {
        let range = first..first + length;
        let changed = self.changed.content.range(range.clone());
        let changed: Vec<_> = changed.map(|(block, _)| *block).collect();
        for block in changed {
            self.changed.content.remove(&block);
            self.changed.fresh.remove(&block);
        }
        if length > (self.young.len() + self.old.len()) as u64 {
            self.young.retain(|block, _| !range.contains(block));
            self.old.retain(|block, _| !range.contains(block));
        } else {
            for block in range {
                self.young.remove(&block);
                self.old.remove(&block);
            }
        }
    }

    /// Drops what the operation under way changed.
    pub(crate) fn abort(&mut self) {
        self.changed = Changed::default();
    }

    /// Number of blocks that would go through the log for the operation under way.
    pub(crate) fn logged_count(&self) -> usize {
        self.changed.logged_count()
    }

    /// The same for those before it in its transaction.
    pub(crate) fn held_logged(&self) -> usize {
        self.held.logged_count()
    }

    /// Number of all blocks that those before it changed.
    pub(crate) fn held_count(&self) -> usize {
        self.held.content.len()
    }

    /// Completes the operation under way: what it changed is part of the transaction.
    pub(crate) fn hold(&mut self) {
        let Changed { content, fresh } = std::mem::take(&mut self.changed);
        self.held.content.extend(content);
        self.held.fresh.extend(fresh);
    }

    /// The blocks that the transaction changed: those that go through the log, then the others.
    pub(crate) fn changes(&self) -> (Changes<'_>, Changes<'_>) {
        self.held
            .content
            .iter()
            .map(|(block, content)| (*block, &**content))
            .partition(|(block, _)| !self.held.fresh.contains(block))
    }

    /// Makes the transaction part of what is on the volume.
    pub(crate) fn settle(&mut self) {
        for (block, content) in std::mem::take(&mut self.held).content {
            self.old.remove(&block);
            self.keep(block, content);
        }
    }

    /// Drops the transaction, which could not be written.
    pub(crate) fn drop_held(&mut self) {
        self.held = Changed::default();
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
        let disk: Vec<u8> =
            (0..100 * 1024_usize).map(|at| u8::try_from(at / 1024).unwrap()).collect();
        let mut blocks = Blocks::new(disk, 10, 16 * 1024);
        blocks.modify(7).unwrap()[0] = 200;
        for block in 0..100 {
            assert_eq!(blocks.get(block).unwrap()[1], u8::try_from(block).unwrap());
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
