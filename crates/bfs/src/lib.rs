//! The Be File System, as Haiku has it: reading, writing, replaying its log, checking and making
//! volumes.
//!
//! A [`Volume`] lies on any [`Storage`]: a file, a partition of one ([`Window`]), memory. Every
//! operation that changes it is one transaction of the volume's own log, or a part of one
//! ([`Volume::batch`]), so that a process killed at any moment leaves either the old or the new
//! state, and Haiku's kernel replays the log as it does its own. The indices of name, size, time
//! and attributes are kept as the kernel keeps them.
//!
//! The layout is taken from Haiku's headers and sources, src/add-ons/kernel/file_systems/bfs, which
//! the constants name; none of its code is here. Volumes are little-endian, as on every machine
//! that Haiku runs on, with blocks of 1024 to 8192 bytes.
//!
//! Volumes may be hostile. Whatever is read is validated, circles are found out, and memory is
//! bounded: by the cache ([`Options`]), the runs of the file in hand, and the transaction under
//! way, which is no larger than the log, but for the new blocks of one operation. What is wrong is
//! told by inode, block and field ([`Damage`]).
//!
//! The crate must not depend on any other crate of this workspace.
//!
//! ```
//! use bfs::{MakeOptions, Volume};
//!
//! # fn main() -> bfs::Result<()> {
//! let disk = vec![0; 4 << 20];
//! let mut volume = Volume::make(disk, &MakeOptions::new("Haiku"))?;
//! let root = volume.root();
//! let home = volume.create_directory(root, b"home", 0o755)?;
//! volume.write_file(home, b"hello", 0o644, &mut b"Hello!".as_slice(), 6)?;
//! let hello = volume.lookup(b"/home/hello")?;
//! let mut buffer = [0; 16];
//! let length = volume.read(hello, 0, &mut buffer)?;
//! assert_eq!(&buffer[..length], b"Hello!");
//! # Ok(())
//! # }
//! ```

mod attribute;
mod blocks;
mod bytes;
mod check;
mod content;
mod error;
mod index;
mod inode;
mod journal;
mod make;
mod nodes;
mod repair;
mod resize;
mod small_data;
mod space;
mod steps;
mod storage;
mod stream;
mod super_block;
mod time;
mod tree;
mod volume;

pub use attribute::{Attribute, AttributeInfo};
pub use check::{Class, Finding, Report, check};
pub use error::{Damage, Error, Result};
pub use make::MakeOptions;
pub use repair::{Repair, repair};
pub use storage::{Storage, Window};
pub use time::Time;
pub use volume::{
    Access, DEFAULT_CACHE, Entries, Entry, Info, Kind, Metadata, NodeId, Options, Reader, Volume,
};
