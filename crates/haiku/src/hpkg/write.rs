//! Writing packages.
//!
//! What Haiku's own tool writes, and nothing more than a package of a few files needs: a heap of
//! chunks packed by zlib, which every version of Haiku reads, and sections of attributes without a
//! table of strings.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::contents::{
    ARCHITECTURE, ARCHITECTURES, DATA, DIRECTORY_ENTRY, FILE_MTIME, FILE_PERMISSIONS, FILE_TYPE,
    NAME, PACKAGER, SUMMARY, SYMLINK_PATH, VENDOR, VERSION_MAJOR, VERSION_MICRO, VERSION_MINOR,
    VERSION_PRE_RELEASE, VERSION_REVISION,
};

// More ids (headers/os/package/hpkg/PackageAttributes.h of Haiku, in order).
const DESCRIPTION: u64 = 17;
const FLAGS: u64 = 20;
const COPYRIGHT: u64 = 26;
const LICENSE: u64 = 27;
const PROVIDES: u64 = 28;
const REQUIRES: u64 = 29;

/// Bytes of a chunk (HPKGDefsPrivate.h).
const CHUNK: usize = 64 << 10;
/// Bytes of a header.
const HEADER: usize = 80;
/// What a file is, where it is not a regular one (B_HPKG_FILE_TYPE_*).
const DIRECTORY: u64 = 1;
const SYMLINK: u64 = 2;

/// A package cannot be written so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The name would not be one for Haiku.
    #[error("`{0}` is no name of a package: letters, digits, `_`, `.` and `+` make one")]
    Name(String),
    /// The version would not be one for Haiku.
    #[error("`{0}` is no version: MAJOR[.MINOR[.MICRO]][~PRE-RELEASE], as `1.0` or `1.2~beta`")]
    Version(String),
    /// The architecture is not known.
    #[error("`{0}` is no architecture of Haiku")]
    Architecture(String),
    /// A text cannot be written.
    #[error("the {0} is empty, or has a line break or a zero")]
    Text(&'static str),
    /// A path is none, or is there twice, or is below a file.
    #[error("`{0}` is no path for a file of a package, or there twice")]
    Path(String),
}

/// What a new package says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Its version: `MAJOR[.MINOR[.MICRO]][~PRE-RELEASE]`.
    pub version: String,
    /// How often this version was packaged, from 1.
    pub revision: u64,
    /// What machine it is for, by Haiku's names.
    pub architecture: String,
    /// What it is, in one line.
    pub summary: String,
    /// Who gives it away.
    pub vendor: String,
    /// Who made it: `NAME <ADDRESS>`.
    pub packager: String,
    /// The year and the holder.
    pub copyright: String,
    /// The name of a licence that Haiku has.
    pub license: String,
    /// Names of packages that it needs.
    pub requires: Vec<String>,
}

impl About {
    /// The name that its file must have: Haiku's package manager looks for it.
    pub fn file_name(&self) -> String {
        let Self { name, version, revision, architecture, .. } = self;
        format!("{name}-{version}-{revision}-{architecture}.hpkg")
    }
}

/// A file or link of a new package. Directories are made as they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Its path in the package.
    pub path: String,
    /// What it is.
    pub content: NewContent,
}

/// What an entry of a new package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewContent {
    /// A file.
    File {
        /// What it holds.
        bytes: Vec<u8>,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A link with its target.
    Symlink(String),
}

/// Makes a package. `modified`, in seconds since 1970, is the time of all its files: the same input
/// gives the same bytes.
///
/// # Errors
/// Something in it would not be read by Haiku.
pub fn write(about: &About, entries: &[NewEntry], modified: u64) -> Result<Vec<u8>, WriteError> {
    let version = Version::parse(&about.version)?;
    check(about)?;
    let info = NewEntry {
        path: ".PackageInfo".to_owned(),
        content: NewContent::File { bytes: info_file(about).into_bytes(), executable: false },
    };
    let mut sorted: Vec<&NewEntry> = entries.iter().chain([&info]).collect();
    sorted.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    let (mut heap, contents) = contents(&sorted, modified)?;
    let package = attributes(about, &version)?;
    heap.extend_from_slice(&contents);
    heap.extend_from_slice(&package);
    let packed = pack(&heap);

    // The layout is that of struct hpkg_header (HPKGDefsPrivate.h); numbers are big-endian.
    let mut bytes = b"hpkg".to_vec();
    let mut put = |value: u64, length: usize| bytes.extend(&value.to_be_bytes()[8 - length..]);
    put(HEADER as u64, 2);
    put(2, 2);
    put((HEADER + packed.len()) as u64, 8);
    put(1, 2); // minor version
    put(1, 2); // zlib
    put(CHUNK as u64, 4);
    put(packed.len() as u64, 8);
    put(heap.len() as u64, 8);
    put(package.len() as u64, 4);
    put(1, 4); // the empty table of strings
    put(0, 4);
    put(0, 4); // reserved
    put(contents.len() as u64, 8);
    put(1, 8);
    put(0, 8);
    bytes.extend(packed);
    Ok(bytes)
}

fn check(about: &About) -> Result<(), WriteError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+');
    for name in [&about.name].into_iter().chain(&about.requires) {
        if name.is_empty() || !name.chars().all(fine) {
            return Err(WriteError::Name(name.clone()));
        }
    }
    for (what, text) in [
        ("summary", &about.summary),
        ("vendor", &about.vendor),
        ("packager", &about.packager),
        ("copyright", &about.copyright),
        ("licence", &about.license),
    ] {
        if text.trim().is_empty() || text.contains(|c: char| c.is_control()) {
            return Err(WriteError::Text(what));
        }
    }
    Ok(())
}

/// The parts of a version.
struct Version<'a> {
    major: &'a str,
    minor: Option<&'a str>,
    micro: Option<&'a str>,
    pre_release: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Result<Self, WriteError> {
        let (number, pre_release) = match text.split_once('~') {
            Some((number, pre_release)) => (number, Some(pre_release)),
            None => (text, None),
        };
        let mut parts = number.splitn(3, '.');
        let (major, minor, micro) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let fine = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            !part.is_empty() && part.chars().all(known)
        };
        let all = [Some(major), minor, micro, pre_release];
        if all.into_iter().flatten().all(fine) {
            Ok(Self { major, minor, micro, pre_release })
        } else {
            Err(WriteError::Version(text.to_owned()))
        }
    }

    fn put(&self, section: &mut Section, revision: Option<u64>) {
        section.text(VERSION_MAJOR, self.major, true);
        for (id, part) in [(VERSION_MINOR, self.minor), (VERSION_MICRO, self.micro)] {
            if let Some(part) = part {
                section.text(id, part, false);
            }
        }
        if let Some(pre_release) = self.pre_release {
            section.text(VERSION_PRE_RELEASE, pre_release, false);
        }
        if let Some(revision) = revision {
            section.number(VERSION_REVISION, revision);
        }
        section.end();
    }
}

/// The file in which a package says of itself what its attributes say too.
fn info_file(about: &About) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let requires: String = about.requires.iter().map(|name| format!("\t{name}\n")).collect();
    format!(
        "name {}\nversion {}-{}\narchitecture {}\nsummary {}\ndescription {}\npackager {}\n\
         vendor {}\nlicenses {{\n\t{}\n}}\ncopyrights {{\n\t{}\n}}\nprovides {{\n\t{} = {}\n}}\n\
         requires {{\n{requires}}}\n",
        about.name,
        about.version,
        about.revision,
        about.architecture,
        quoted(&about.summary),
        quoted(&about.summary),
        quoted(&about.packager),
        quoted(&about.vendor),
        quoted(&about.license),
        quoted(&about.copyright),
        about.name,
        about.version,
    )
}

/// A section of attributes.
#[derive(Default)]
struct Section(Vec<u8>);

impl Section {
    /// The tag is (encoding << 11) + (children << 10) + (type << 7) + id + 1.
    fn tag(&mut self, id: u64, kind: u64, encoding: u64, children: bool) {
        self.leb((encoding << 11) + (u64::from(children) << 10) + (kind << 7) + id + 1);
    }

    fn leb(&mut self, mut number: u64) {
        loop {
            let low = number.to_le_bytes()[0] & 0x7f;
            number >>= 7;
            self.0.push(if number > 0 { low | 0x80 } else { low });
            if number == 0 {
                return;
            }
        }
    }

    fn text(&mut self, id: u64, text: &str, children: bool) {
        self.tag(id, 3, 0, children);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn number(&mut self, id: u64, number: u64) {
        let (encoding, length) = match number {
            0..=0xff => (0, 1),
            0x100..=0xffff => (1, 2),
            0x1_0000..=0xffff_ffff => (2, 4),
            _ => (3, 8),
        };
        self.tag(id, 2, encoding, false);
        self.0.extend(&number.to_be_bytes()[8 - length..]);
    }

    fn end(&mut self) {
        self.0.push(0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.end();
        // The table of strings is before the attributes; an empty string ends it.
        self.0.insert(0, 0);
        self.0
    }
}

/// The heap with what the files hold, and the table of contents. Entries are sorted by the parts
/// of their paths.
fn contents(entries: &[&NewEntry], modified: u64) -> Result<(Vec<u8>, Vec<u8>), WriteError> {
    let (mut heap, mut section) = (Vec::new(), Section::default());
    let mut open: Vec<&str> = Vec::new();
    let mut last = None;
    for entry in entries {
        let path = entry.path.as_str();
        let bad = || WriteError::Path(path.to_owned());
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        // A path that begins with another one is after it.
        let below = |last: &str| {
            path.strip_prefix(last).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        if path.split('/').any(odd) || last.is_some_and(below) {
            return Err(bad());
        }
        last = Some(path);
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().ok_or_else(bad)?;
        let same = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        for _ in open.drain(same..) {
            section.end();
        }
        for part in &parts[same..] {
            section.text(DIRECTORY_ENTRY, part, true);
            section.number(FILE_TYPE, DIRECTORY);
            section.number(FILE_MTIME, modified);
        }
        open = parts;
        section.text(DIRECTORY_ENTRY, name, true);
        match &entry.content {
            NewContent::Symlink(target) if target.is_empty() || target.contains('\0') => {
                return Err(bad());
            }
            NewContent::Symlink(target) => {
                section.number(FILE_TYPE, SYMLINK);
                section.number(FILE_MTIME, modified);
                section.text(SYMLINK_PATH, target, false);
            }
            NewContent::File { bytes, executable } => {
                if *executable {
                    section.number(FILE_PERMISSIONS, 0o755);
                }
                section.number(FILE_MTIME, modified);
                section.tag(DATA, 4, 1, false);
                section.leb(bytes.len() as u64);
                section.leb(heap.len() as u64);
                heap.extend_from_slice(bytes);
            }
        }
        section.end();
    }
    for _ in open {
        section.end();
    }
    Ok((heap, section.finish()))
}

fn attributes(about: &About, version: &Version<'_>) -> Result<Vec<u8>, WriteError> {
    let number = ARCHITECTURES.iter().position(|known| *known == about.architecture);
    let unknown = || WriteError::Architecture(about.architecture.clone());
    let mut section = Section::default();
    section.text(NAME, &about.name, false);
    section.text(SUMMARY, &about.summary, false);
    section.text(DESCRIPTION, &about.summary, false);
    section.text(VENDOR, &about.vendor, false);
    section.text(PACKAGER, &about.packager, false);
    section.number(FLAGS, 0);
    section.number(ARCHITECTURE, number.ok_or_else(unknown)? as u64);
    version.put(&mut section, Some(about.revision));
    section.text(COPYRIGHT, &about.copyright, false);
    section.text(LICENSE, &about.license, false);
    section.text(PROVIDES, &about.name, true);
    version.put(&mut section, None);
    section.end();
    for name in &about.requires {
        section.text(REQUIRES, name, false);
    }
    Ok(section.finish())
}

/// Packs a heap: each chunk for itself, then the size less one of each but the last.
fn pack(heap: &[u8]) -> Vec<u8> {
    let (mut packed, mut sizes) = (Vec::new(), Vec::new());
    let count = heap.len().div_ceil(CHUNK);
    for (index, chunk) in heap.chunks(CHUNK).enumerate() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let smaller = encoder.write_all(chunk).and_then(|()| encoder.finish());
        // What does not become smaller is stored as it is.
        let bytes = smaller.ok().filter(|bytes| bytes.len() < chunk.len());
        let bytes = bytes.as_deref().unwrap_or(chunk);
        packed.extend_from_slice(bytes);
        if index + 1 < count {
            let size = u16::try_from(bytes.len() - 1).unwrap_or(u16::MAX);
            sizes.extend(size.to_be_bytes());
        }
    }
    packed.extend(sizes);
    packed
}

#[cfg(test)]
mod tests;
