//! A volume: opening one, finding nodes, reading them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::attribute;
use crate::blocks::Blocks;
use crate::bytes::to_usize;
use crate::error::{Error, Result, damaged};
use crate::inode::Inode;
use crate::journal;
use crate::space::Space;
use crate::storage::Storage;
use crate::stream::Extent;
use crate::super_block::{OFFSET, SIZE, SuperBlock};
use crate::time::Time;
use crate::tree::{Cursor, Tree};

/// Bytes of metadata that are kept in memory unless asked otherwise.
pub const DEFAULT_CACHE: usize = 4 << 20;

/// How a volume is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done with the volume.
    pub access: Access,
    /// Bytes of metadata to keep in memory. What one transaction changes, and the list of a file's
    /// runs (24 bytes each), come on top.
    pub cache: usize,
    /// Whether writes are flushed in the order that a failure of power demands. Without it, an
    /// operation is still safe against the end of this process.
    pub barriers: bool,
    /// The clock, as the time since 1970.
    pub clock: fn() -> Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { access: Access::Write, cache: DEFAULT_CACHE, barriers: true, clock: now }
    }
}

impl Options {
    /// The default, for reading only.
    pub fn read_only() -> Self {
        Self { access: Access::Read, ..Self::default() }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What is done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it as it is after its log is carried out, without writing anything.
    Read,
    /// Read it as it is, log or not.
    ReadAsIs,
    /// Read and write it; an unclean volume is an error.
    WriteClean,
    /// Read and write it; if its log holds something, carry that out first.
    Write,
}

/// The number of an inode: that of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u64);

impl NodeId {
    /// The block of the inode.
    pub fn block(self) -> u64 {
        self.0
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// What is known of a node without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with those for set-id and sticky.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of the content: of a link the length of its target, of a directory its tree.
    pub size: u64,
    /// When it was made.
    pub created: Time,
    /// When its content changed.
    pub modified: Time,
    /// When its inode changed.
    pub changed: Time,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: bytes, by custom UTF-8.
    pub name: Vec<u8>,
    /// The node.
    pub node: NodeId,
}

/// Numbers about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks that it has.
    pub blocks: u64,
    /// Blocks that are used, by the super block.
    pub used_blocks: u64,
    /// Whether it was unmounted cleanly, as far as the super block tells.
    pub clean: bool,
}

/// A BFS volume.
#[derive(Debug)]
pub struct Volume<S> {
    pub(crate) super_block: SuperBlock,
    pub(crate) blocks: Blocks<S>,
    pub(crate) space: Space,
    pub(crate) writable: bool,
    /// A write went wrong after the transaction began to count.
    pub(crate) failed: bool,
    pub(crate) barriers: bool,
    /// Several operations make one transaction.
    pub(crate) batch: bool,
    pub(crate) clock: fn() -> Duration,
    pub(crate) unique: u16,
    pub(crate) indices: Option<HashMap<Vec<u8>, u64>>,
    was_clean: bool,
}

impl<S: Storage> Volume<S> {
    /// Opens the volume that `storage` holds.
    ///
    /// # Errors
    /// There is no volume or it is damaged; it is unclean, where that was not to be; it cannot be
    /// read.
    pub fn open(storage: S, options: &Options) -> Result<Self> {
        let size = storage.size().map_err(|source| Error::Io {
            action: "find the end of",
            offset: 0,
            length: 0,
            source,
        })?;
        let mut raw = [0; SIZE];
        let needed = OFFSET + SIZE as u64;
        if size < needed {
            return Err(Error::Truncated { volume: needed, storage: size });
        }
        storage.read_at(&mut raw, OFFSET).map_err(|source| Error::Io {
            action: "read",
            offset: OFFSET,
            length: SIZE,
            source,
        })?;
        let super_block = SuperBlock::parse(&raw)?;
        let volume = super_block.bytes_of(super_block.num_blocks);
        if volume > size {
            return Err(Error::Truncated { volume, storage: size });
        }
        let blocks = Blocks::new(storage, super_block.block_shift, options.cache);
        let mut this = Self::assemble(super_block, blocks, options);
        let (start, end) = this.super_block.log();
        let length = this.super_block.log_length;
        if start % length != end % length && options.access != Access::ReadAsIs {
            this.was_clean = false;
            if options.access == Access::WriteClean {
                return Err(Error::Unclean { start, end });
            }
            let pending = journal::pending(&this.super_block, &this.blocks)?;
            if options.access == Access::Write {
                this.replay(pending)?;
            } else {
                this.blocks.redirect(pending);
            }
        }
        this.inode(this.super_block.root)?;
        Ok(this)
    }

    pub(crate) fn assemble(super_block: SuperBlock, blocks: Blocks<S>, options: &Options) -> Self {
        let (start, end) = super_block.log();
        Self {
            space: Space::new(super_block.num_ags),
            was_clean: start == end && super_block.is_flagged_clean(),
            super_block,
            blocks,
            writable: matches!(options.access, Access::Write | Access::WriteClean),
            failed: false,
            barriers: options.barriers,
            batch: false,
            clock: options.clock,
            unique: 0,
            indices: None,
        }
    }

    /// Gives back the storage. Nothing is pending but a batch; a flush of the storage may be.
    pub fn into_storage(self) -> S {
        self.blocks.into_storage()
    }

    /// Returns numbers about the volume.
    pub fn info(&self) -> Info {
        Info {
            name: self.super_block.name(),
            block_size: 1 << self.super_block.block_shift,
            blocks: self.super_block.num_blocks,
            used_blocks: self.super_block.used_blocks(),
            clean: self.was_clean,
        }
    }

    /// The root directory.
    pub fn root(&self) -> NodeId {
        NodeId(self.super_block.root)
    }

    pub(crate) fn geometry(&mut self) -> (&SuperBlock, &mut Blocks<S>) {
        (&self.super_block, &mut self.blocks)
    }

    pub(crate) fn inode(&mut self, block: u64) -> Result<Inode> {
        if !self.super_block.is_data_block(block) {
            return Err(damaged(block, block, "inode", "lies where no inode can be"));
        }
        let raw = self.blocks.get(block)?;
        Inode::parse(&self.super_block, block, &raw)
    }

    pub(crate) fn extents(&mut self, inode: &Inode) -> Result<Vec<Extent>> {
        inode.stream().extents(&self.super_block, &mut self.blocks, inode.block)
    }

    /// The inode of a file, directory or link; not that of an attribute or index.
    pub(crate) fn regular(&mut self, node: NodeId) -> Result<Inode> {
        let inode = self.inode(node.0)?;
        if inode.is_regular() {
            return Ok(inode);
        }
        Err(damaged(node.0, node.0, "mode", format!("{:o} is not that of a file", inode.mode())))
    }

    pub(crate) fn directory(&mut self, node: NodeId) -> Result<(Inode, Tree)> {
        let inode = self.regular(node)?;
        if !inode.is_directory() {
            let name = attribute::name(&inode).unwrap_or_default();
            return Err(Error::NotADirectory(String::from_utf8_lossy(&name).into_owned()));
        }
        let tree = Tree::open(self, &inode)?;
        Ok((inode, tree))
    }

    /// Finds an entry of a directory. Links are not followed.
    ///
    /// # Errors
    /// There is none; `directory` is not one; the volume is damaged or cannot be read.
    pub fn entry(&mut self, directory: NodeId, name: &[u8]) -> Result<NodeId> {
        self.entry_if_any(directory, name)?
            .ok_or_else(|| Error::NotFound(String::from_utf8_lossy(name).into_owned()))
    }

    pub(crate) fn entry_if_any(
        &mut self,
        directory: NodeId,
        name: &[u8],
    ) -> Result<Option<NodeId>> {
        let (_, tree) = self.directory(directory)?;
        Ok(tree.find(self, name)?.map(NodeId))
    }

    /// Finds a node by its path from the root. Links are not followed.
    ///
    /// # Errors
    /// A part of it does not exist or is not a directory; the volume is damaged or cannot be read.
    pub fn lookup(&mut self, path: &[u8]) -> Result<NodeId> {
        let mut node = self.root();
        for (index, name) in path.split(|byte| *byte == b'/').enumerate() {
            if name.is_empty() || name == b"." {
                continue;
            }
            node = self.entry(node, name).map_err(|error| {
                let parts = path.split(|byte| *byte == b'/');
                let so_far = |count| -> String {
                    let parts: Vec<_> = parts.clone().take(count).collect();
                    String::from_utf8_lossy(&parts.join(&b'/')).into_owned()
                };
                match error {
                    Error::NotFound(_) => Error::NotFound(so_far(index + 1)),
                    Error::NotADirectory(_) => Error::NotADirectory(so_far(index)),
                    other => other,
                }
            })?;
        }
        Ok(node)
    }

    /// Returns what is known of a node.
    ///
    /// # Errors
    /// The volume is damaged or cannot be read.
    pub fn metadata(&mut self, node: NodeId) -> Result<Metadata> {
        let inode = self.regular(node)?;
        Ok(Metadata {
            kind: match () {
                () if inode.is_directory() => Kind::Directory,
                () if inode.is_link() => Kind::Symlink,
                () => Kind::File,
            },
            permissions: inode.mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            size: match inode.has_stream() {
                true => inode.size(),
                false => inode.short_link().len() as u64,
            },
            created: Time::from_raw(inode.create_time()),
            modified: Time::from_raw(inode.last_modified()),
            changed: Time::from_raw(inode.status_change()),
        })
    }

    /// Goes through the entries of a directory, in the order of their names, without `.` and `..`.
    ///
    /// # Errors
    /// `directory` is not one; the volume is damaged or cannot be read.
    pub fn entries(&mut self, directory: NodeId) -> Result<Entries<'_, S>> {
        let (_, tree) = self.directory(directory)?;
        let cursor = Cursor::first(self, tree)?;
        Ok(Entries { volume: self, cursor, done: false })
    }

    /// Reads from the content of a file. Returns how many bytes were read: fewer than `buffer`
    /// holds only at the end.
    ///
    /// # Errors
    /// `node` is not a file; the volume is damaged or cannot be read.
    pub fn read(&mut self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut reader = self.reader(node)?;
        self.read_on(&mut reader, offset, buffer)
    }

    /// Prepares for several reads of a file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn reader(&mut self, node: NodeId) -> Result<Reader> {
        let inode = self.regular(node)?;
        if !inode.is_file() {
            return Err(Error::NotAFile(node.0));
        }
        self.stream_reader(&inode)
    }

    pub(crate) fn stream_reader(&mut self, inode: &Inode) -> Result<Reader> {
        Ok(Reader { size: inode.size(), extents: self.extents(inode)? })
    }

    /// Reads from a file that was prepared for it and did not change since.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub fn read_on(
        &mut self,
        reader: &mut Reader,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let left = reader.size.saturating_sub(offset);
        let length = buffer.len().min(to_usize(left));
        let shift = self.super_block.block_shift;
        let (mut done, block_size) = (0, self.super_block.block_size());
        while done < length {
            let at = offset + done as u64;
            let index =
                reader.extents.partition_point(|extent| (extent.at + extent.length) << shift <= at);
            let Some(extent) = reader.extents.get(index) else { break };
            let block = extent.block + ((at >> shift) - extent.at);
            let within = SuperBlock::within(shift, at);
            let rest = extent.length - ((at >> shift) - extent.at);
            let wanted = length - done;
            if within == 0 && wanted >= block_size {
                let count = rest.min((wanted >> shift) as u64);
                let bytes = to_usize(count << shift);
                self.blocks.read(block, &mut buffer[done..done + bytes])?;
                done += bytes;
            } else {
                let mut content = vec![0; block_size];
                self.blocks.read(block, &mut content)?;
                let bytes = wanted.min(block_size - within);
                buffer[done..done + bytes].copy_from_slice(&content[within..within + bytes]);
                done += bytes;
            }
        }
        Ok(done)
    }

    pub(crate) fn read_all(&mut self, inode: &Inode, most: usize) -> Result<Vec<u8>> {
        let mut reader = self.stream_reader(inode)?;
        let mut content = vec![0; to_usize(reader.size).min(most)];
        let length = self.read_on(&mut reader, 0, &mut content)?;
        content.truncate(length);
        Ok(content)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// `node` is not a link; the volume is damaged or cannot be read.
    pub fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>> {
        /// Longer than any system's limit on paths.
        const LONGEST: usize = 65536;
        let inode = self.regular(node)?;
        if !inode.is_link() {
            return Err(Error::NotASymlink(node.0));
        }
        if inode.has_stream() {
            return self.read_all(&inode, LONGEST);
        }
        Ok(inode.short_link().to_vec())
    }
}

/// A file that is being read.
#[derive(Clone, Debug)]
pub struct Reader {
    size: u64,
    extents: Vec<Extent>,
}

impl Reader {
    /// Size of the content in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The entries of a directory; see [`Volume::entries`].
#[derive(Debug)]
pub struct Entries<'a, S> {
    volume: &'a mut Volume<S>,
    cursor: Cursor,
    done: bool,
}

impl<S: Storage> Iterator for Entries<'_, S> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.cursor.next(self.volume) {
                Ok(Some((name, _))) if name == b"." || name == b".." => {}
                Ok(Some((name, node))) => return Some(Ok(Entry { name, node: NodeId(node) })),
                Ok(None) => self.done = true,
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
