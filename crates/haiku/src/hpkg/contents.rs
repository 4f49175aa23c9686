//! What the attributes say: entries, and the package itself.

use super::attributes::{Reader, Step, Value};
use super::{Data, Entry, EntryKind, HpkgError, PackageInfo, damaged};

// The ids of attributes (headers/os/package/hpkg/PackageAttributes.h of Haiku, in order).
pub(super) const DIRECTORY_ENTRY: u64 = 0;
pub(super) const FILE_TYPE: u64 = 1;
pub(super) const FILE_PERMISSIONS: u64 = 2;
pub(super) const FILE_MTIME: u64 = 6;
pub(super) const DATA: u64 = 13;
pub(super) const SYMLINK_PATH: u64 = 14;
pub(super) const NAME: u64 = 15;
pub(super) const SUMMARY: u64 = 16;
pub(super) const VENDOR: u64 = 18;
pub(super) const PACKAGER: u64 = 19;
pub(super) const ARCHITECTURE: u64 = 21;
pub(super) const VERSION_MAJOR: u64 = 22;
pub(super) const VERSION_MINOR: u64 = 23;
pub(super) const VERSION_MICRO: u64 = 24;
pub(super) const VERSION_REVISION: u64 = 25;
pub(super) const VERSION_PRE_RELEASE: u64 = 36;

/// Levels of directories; no path has as many.
const DEEPEST: usize = 256;
/// The names of architectures, by number (headers/os/package/PackageArchitecture.h).
pub(super) const ARCHITECTURES: [&str; 11] = [
    "any", "x86", "x86_gcc2", "source", "x86_64", "ppc", "arm", "m68k", "sparc", "arm64", "riscv64",
];

/// An attribute whose children are being read.
enum Open {
    /// An entry: where it is in the list, and what is known of it.
    Entry { index: usize, kind: u64, target: Vec<u8>, data: Data },
    /// Anything else.
    Other,
}

/// Reads a table of contents. `heap` is the size of the unpacked heap, where contents must lie.
pub(super) fn entries(mut reader: Reader, heap: u64) -> Result<Vec<Entry>, HpkgError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut stack: Vec<Open> = Vec::new();
    loop {
        let (id, value, children) = match reader.next()? {
            Step::Attribute(id, value, children) => (id, value, children),
            Step::End => match stack.pop() {
                None => return Ok(entries),
                Some(Open::Other) => continue,
                Some(Open::Entry { index, kind, target, data }) => {
                    entries[index].kind = finished(kind, target, data)?;
                    continue;
                }
            },
        };
        if stack.len() >= DEEPEST {
            return Err(damaged("directory entry", format!("more than {DEEPEST} levels")));
        }
        let mut open = Open::Other;
        match (id, value, stack.last_mut()) {
            (DIRECTORY_ENTRY, Value::Text(name), parent) => {
                let base = match parent {
                    None => &[][..],
                    Some(Open::Entry { index, .. }) => &entries[*index].path,
                    Some(Open::Other) => {
                        return Err(damaged("directory entry", "not within one"));
                    }
                };
                let index = entries.len();
                let path = joined(base, &name)?;
                let file = EntryKind::File(Data::Inline(Vec::new()));
                entries.push(Entry { path, kind: file, permissions: 0o644, modified: 0 });
                let data = Data::Inline(Vec::new());
                open = Open::Entry { index, kind: 0, target: Vec::new(), data };
                if !children {
                    entries[index].kind = finished(0, Vec::new(), Data::Inline(Vec::new()))?;
                }
            }
            (FILE_TYPE, Value::Number(number), Some(Open::Entry { kind, index, .. })) => {
                *kind = number;
                if number != 0 {
                    entries[*index].permissions = 0o755;
                }
            }
            (FILE_PERMISSIONS, Value::Number(bits), Some(Open::Entry { index, .. })) => {
                entries[*index].permissions = u32::try_from(bits & 0o7777).unwrap_or_default();
            }
            (FILE_MTIME, Value::Number(time), Some(Open::Entry { index, .. })) => {
                entries[*index].modified = time as i64;
            }
            (DATA, Value::Raw(found), Some(Open::Entry { data, .. })) => {
                if let Data::Heap { offset, size } = found
                    && offset.checked_add(size).is_none_or(|end| end > heap)
                {
                    let problem = format!("{size} bytes at {offset} of a heap of {heap}");
                    return Err(damaged("data", problem));
                }
                *data = found;
            }
            (SYMLINK_PATH, Value::Text(path), Some(Open::Entry { target, .. })) => *target = path,
            _ => {}
        }
        if children {
            stack.push(open);
        }
    }
}

fn finished(kind: u64, target: Vec<u8>, data: Data) -> Result<EntryKind, HpkgError> {
    match kind {
        0 => Ok(EntryKind::File(data)),
        1 => Ok(EntryKind::Directory),
        2 => Ok(EntryKind::Symlink(target)),
        other => Err(damaged("file type", other.to_string())),
    }
}

fn joined(base: &[u8], name: &[u8]) -> Result<Vec<u8>, HpkgError> {
    let bad = name.is_empty() || name == b"." || name == b".." || name.contains(&b'/');
    if bad {
        let problem = format!("{:?} is no name", String::from_utf8_lossy(name));
        return Err(damaged("directory entry", problem));
    }
    Ok(if base.is_empty() { name.to_vec() } else { [base, b"/", name].concat() })
}

/// Reads what a package says of itself.
pub(super) fn info(mut reader: Reader) -> Result<PackageInfo, HpkgError> {
    let mut info = PackageInfo::default();
    let mut revision = None;
    // Whether the attributes are those of the package's own version, not of one that it requires.
    let mut stack: Vec<u64> = Vec::new();
    loop {
        let (id, value, children) = match reader.next()? {
            Step::Attribute(id, value, children) => (id, value, children),
            Step::End => match stack.pop() {
                Some(_) => continue,
                None => break,
            },
        };
        if stack.len() >= DEEPEST {
            return Err(damaged("package attribute", format!("more than {DEEPEST} levels")));
        }
        let text = match &value {
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        match (stack.as_slice(), id) {
            ([], NAME) => info.name = text,
            ([], SUMMARY) => info.summary = text,
            ([], VENDOR) => info.vendor = text,
            ([], PACKAGER) => info.packager = text,
            ([], ARCHITECTURE) => {
                if let Value::Number(number) = value {
                    let known = usize::try_from(number).ok().and_then(|n| ARCHITECTURES.get(n));
                    info.architecture =
                        known.map_or_else(|| number.to_string(), |name| (*name).to_owned());
                }
            }
            ([], VERSION_MAJOR) => info.version = text,
            ([VERSION_MAJOR], VERSION_MINOR | VERSION_MICRO) => {
                info.version = format!("{}.{text}", info.version);
            }
            ([VERSION_MAJOR], VERSION_PRE_RELEASE) => {
                info.version = format!("{}~{text}", info.version);
            }
            ([VERSION_MAJOR], VERSION_REVISION) => {
                if let Value::Number(number) = value {
                    revision = Some(number);
                }
            }
            _ => {}
        }
        if children {
            stack.push(id);
        }
    }
    if let Some(revision) = revision {
        info.version = format!("{}-{revision}", info.version);
    }
    Ok(info)
}
