//! Why a file is not an image to boot from, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A file is not an image that Haiku can boot from.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text given for the image is an address on the network.
    #[error("`{url}` is an address on the network, not a file")]
    Url {
        /// The text.
        url: String,
    },
    /// The file cannot be opened or read.
    #[error("cannot read the image {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be opened to be written, or cannot be made.
    #[error("cannot write the image {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It is a directory.
    #[error("{} is a directory, not an image", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// It is a disk of this machine.
    #[error("{} is a disk of this machine, not an image", path.display())]
    Device {
        /// The device node.
        path: PathBuf,
    },
    /// It is a socket, a pipe or a character device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It holds nothing.
    #[error("the image {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It ends before what it describes.
    #[error("the image {} is cut off: {by} describes {expected} bytes, the file holds {actual}",
        path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What tells its true size.
        by: &'static str,
        /// Bytes that there should be.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// It is an archive or a compressed file.
    #[error("{} is {packed}, not an image", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// What it is packed with.
        packed: Packed,
    },
    /// It is a CD image of something else.
    #[error("the CD image {} (volume `{name}`) holds no BFS partition", path.display())]
    IsoWithoutBfs {
        /// The file.
        path: PathBuf,
        /// Name of the ISO 9660 volume.
        name: String,
    },
    /// It is a disk without a partition of Haiku's.
    #[error("the disk image {} holds no BFS among its {partitions} partitions", path.display())]
    NoBfs {
        /// The file.
        path: PathBuf,
        /// Number of its partitions.
        partitions: usize,
    },
    /// It is a VMware disk of a kind that keeps its sectors elsewhere or scattered.
    #[error("{} is a VMware disk that does not hold its sectors in one piece", path.display())]
    UnsupportedVmdk {
        /// The file.
        path: PathBuf,
    },
    /// It is a qcow2 file whose disk is partly in another file, which it names: any file of the
    /// host, if it came from somebody else.
    #[error("the image {} names another file that holds a part of its disk", path.display())]
    Parted {
        /// The file.
        path: PathBuf,
    },
    /// It is text.
    #[error("{} holds text, not an image", path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// What it describes cannot be.
    #[error("the image {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It is a qcow2 file of a kind that is not read here.
    #[error("the qcow2 file {} cannot be used: {what}", path.display())]
    UnsupportedQcow2 {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// What it names as its backing file is none that can be used.
    #[error("the backing file of {}, `{name}`, {what}", path.display())]
    BackingName {
        /// The image.
        path: PathBuf,
        /// What its header names.
        name: String,
        /// What is wrong with that.
        what: &'static str,
    },
    /// Its backing file cannot be read.
    #[error("the backing file of {} cannot be read", path.display())]
    Backing {
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<ImageError>,
    },
    /// It has no partition of the number that was asked for.
    #[error("{} has no partition {number}", path.display())]
    NoSuchPartition {
        /// The file.
        path: PathBuf,
        /// The number.
        number: usize,
    },
    /// The partition that was asked for holds no BFS.
    #[error("partition {number} of {} holds no BFS volume", path.display())]
    NotBfs {
        /// The file.
        path: PathBuf,
        /// The number.
        number: usize,
    },
    /// Several partitions hold a BFS, and none was asked for.
    #[error("{} holds a BFS volume in each of the partitions {numbers:?}", path.display())]
    SeveralBfs {
        /// The file.
        path: PathBuf,
        /// The numbers of the partitions.
        numbers: Vec<usize>,
    },
    /// It holds a BFS volume of PowerPC.
    #[error("{} holds a big-endian BFS volume, as made on PowerPC", path.display())]
    BigEndian {
        /// The file.
        path: PathBuf,
    },
    /// It is nothing that we know.
    #[error("{} is no disk image: it has no partition table and no BFS", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
    },
}

impl ImageError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Url { .. } => "download it first, compare its checksum, then give the file",
            Self::Open { .. } | Self::Write { .. } => "check the path and its permissions",
            Self::Directory { .. } => {
                "give the image inside it, for example the .iso file of an unpacked nightly"
            }
            Self::Device { .. } => {
                "give an image file; to give a guest a disk, pass its controller"
            }
            Self::NotAFile { .. } => "give an image file",
            Self::Empty { .. } | Self::Truncated { .. } => {
                "the download or copy did not finish: fetch it again and compare its checksum"
            }
            Self::Packed { packed: Packed::Zip, .. } => {
                "unpack it first, with `unzip`, then give the .iso or .image file inside"
            }
            Self::Packed { .. } => "unpack it first, then give the .iso or .image file inside",
            Self::IsoWithoutBfs { .. } | Self::NoBfs { .. } => {
                "give a Haiku image: the anyboot .iso, or a disk that Haiku was installed on"
            }
            Self::UnsupportedVmdk { .. } => {
                "convert it: qemu-img convert -O qcow2 IMAGE.vmdk IMAGE.qcow2"
            }
            Self::Parted { .. } => {
                "make one file of it, if you trust it: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2"
            }
            Self::Text { .. } => {
                "a download page may have been saved in place of the image: fetch it again"
            }
            Self::Damaged { .. } => "fetch it again, or make it again",
            Self::Busy { .. } => "end the QEMU or the other kireji that has it open",
            Self::UnsupportedQcow2 { .. } => {
                "see `qemu-img check IMAGE`, or make a plain one: qemu-img convert -O qcow2 IMAGE NEW"
            }
            Self::BackingName { .. } => {
                "make one file of it: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2"
            }
            Self::Backing { source, .. } => source.hint(),
            Self::NoSuchPartition { .. } | Self::NotBfs { .. } => {
                "`kireji image info` lists the partitions"
            }
            Self::SeveralBfs { .. } => "say which: IMAGE:NUMBER",
            Self::BigEndian { .. } => "only little-endian ones, those of x86, are supported",
            Self::Unrecognised { .. } => {
                "give Haiku's anyboot .iso, a raw or qcow2 image of a disk with Haiku on it"
            }
        }
    }
}

/// What a file is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// A zip archive, as Haiku's nightly images come in.
    Zip,
    /// Compressed by gzip.
    Gzip,
    /// Compressed by bzip2.
    Bzip2,
    /// Compressed by xz.
    Xz,
    /// Compressed by zstd.
    Zstd,
    /// A 7-Zip archive.
    SevenZip,
}

impl Packed {
    /// Tells from the first bytes of a file (the magic numbers are those of `file`(1)).
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 7] = [
            (b"PK\x03\x04", Self::Zip),
            (b"PK\x05\x06", Self::Zip),
            (b"\x1f\x8b", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"7z\xbc\xaf\x27\x1c", Self::SevenZip),
        ];
        known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packed)| packed)
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive",
            Self::Gzip => "compressed by gzip",
            Self::Bzip2 => "compressed by bzip2",
            Self::Xz => "compressed by xz",
            Self::Zstd => "compressed by zstd",
            Self::SevenZip => "a 7-Zip archive",
        })
    }
}
