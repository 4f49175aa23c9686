//! Images without what they hold: every member by its name, and the contents of those alone that
//! were kept. An initramfs image holds keys, and is too large to be given to others.
//!
//! What is written is an image like any other, and is read like one.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use host::Sysroot;

use super::{Image, Kind, Member, Uki, UkiError};

/// The sections of text that are kept of a unified kernel image.
const TEXTS: [&str; 3] = [".osrel", ".cmdline", ".uname"];
/// Headers of a PE file of 64 bits: where that of the format begins, how long its parts are, and
/// how its sections are aligned (Microsoft's PE format, "File Headers" and "Section Table").
const PE_OFFSET: usize = 0x80;
const COFF_HEADER: usize = 24;
const OPTIONAL_HEADER: usize = 112;
const SECTION_HEADER: usize = 40;
const ALIGNMENT: usize = 0x200;

/// What becomes of the names and contents of an image.
pub trait Shown {
    /// The path by which a member, or the target of a link, is shown.
    fn path(&self, path: &Path) -> PathBuf;
    /// What is shown of the contents of a member.
    fn contents(&self, path: &Path, bytes: &[u8]) -> Vec<u8>;
}

/// What may be shown of a kernel's image, unified or not: its member list and what `keep` says.
///
/// # Errors
/// It is neither, or damaged.
pub fn skeleton(
    host: &Sysroot,
    path: &Path,
    keep: impl Fn(&Member) -> bool,
    shown: &impl Shown,
) -> Result<Vec<u8>, UkiError> {
    let uki = match Uki::open(host, path) {
        Ok(uki) => uki,
        Err(UkiError::NotPe { .. }) => {
            let image = Image::open(host, path, keep)
                .map_err(|source| UkiError::Initramfs { path: path.to_owned(), source })?;
            return Ok(image.skeleton(shown));
        }
        Err(error) => return Err(error),
    };
    let mut sections = Vec::new();
    for name in TEXTS {
        if let Some(text) = uki.text(host, name)? {
            // As its files are: `.cmdline` is what `/etc/kernel/cmdline` is.
            let file = Path::new("/etc/kernel").join(name.trim_start_matches('.'));
            sections.push((name, shown.contents(&file, text.as_bytes())));
        }
    }
    match uki.initramfs(host, keep) {
        Ok(image) => sections.push((".initrd", image.skeleton(shown))),
        Err(UkiError::NoSection { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(unified(&sections))
}

impl Image {
    /// Returns an image of the same members, part by part, with the contents of those that were
    /// kept.
    pub fn skeleton(&self, shown: &impl Shown) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in 0..self.parts.len() {
            let of_part = self.members.iter().enumerate();
            for (index, member) in of_part.filter(|(_, member)| member.part == part) {
                let contents = match (self.contents.get(&index), member.kind) {
                    (None, _) => Vec::new(),
                    (Some(target), Kind::Link) => {
                        let target = Path::new(std::ffi::OsStr::from_bytes(target));
                        shown.path(target).into_os_string().into_encoded_bytes()
                    }
                    (Some(contents), _) => shown.contents(&member.path, contents),
                };
                let path = shown.path(&member.path);
                write(&mut bytes, path.as_os_str().as_bytes(), Some(member), &contents);
            }
            write(&mut bytes, super::member::TRAILER, None, &[]);
        }
        bytes
    }
}

/// Writes one member of an archive, or its trailer.
fn write(bytes: &mut Vec<u8>, name: &[u8], member: Option<&Member>, contents: &[u8]) {
    let kind = member.map_or(0, |member| match member.kind {
        Kind::File => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::Link => 0o120_000,
        Kind::Other => 0o020_000,
    });
    let [inode, major, minor] = member.map_or([0; 3], |member| member.inode);
    let links = member.map_or(1, |member| member.links);
    // What was read was shorter than four gibibytes, and what is shown of it is no longer.
    let length = |bytes: &[u8], more: u32| {
        u32::try_from(bytes.len()).unwrap_or_default().saturating_add(more)
    };
    bytes.extend_from_slice(b"070701");
    for field in [
        inode,
        kind | member.map_or(0, |member| member.mode),
        0,
        0,
        links,
        0,
        length(contents, 0),
        major,
        minor,
        0,
        0,
        length(name, 1),
        0,
    ] {
        bytes.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    bytes.extend_from_slice(name);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Returns a PE file of these sections, which a reader of unified kernel images takes for one. It
/// cannot be started.
fn unified(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let table = PE_OFFSET + COFF_HEADER + OPTIONAL_HEADER;
    let mut at = (table + sections.len() * SECTION_HEADER).next_multiple_of(ALIGNMENT);
    let mut bytes = vec![0; at];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &number(PE_OFFSET));
    put(PE_OFFSET, b"PE\0\0");
    // For x86-64, which says nothing of the kernel that is not here; an executable image.
    put(PE_OFFSET + 4, &[0x64, 0x86]);
    put(PE_OFFSET + 6, &number(sections.len())[..2]);
    put(PE_OFFSET + 20, &number(OPTIONAL_HEADER)[..2]);
    put(PE_OFFSET + 22, &[0x22, 0x00]);
    put(PE_OFFSET + COFF_HEADER, &[0x0b, 0x02]);
    for (index, (name, contents)) in sections.iter().enumerate() {
        let header = table + index * SECTION_HEADER;
        put(header, &name.as_bytes()[..name.len().min(8)]);
        put(header + 8, &number(contents.len()));
        put(header + 12, &number(at));
        put(header + 16, &number(contents.len().next_multiple_of(ALIGNMENT)));
        put(header + 20, &number(at));
        at += contents.len().next_multiple_of(ALIGNMENT);
    }
    for (_, contents) in sections {
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    bytes
}
