//! One member of an archive, as its header has it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::input::Input;

/// The header of the `newc` format: a magic number and thirteen numbers of eight hex digits
/// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
const HEADER: usize = 110;
/// The longest name, its zero included (PATH_MAX, which init/initramfs.c holds names to).
const NAME_MAX: u32 = 4096;
pub(super) const TRAILER: &[u8] = b"TRAILER!!!";

/// What a member is (the file type of its mode, inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device node, a fifo or a socket.
    Other,
}

/// One member of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path from the root of the image, without a leading `/` or `./`.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u32,
    /// The length of its contents in bytes. Of several hard links, one has the contents.
    pub size: u32,
    /// The index of the part of the image that it is in.
    pub part: usize,
    /// What hard links have in common: their inode and device.
    pub(super) inode: [u32; 3],
    /// How many hard links it has.
    pub(super) links: u32,
}

/// Reads a header and the name that follows; `None` for the end of an archive.
pub(super) fn read_header<R: Read>(
    input: &mut Input<R>,
    part: usize,
) -> Result<Option<Member>, ImageError> {
    let mut header = [0; HEADER];
    input.read_exact(&mut header)?;
    // The sum of the contents, which the second kind has, is not checked: hardly any writer makes
    // it, and an image that is damaged in its contents is found by comparing them.
    if !matches!(&header[..6], b"070701" | b"070702") {
        return Err(ImageError::Header { at: input.consumed() });
    }
    let mut fields = [0_u32; 13];
    for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
        *field = hex(digits).ok_or(ImageError::Header { at: input.consumed() })?;
    }
    let [inode, mode, _uid, _gid, links, _mtime, size, major, minor, _, _, name_size, _] = fields;
    if name_size == 0 || name_size > NAME_MAX {
        return Err(ImageError::Header { at: input.consumed() });
    }
    let length = usize::try_from(name_size).unwrap_or(usize::MAX);
    let mut name = vec![0; length];
    input.read_exact(&mut name)?;
    skip(input, padding(HEADER + length))?;
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.ok_or(ImageError::Header { at: input.consumed() })?);
    if name == TRAILER {
        // A trailer has no contents.
        skip(input, u64::from(size))?;
        return Ok(None);
    }
    Ok(Some(Member {
        path: normal(OsString::from_vec(name).into())?,
        kind: match mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Link,
            _ => Kind::Other,
        },
        mode: mode & 0o7777,
        size,
        part,
        inode: [inode, major, minor],
        links,
    }))
}

/// Skips what pads the contents of a member to a multiple of four.
pub(super) fn skip_padding<R: Read>(input: &mut Input<R>, size: u32) -> io::Result<()> {
    skip(input, u64::from(size.wrapping_neg() % 4))
}

/// Skips bytes, all of which must be there.
pub(super) fn skip<R: Read>(input: &mut Input<R>, count: u64) -> io::Result<()> {
    if io::copy(&mut input.by_ref().take(count), &mut io::sink())? < count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn padding(length: usize) -> u64 {
    u64::try_from(length.wrapping_neg() % 4).unwrap_or_default()
}

/// Returns eight hex digits as a number. No sign and no space, which `from_str_radix` and the
/// kernel differ on.
fn hex(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0_u32, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// A path from the root. One that leads out of it is no honest generator's.
fn normal(path: PathBuf) -> Result<PathBuf, ImageError> {
    let mut found = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => found.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ImageError::Outside { path });
            }
        }
    }
    if found.as_os_str().is_empty() {
        found.push(Path::new("."));
    }
    Ok(found)
}
