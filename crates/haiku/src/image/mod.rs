//! What kind of disk image a file is, and which firmware can boot it.
//!
//! Haiku is published as an *anyboot* image (an ISO 9660 file system, a BFS partition and an EFI
//! system partition in one file), as a bare BFS volume, and as a VMware disk; people make disks
//! with partition tables and qcow2 files of them. All are told apart from a few bounded reads.

mod bfs;
pub mod convert;
mod disk;
mod error;
mod gpt;
mod iso;
mod mbr;
mod partitions;
mod qcow2;
mod source;
mod vmdk;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde::Serialize;

pub use disk::Disk;
pub use error::{ImageError, Packed};
pub use partitions::{Partition, PartitionKind};
use source::{Source, Window};

/// Bytes of a sector, the unit of both partition tables.
const SECTOR: u64 = 512;
/// Bytes at the beginning of a file that tell what it is.
const HEAD: u64 = 1024;

/// A disk image that Haiku may boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// How the file holds the disk.
    pub container: Container,
    /// What is on the disk; `None` where it was not looked into, as [`Image::read`] does not for a
    /// qcow2 file.
    pub content: Option<Content>,
    /// Size in bytes of the disk that the guest sees.
    pub disk_size: u64,
}

/// How a file holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// The file is the disk.
    Raw,
    /// A VMware disk whose sectors follow a header in the same file.
    Vmdk {
        /// Size of the header in bytes; the disk is the rest of the file.
        header: u64,
    },
    /// QEMU's own format.
    Qcow2 {
        /// Version of the format, 2 or 3.
        version: u32,
    },
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Haiku's published image for CDs and USB sticks: attached as a disk it is writable.
    Anyboot(Partitions),
    /// A BFS volume without a partition table.
    Bare {
        /// Whether its boot block holds code.
        boot_code: bool,
    },
    /// A disk with a master boot record.
    Mbr(Partitions),
    /// A disk with a GUID partition table.
    Gpt(Partitions),
}

/// The partitions that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Partitions {
    /// The first BFS volume.
    pub bfs: Extent,
    /// The EFI system partition.
    pub esp: Option<Extent>,
    /// Whether a BIOS finds code and, in a master boot record, an active partition to start.
    pub boot_code: bool,
}

/// A part of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub size: u64,
}

/// Which firmware can start a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Boots {
    /// A PC BIOS.
    pub bios: bool,
    /// UEFI.
    pub uefi: bool,
}

impl Image {
    /// Reads what the file `path` is.
    ///
    /// # Errors
    /// It is not an image that Haiku could boot from, or it is damaged; each variant says what was
    /// found and [`ImageError::hint`] what to do.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        identify(path, &open(path, File::options().read(true))?)
    }

    /// Returns which firmware can start this image, where its content was looked into.
    pub fn boots(&self) -> Option<Boots> {
        Some(match self.content? {
            Content::Bare { boot_code } => Boots { bios: boot_code, uefi: false },
            Content::Anyboot(parts) | Content::Mbr(parts) | Content::Gpt(parts) => {
                Boots { bios: parts.boot_code, uefi: parts.esp.is_some() }
            }
        })
    }
}

fn open(path: &Path, options: &OpenOptions) -> Result<File, ImageError> {
    let failed = |source| ImageError::Open { path: path.to_owned(), source };
    let owned = path.to_owned();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_url(path) => {
            return Err(ImageError::Url { url: path.to_string_lossy().into_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(ImageError::Directory { path: owned });
    }
    if kind.is_block_device() {
        return Err(ImageError::Device { path: owned });
    }
    if !kind.is_file() {
        return Err(ImageError::NotAFile { path: owned });
    }
    if metadata.len() == 0 {
        return Err(ImageError::Empty { path: owned });
    }
    options.open(path).map_err(failed)
}

fn is_url(path: &Path) -> bool {
    path.to_str().and_then(|text| text.split_once("://")).is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// How a file holds a disk, with what is needed to read it.
enum Format {
    Raw,
    Vmdk { header: u64 },
    Qcow2(qcow2::Header),
}

impl Format {
    /// Tells from the first bytes of a file.
    fn of(path: &Path, head: &[u8]) -> Result<Self, ImageError> {
        if head.starts_with(qcow2::MAGIC) {
            return qcow2::Header::parse(head).map(Self::Qcow2).map_err(|what| damaged(path, what));
        }
        if head.starts_with(vmdk::MAGIC) || head.starts_with(vmdk::DESCRIPTOR) {
            let header = vmdk::flat_header(head);
            let header =
                header.ok_or_else(|| ImageError::UnsupportedVmdk { path: path.to_owned() })?;
            return Ok(Self::Vmdk { header });
        }
        match Packed::of(head) {
            Some(packed) => Err(ImageError::Packed { path: path.to_owned(), packed }),
            None => Ok(Self::Raw),
        }
    }

    fn container(&self) -> Container {
        match self {
            Self::Raw => Container::Raw,
            Self::Vmdk { header } => Container::Vmdk { header: *header },
            Self::Qcow2(header) => Container::Qcow2 { version: header.version },
        }
    }
}

fn identify(path: &Path, file: &dyn Source) -> Result<Image, ImageError> {
    let read = |source| ImageError::Open { path: path.to_owned(), source };
    let size = file.size().map_err(read)?;
    let head = file.read_up_to(0, HEAD).map_err(read)?;
    let format = Format::of(path, &head)?;
    let (content, disk_size) = match &format {
        Format::Raw => (Some(content(path, file, size)?), size),
        Format::Vmdk { header } => {
            let size = size.saturating_sub(*header);
            (Some(content(path, &Window::new(file, *header, size), size)?), size)
        }
        Format::Qcow2(header) => {
            if header.has_backing || header.has_external_data {
                return Err(ImageError::Parted { path: path.to_owned() });
            }
            whole(path, "the table of its clusters", header.end(file, size).map_err(read)?, size)?;
            (None, header.virtual_size)
        }
    };
    Ok(Image { container: format.container(), content, disk_size })
}

fn content(path: &Path, disk: &dyn Source, size: u64) -> Result<Content, ImageError> {
    let read = |source| ImageError::Open { path: path.to_owned(), source };
    let head = disk.read_up_to(0, 2 * SECTOR).map_err(read)?;
    if let Some(volume) = bfs::Volume::parse(head.get(512..).unwrap_or_default()) {
        whole(path, "the BFS super block", volume.size(), size)?;
        return Ok(Content::Bare { boot_code: mbr::has_code(&head) });
    }
    if bfs::is_big_endian(head.get(512..).unwrap_or_default()) {
        return Err(ImageError::BigEndian { path: path.to_owned() });
    }
    if !mbr::is_signed(&head) {
        let iso = iso::volume_name(disk).map_err(read)?;
        return Err(match iso {
            Some(name) => ImageError::IsoWithoutBfs { path: path.to_owned(), name },
            None if head.iter().all(|byte| is_text(*byte)) => {
                ImageError::Text { path: path.to_owned() }
            }
            None => ImageError::Unrecognised { path: path.to_owned() },
        });
    }
    let table = mbr::read(disk, &head).map_err(read)?;
    let is_gpt = table.iter().any(|entry| entry.kind == mbr::PROTECTIVE);
    let (found, boot_code) = if is_gpt {
        let found = gpt::read(disk).map_err(read)?.ok_or_else(|| {
            damaged(path, "a protective master boot record, but no GUID partition table")
        })?;
        (found, mbr::has_code(&head))
    } else {
        let active = table.iter().any(|entry| entry.active);
        (mbr::pick(&table), active && mbr::has_code(&head))
    };
    let volume_name = iso::volume_name(disk).map_err(read)?;
    let Some(bfs) = found.bfs else {
        return Err(match volume_name {
            Some(name) => ImageError::IsoWithoutBfs { path: path.to_owned(), name },
            None => ImageError::NoBfs { path: path.to_owned(), partitions: found.count },
        });
    };
    whole(path, "the partition table", found.end, size)?;
    let block = disk.read_up_to(bfs.start.saturating_add(512), 512).map_err(read)?;
    if bfs::is_big_endian(&block) {
        return Err(ImageError::BigEndian { path: path.to_owned() });
    }
    let volume = bfs::Volume::parse(&block)
        .ok_or_else(|| damaged(path, "the BFS partition has no BFS super block"))?;
    if volume.size() > bfs.size {
        return Err(damaged(path, "the BFS volume is larger than its partition"));
    }
    let partitions = Partitions { bfs, esp: found.esp, boot_code };
    Ok(match (is_gpt, volume_name) {
        (true, _) => Content::Gpt(partitions),
        (false, Some(_)) => Content::Anyboot(partitions),
        (false, None) => Content::Mbr(partitions),
    })
}

/// What a partition table says of the partitions that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    bfs: Option<Extent>,
    esp: Option<Extent>,
    /// Number of partitions of any kind.
    count: usize,
    /// Where the last partition ends, in bytes.
    end: u64,
}

impl Found {
    fn add(&mut self, extent: Extent, is_bfs: bool, is_esp: bool) {
        self.count += 1;
        self.end = self.end.max(extent.start.saturating_add(extent.size));
        if is_bfs {
            self.bfs.get_or_insert(extent);
        }
        if is_esp {
            self.esp.get_or_insert(extent);
        }
    }
}

fn whole(path: &Path, by: &'static str, expected: u64, actual: u64) -> Result<(), ImageError> {
    if expected > actual {
        return Err(ImageError::Truncated { path: path.to_owned(), by, expected, actual });
    }
    Ok(())
}

fn damaged(path: &Path, what: &'static str) -> ImageError {
    ImageError::Damaged { path: path.to_owned(), what }
}

fn is_text(byte: u8) -> bool {
    byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r')
}
