//! Making a volume.

use std::time::Duration;

use crate::blocks::Blocks;
use crate::error::{Error, Result};
use crate::inode::mode;
use crate::small_data::STRING_TYPE;
use crate::storage::Storage;
use crate::super_block::{OFFSET, SuperBlock};
use crate::tree::{KeyType, Tree};
use crate::volume::{Options, Volume};

/// The type code of 64-bit numbers, `LLNG` (headers/os/support/TypeConstants.h of Haiku).
const INT64_TYPE: u32 = 0x4c4c_4e47;

/// What a new volume is to be like.
#[derive(Clone, Debug)]
pub struct MakeOptions {
    /// Its name: up to 31 bytes, without a slash.
    pub name: String,
    /// Bytes of a block: 1024, 2048, 4096 or 8192. Haiku's own images have 2048.
    pub block_size: u32,
    /// The clock, as the time since 1970.
    pub clock: fn() -> Duration,
}

impl MakeOptions {
    /// A volume like those of Haiku's own images.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), block_size: 2048, clock: Options::default().clock }
    }
}

impl<S: Storage> Volume<S> {
    /// Makes an empty volume of the whole `storage`, whatever it held, and opens it.
    ///
    /// It has the indices that Haiku gives a new volume: `name`, `size`, `last_modified` and
    /// `BEOS:APP_SIG`. The boot block is left empty.
    ///
    /// # Errors
    /// The parameters are not possible; the storage is too small, too large or cannot be written.
    pub fn make(storage: S, options: &MakeOptions) -> Result<Self> {
        let MakeOptions { name, block_size, clock } = options;
        let wrong = |what: String| Err(Error::Parameters(what));
        if name.len() > 31 || name.contains(['/', '\0']) || name.is_empty() {
            return wrong(format!("{name:?} is not a valid name"));
        }
        if !matches!(block_size, 1024 | 2048 | 4096 | 8192) {
            return wrong(format!("blocks cannot have {block_size} bytes"));
        }
        let size = storage.size().map_err(|source| Error::Io {
            action: "find the end of",
            offset: 0,
            length: 0,
            source,
        })?;
        let super_block = SuperBlock::make(name, *block_size, size)?;
        let options = Options { clock: *clock, ..Options::default() };
        let blocks = Blocks::new(storage, super_block.block_shift, options.cache);
        let mut this = Self::assemble(super_block, blocks, &options);
        this.initialise()?;
        Ok(this)
    }

    fn initialise(&mut self) -> Result<()> {
        // No super block until there is something that it describes.
        let zeros = vec![0; self.super_block.block_size()];
        for block in 0..=self.super_block.bitmap_blocks() {
            self.blocks.write(block, &zeros)?;
        }
        let reserved = self.super_block.reserved();
        self.transact(|volume| {
            volume.mark(0, reserved, true)?;
            let root = volume.make_root(mode::DIRECTORY | mode::STRING_KEYS | 0o755)?;
            let index = mode::INDEX | mode::DIRECTORY;
            let indices = volume.make_root(index | mode::STRING_KEYS | 0o700)?;
            volume.super_block.set_directories(root, indices);
            for (name, bits, code) in [
                ("name", mode::STRING_KEYS, STRING_TYPE),
                ("size", mode::LONG_KEYS, INT64_TYPE),
                ("last_modified", mode::LONG_KEYS, INT64_TYPE),
                ("BEOS:APP_SIG", mode::STRING_KEYS, STRING_TYPE),
            ] {
                let mut inode = volume.make_inode(indices, indices, index | bits)?;
                inode.set_type_code(code);
                let kind = KeyType::of_mode(bits).unwrap_or(KeyType::String);
                Tree::make(volume, &mut inode, kind)?;
                let directory = volume.inode(indices)?;
                let mut tree = Tree::open(volume, &directory)?;
                tree.insert(volume, name.as_bytes(), inode.block)?;
            }
            Ok(())
        })?;
        // A partition may have been something else: the boot code of that must not run.
        self.blocks.write_bytes(0, &[0; OFFSET as usize])
    }

    /// Makes the root or the directory of the indices, which are their own parents.
    fn make_root(&mut self, bits: u32) -> Result<u64> {
        let mut inode = self.make_inode(0, 0, bits)?;
        inode.set_parent(&self.super_block, inode.block);
        Tree::make(self, &mut inode, KeyType::String)?;
        if bits & mode::INDEX == 0 {
            let mut tree = Tree::open(self, &inode)?;
            tree.insert(self, b".", inode.block)?;
            tree.insert(self, b"..", inode.block)?;
        }
        Ok(inode.block)
    }
}
