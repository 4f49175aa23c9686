//! Haiku's packages: what is in them, and getting it out.
//!
//! The format is described in docs/develop/packages/FileFormat.rst of Haiku, its constants are in
//! headers/os/package/hpkg/HPKGDefs.h and headers/private/package/hpkg: a header, and a heap of
//! chunks, each compressed for itself. At the end of the heap are two sections of attributes: the
//! table of contents, and what the package says of itself.
//!
//! The crate `hpkg` of the registry reads them too, but allocates what headers ask for, unpacks the
//! whole heap and recurses on its input; a package of an image that somebody gave is to be read in
//! bounded memory.

mod attributes;
mod contents;
mod heap;
#[cfg(test)]
pub(crate) mod samples;
mod write;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use heap::Heap;
pub use write::{About, NewContent, NewEntry, WriteError, write};

/// Bytes of a table of contents that are taken into memory; that of the package `haiku` has about
/// one million.
const LARGEST_SECTION: u64 = 64 << 20;

/// A package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HpkgError {
    /// The file cannot be read.
    #[error("cannot read the package at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("not a package: it does not begin with `hpkg`")]
    NotAPackage,
    /// It is of a version that is not known.
    #[error("a package of format version {0}, not 2")]
    Version(u16),
    /// It contradicts itself.
    #[error("the package is damaged: {field}: {problem}")]
    Damaged {
        /// The field, or the part of it.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

fn damaged(field: &'static str, problem: impl Into<String>) -> HpkgError {
    HpkgError::Damaged { field, problem: problem.into() }
}

/// Bytes at fixed places, where a package is read from.
pub trait PackageSource {
    /// Number of bytes.
    ///
    /// # Errors
    /// It is not known.
    fn size(&mut self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be read, or there are fewer.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl PackageSource for File {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl PackageSource for &[u8] {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageInfo {
    /// Its name.
    pub name: String,
    /// Its version, with the revision.
    pub version: String,
    /// What it is, in one line.
    pub summary: String,
    /// Who gives it away.
    pub vendor: String,
    /// Who made it.
    pub packager: String,
    /// What machine it is for.
    pub architecture: String,
}

/// A file, directory or link of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the package; bytes, by custom UTF-8.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub permissions: u32,
    /// Seconds since 1970 when it changed.
    pub modified: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with its content.
    File(Data),
    /// A directory.
    Directory,
    /// A link with its target.
    Symlink(Vec<u8>),
}

/// Where content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In the table of contents, for it is short.
    Inline(Vec<u8>),
    /// In the heap, unpacked.
    Heap {
        /// Where it begins.
        offset: u64,
        /// Bytes of it.
        size: u64,
    },
}

impl Data {
    /// Number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Heap { size, .. } => *size,
        }
    }
}

/// A package that is open.
#[derive(Debug)]
pub struct Package<S> {
    heap: Heap<S>,
    contents: Section,
    about: Section,
}

/// A section of attributes, in the unpacked heap.
#[derive(Clone, Copy, Debug)]
struct Section {
    start: u64,
    size: u64,
    strings_size: u64,
    strings_count: u64,
}

impl<S: PackageSource> Package<S> {
    /// Opens a package.
    ///
    /// # Errors
    /// It is no package of a known version, damaged, or cannot be read.
    pub fn open(mut source: S) -> Result<Self, HpkgError> {
        let size = source.size().map_err(|source| HpkgError::Read { offset: 0, source })?;
        // The layout is that of struct hpkg_header (HPKGDefsPrivate.h); numbers are big-endian.
        let mut header = [0; 80];
        if size < 80 {
            return Err(HpkgError::NotAPackage);
        }
        source.read_at(0, &mut header).map_err(|source| HpkgError::Read { offset: 0, source })?;
        if &header[..4] != b"hpkg" {
            return Err(HpkgError::NotAPackage);
        }
        let number = |at: usize, length: usize| {
            header[at..at + length].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let version = u16::try_from(number(6, 2)).unwrap_or(u16::MAX);
        if version != 2 {
            return Err(HpkgError::Version(version));
        }
        if number(8, 8) != size {
            let problem = format!("{} of {size} bytes", number(8, 8));
            return Err(damaged("total_size", problem));
        }
        let heap = Heap::open(
            source,
            heap::Layout {
                start: number(4, 2),
                file_size: size,
                compression: number(18, 2),
                chunk_size: number(20, 4),
                packed: number(24, 8),
                unpacked: number(32, 8),
            },
        )?;
        let about_size = number(40, 4);
        let contents_size = number(56, 8);
        let end = heap.size();
        let about = end.checked_sub(about_size);
        let contents = about.and_then(|about| about.checked_sub(contents_size));
        let (Some(about), Some(contents)) = (about, contents) else {
            return Err(damaged("toc_length", "the sections are larger than the heap"));
        };
        Ok(Self {
            heap,
            contents: Section {
                start: contents,
                size: contents_size,
                strings_size: number(64, 8),
                strings_count: number(72, 8),
            },
            about: Section {
                start: about,
                size: about_size,
                strings_size: number(44, 4),
                strings_count: number(48, 4),
            },
        })
    }

    fn section(&mut self, section: Section) -> Result<attributes::Reader, HpkgError> {
        if section.size > LARGEST_SECTION || section.strings_size > section.size {
            let problem = format!("{} bytes, {} of strings", section.size, section.strings_size);
            return Err(damaged("toc_length", problem));
        }
        let mut bytes = vec![0; usize::try_from(section.size).unwrap_or_default()];
        self.heap.read(section.start, &mut bytes)?;
        attributes::Reader::new(bytes, section.strings_size, section.strings_count)
    }

    /// Reads what the package says of itself.
    ///
    /// # Errors
    /// The package is damaged or cannot be read.
    pub fn info(&mut self) -> Result<PackageInfo, HpkgError> {
        let reader = self.section(self.about)?;
        contents::info(reader)
    }

    /// Reads the table of contents: every entry after the directory that it is in.
    ///
    /// # Errors
    /// The package is damaged or cannot be read.
    pub fn entries(&mut self) -> Result<Vec<Entry>, HpkgError> {
        let limit = self.heap.size();
        let reader = self.section(self.contents)?;
        contents::entries(reader, limit)
    }

    /// Reads from a content. Returns how many bytes were read: fewer than `buffer` holds only at
    /// the end.
    ///
    /// # Errors
    /// The package is damaged or cannot be read.
    pub fn read(
        &mut self,
        data: &Data,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, HpkgError> {
        let left = usize::try_from(data.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        match data {
            Data::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(bytes.len()).min(bytes.len());
                buffer.copy_from_slice(&bytes[start..start + length]);
            }
            Data::Heap { offset: start, .. } => {
                self.heap.read(start.saturating_add(offset), buffer)?;
            }
        }
        Ok(length)
    }

    /// Reads a whole content of at most `most` bytes.
    ///
    /// # Errors
    /// It is larger; the package is damaged or cannot be read.
    pub fn read_all(&mut self, data: &Data, most: u64) -> Result<Vec<u8>, HpkgError> {
        if data.size() > most {
            let problem = format!("{} bytes are more than {most}", data.size());
            return Err(damaged("data", problem));
        }
        let mut bytes = vec![0; usize::try_from(data.size()).unwrap_or_default()];
        self.read(data, 0, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn sample(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        if name.ends_with(".zst") { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes }
    }

    const SAMPLES: [&str; 3] = ["sample-store.hpkg.zst", "sample-zlib.hpkg", "sample-zstd.hpkg"];

    fn hash(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn packages_of_haikus_own_tool_read_back_exactly() {
        let expected = String::from_utf8(sample("sample.contents.tsv")).unwrap();
        for name in SAMPLES {
            let bytes = sample(name);
            let mut package = Package::open(bytes.as_slice()).unwrap();
            let info = package.info().unwrap();
            assert_eq!(
                info,
                PackageInfo {
                    name: "sample_driver".to_owned(),
                    version: "1.0-1".to_owned(),
                    summary: "A package for tests".to_owned(),
                    vendor: "kireji".to_owned(),
                    packager: "kireji <none@example.org>".to_owned(),
                    architecture: "x86_64".to_owned(),
                }
            );
            let entries = package.entries().unwrap();
            let mut files = Vec::new();
            for entry in &entries {
                let path = String::from_utf8(entry.path.clone()).unwrap();
                match &entry.kind {
                    EntryKind::File(data) if !path.starts_with('.') => {
                        let content = package.read_all(data, 1 << 20).unwrap();
                        files.push(format!("{path}\t{}\t{}", content.len(), hash(&content)));
                        // In pieces that do not fit the chunks, it is the same.
                        let (mut pieces, mut piece) = (Vec::new(), vec![0; 50_001]);
                        loop {
                            let at = pieces.len() as u64;
                            let length = package.read(data, at, &mut piece).unwrap();
                            if length == 0 {
                                break;
                            }
                            pieces.extend_from_slice(&piece[..length]);
                        }
                        assert!(pieces == content, "{path}");
                    }
                    EntryKind::Symlink(target) => {
                        assert_eq!(path, "data/link");
                        assert_eq!(target, b"../add-ons/kernel/drivers/bin/sample");
                    }
                    _ => {}
                }
            }
            files.sort_unstable();
            assert_eq!(files, expected.lines().collect::<Vec<_>>(), "{name}");
            assert_eq!(entries.len(), 11, "{name}");
            assert!(entries.iter().all(|entry| entry.modified == 1_795_353_294), "{name}");
        }
    }

    #[test]
    fn what_is_no_package_is_named() {
        let open = |bytes: &[u8]| Package::open(bytes).map(drop).unwrap_err().to_string();
        assert!(open(b"PK").contains("not a package"));
        assert!(open(&[0; 100]).contains("not a package"));
        let mut bytes = sample(SAMPLES[1]);
        assert!(open(&bytes[..1000]).contains("total_size"));
        bytes[7] = 1;
        assert!(open(&bytes).contains("version 1"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            which in 0_usize..3,
            patches in proptest::collection::vec((0_usize..1200, proptest::num::u8::ANY), 1..8),
        ) {
            static ALL: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
            let all = ALL.get_or_init(|| SAMPLES.iter().map(|name| sample(name)).collect());
            let mut bytes = all[which].clone();
            let length = bytes.len();
            for (place, value) in patches {
                // The header, or the sections at the end.
                let place = if place < 80 { place } else { length - (place - 79) };
                bytes[place] = value;
            }
            if let Ok(mut package) = Package::open(bytes.as_slice()) {
                drop(package.info());
                for entry in package.entries().unwrap_or_default() {
                    if let EntryKind::File(data) = entry.kind {
                        drop(package.read(&data, 5, &mut [0; 100]));
                    }
                }
            }
        }
    }
}
