//! What a boot loader loads: initramfs images, and unified kernel images that hold one.
//!
//! An initramfs image is any number of parts, one behind the other and with zeros between, each an
//! archive of the `newc` kind and each packed in its own way or not at all
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel). The first may hold
//! only microcode; what a later part has replaces what an earlier one had. The kernel's reader is
//! init/initramfs.c.

mod digest;
mod input;
mod lz4;
mod member;
mod packing;
mod skeleton;
mod uki;

#[cfg(test)]
mod tests;

pub use digest::{Digest, Hasher};
pub use member::{Kind, Member};
pub use packing::Packing;
pub use skeleton::{Shown, skeleton};
pub use uki::{Section, Uki, UkiError};

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use host::{ReadError, Sysroot};

use input::{Bounded, Input};

/// How many symbolic links are followed in a path (MAXSYMLINKS of the kernel).
const MOST_LINKS: usize = 40;

/// What an image may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members; the largest images seen have twenty thousand.
    pub members: usize,
    /// Bytes once unpacked, all parts together.
    pub unpacked: u64,
    /// Bytes of the contents that are kept.
    pub kept: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: 200_000, unpacked: 4 << 30, kept: 64 << 20 }
    }
}

/// An image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be opened.
    #[error("the image cannot be opened")]
    Open(#[from] ReadError),
    /// What is there cannot be read or unpacked.
    #[error("the image cannot be unpacked")]
    Unpack(#[from] io::Error),
    /// Neither an archive nor anything that the kernel can unpack.
    #[error("at byte {at} is no archive")]
    Unknown {
        /// Where, in the image.
        at: u64,
    },
    /// A damaged header.
    #[error("the archive is damaged before byte {at}")]
    Header {
        /// Where, in the unpacked part.
        at: u64,
    },
    /// A member outside of the image.
    #[error("a member leads out of the image: {}", path.display())]
    Outside {
        /// Its name.
        path: PathBuf,
    },
    /// More than an image may hold.
    #[error("the image holds more than {limit} {what}")]
    TooMuch {
        /// How much it may hold.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
}

/// One part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in bytes from the start of the image.
    pub offset: u64,
    /// How it is packed.
    pub packing: Packing,
}

/// What an initramfs image holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    parts: Vec<Part>,
    members: Vec<Member>,
    /// The contents that were kept, and the targets of symbolic links, by the member's index.
    contents: BTreeMap<usize, Vec<u8>>,
    /// The digests of the contents of files, by the member's index, where they were asked for.
    digests: BTreeMap<usize, Digest>,
    /// The index of the last member of each path.
    last: BTreeMap<PathBuf, usize>,
}

impl Image {
    /// Reads the image at `path` of the host, and keeps the contents of the files that `keep`
    /// says.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or holds more than an image may.
    pub fn open(
        host: &Sysroot,
        path: impl AsRef<Path>,
        keep: impl Fn(&Member) -> bool,
    ) -> Result<Self, ImageError> {
        Self::read(host.open_file(path)?, keep, Limits::default())
    }

    /// Reads an image from its first byte to its last, in one pass.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or holds more than `limits`.
    pub fn read(
        source: impl Read,
        keep: impl Fn(&Member) -> bool,
        limits: Limits,
    ) -> Result<Self, ImageError> {
        Self::walk(source, Walk { keep: &keep, digests: false, limits, kept: 0 })
    }

    /// Reads an image in the same way, and of each file a digest in place of its contents.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or holds more than `limits`.
    pub fn digested(source: impl Read, limits: Limits) -> Result<Self, ImageError> {
        Self::walk(source, Walk { keep: &|_| false, digests: true, limits, kept: 0 })
    }

    fn walk(source: impl Read, mut walk: Walk<'_>) -> Result<Self, ImageError> {
        let mut image = Self::default();
        let mut input = Input::new(source);
        let mut left = walk.limits.unpacked;
        loop {
            input.skip_zeros()?;
            let offset = input.consumed();
            let head = input.peek(packing::MAGIC_LENGTH)?;
            if head.is_empty() {
                break;
            }
            let packing = Packing::of(head).ok_or(ImageError::Unknown { at: offset })?;
            image.parts.push(Part { offset, packing });
            if packing == Packing::None {
                walk.archive(&mut image, &mut input)?;
                continue;
            }
            let unpacker = packing.unpacker(&mut input)?;
            let mut unpacked = Input::new(Bounded { inner: unpacker, left: &mut left });
            loop {
                unpacked.skip_zeros()?;
                if unpacked.peek(1)?.is_empty() {
                    break;
                }
                walk.archive(&mut image, &mut unpacked)?;
            }
        }
        Ok(image)
    }

    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// All members, in order; a path may come several times, and the last one counts.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns what is at a path once the kernel has unpacked the image, symbolic links followed,
    /// absolute ones from the root of the image.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<&Member> {
        self.members.get(self.index(path.as_ref())?)
    }

    /// Returns the kept contents of a file, symbolic links followed; `None` where there is no such
    /// file, or it was not kept.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        let index = self.index(path.as_ref())?;
        if self.members[index].kind != Kind::File {
            return None;
        }
        self.contents.get(&self.holder(index)).map(Vec::as_slice)
    }

    /// What is at each path once the kernel has unpacked the image, links as such: the member, the
    /// target of a symbolic link, and the digest of a file where digests were asked for.
    pub fn unpacked(&self) -> impl Iterator<Item = (&Member, Option<&[u8]>, Option<&Digest>)> {
        self.last.values().map(|index| {
            let member = &self.members[*index];
            let target = self.contents.get(index).filter(|_| member.kind == Kind::Link);
            let holder = self.holder(*index);
            (member, target.map(Vec::as_slice), self.digests.get(&holder))
        })
    }

    /// The index of the member that has the contents of a file: they come with one of its hard
    /// links, the last in most archives.
    fn holder(&self, index: usize) -> usize {
        let member = &self.members[index];
        if member.kind != Kind::File || member.size > 0 || member.links < 2 {
            return index;
        }
        let same = |other: &Member| {
            (other.part, other.inode) == (member.part, member.inode) && other.size > 0
        };
        self.members.iter().rposition(same).unwrap_or(index)
    }

    /// Returns the paths directly below a directory, by name.
    pub fn below(&self, directory: impl AsRef<Path>) -> Vec<&Path> {
        let directory = directory.as_ref();
        let from = self.last.range(directory.to_owned()..);
        from.map(|(path, _)| path.as_path())
            .take_while(|path| path.starts_with(directory))
            .filter(|path| path.parent() == Some(directory))
            .collect()
    }

    fn index(&self, path: &Path) -> Option<usize> {
        // What is still to be walked, the next component last.
        let mut ahead = reversed(path);
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            let Some(index) = self.last.get(&at) else {
                // A directory need not be a member of its own.
                continue;
            };
            if self.members[*index].kind == Kind::Link {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                let target = self.contents.get(index)?.clone();
                let target = PathBuf::from(OsString::from_vec(target));
                if target.is_absolute() {
                    at = PathBuf::new();
                } else {
                    at.pop();
                }
                ahead.extend(reversed(&target));
            }
        }
        self.last.get(&at).copied()
    }
}

/// The components of a path, the last first; `..` is kept as such.
fn reversed(path: &Path) -> Vec<OsString> {
    let kept = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(kept).collect()
}

/// One reading of an image.
struct Walk<'a> {
    keep: &'a dyn Fn(&Member) -> bool,
    digests: bool,
    limits: Limits,
    kept: u64,
}

impl Walk<'_> {
    /// Reads one archive, to the end that it says itself.
    fn archive<R: Read>(
        &mut self,
        image: &mut Image,
        input: &mut Input<R>,
    ) -> Result<(), ImageError> {
        let part = image.parts.len().saturating_sub(1);
        while let Some(member) = member::read_header(input, part)? {
            if image.members.len() >= self.limits.members {
                let limit = u64::try_from(self.limits.members).unwrap_or(u64::MAX);
                return Err(ImageError::TooMuch { limit, what: "members" });
            }
            let index = image.members.len();
            let size = member.size;
            let is_link = member.kind == Kind::Link;
            if is_link || member.kind == Kind::File && (self.keep)(&member) {
                self.kept += u64::from(size);
                if self.kept > self.limits.kept {
                    let limit = self.limits.kept;
                    return Err(ImageError::TooMuch { limit, what: "bytes to keep" });
                }
                let mut contents = Vec::new();
                input.by_ref().take(u64::from(size)).read_to_end(&mut contents)?;
                if u64::try_from(contents.len()).ok() != Some(u64::from(size)) {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                if is_link {
                    // The kernel's reader ends the target at its length, some writers with a zero.
                    let end = contents.iter().position(|byte| *byte == 0);
                    contents.truncate(end.unwrap_or(contents.len()));
                }
                image.contents.insert(index, contents);
            } else if self.digests && member.kind == Kind::File {
                let mut hasher = Hasher::default();
                if hasher.read(input.by_ref().take(u64::from(size)))? < u64::from(size) {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                image.digests.insert(index, hasher.digest());
            } else {
                member::skip(input, u64::from(size))?;
            }
            member::skip_padding(input, size)?;
            image.last.insert(member.path.clone(), index);
            image.members.push(member);
        }
        Ok(())
    }
}
