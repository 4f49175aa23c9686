//! One file that was built.

use std::collections::BTreeMap;
use std::io::Read;

use host::Sysroot;
use serde::{Deserialize, Serialize};

use crate::image::{Digest, Hasher, Image, Kind, Limits, Uki, UkiError};

/// How long a text may be of which the words are kept, in bytes: menus are some ten thousand.
const TEXT_LIMIT: u64 = 256 << 10;
/// The sections that make a PE file an image that is built here; the kernel alone has none of them.
const OURS: [&str; 3] = [".cmdline", ".initrd", ".linux"];
/// A signature of what the other sections are once packed, which is not the same twice
/// (systemd-measure(1)).
const SIGNATURE: &str = ".pcrsig";
/// What dracut writes down of how it was called, by a package for instance (dracut.sh,
/// `build-parameter.txt`); the image is the same however it was.
const CALL: &str = "lib/dracut/build-parameter.txt";

/// A file that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The permission bits.
    pub mode: u32,
    /// The numbers of its user and of its group.
    pub owner: (u32, u32),
    /// What is in it.
    pub contents: Contents,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// Nothing: it is a symbolic link to this.
    Link(String),
    /// An initramfs.
    Image(Members),
    /// A unified kernel image.
    Unified {
        /// Its sections by name, but for those with an initramfs.
        sections: BTreeMap<String, Digest>,
        /// The others.
        images: BTreeMap<String, Members>,
    },
    /// A text that is short enough to be shown.
    Text(String),
    /// Anything else.
    Other(Digest),
    /// It could not be read, and why.
    Unread(String),
}

/// The members of an initramfs by path, as the kernel unpacks them.
pub type Members = BTreeMap<String, Member>;

/// One member of an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// The permission bits.
    pub mode: u32,
    /// The digest of a file, or the target of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
}

impl Product {
    /// Reads a file of a host.
    pub(super) fn read(host: &Sysroot, path: &str) -> Self {
        let (mode, owner) =
            host.node(path).map_or((0, (0, 0)), |node| (node.mode, (node.uid, node.gid)));
        let contents = match host.link(path) {
            // What it leads to is looked at by itself.
            Ok(target) => {
                return Self { mode: 0, owner: (0, 0), contents: link(&target) };
            }
            Err(_) => contents(host, path),
        };
        Self { mode, owner, contents }
    }
}

fn link(target: &std::path::Path) -> Contents {
    Contents::Link(target.display().to_string())
}

fn contents(host: &Sysroot, path: &str) -> Contents {
    if let Ok(uki) = Uki::open(host, path)
        && uki.sections().iter().any(|section| OURS.contains(&section.name.as_str()))
    {
        return unified(host, &uki)
            .unwrap_or_else(|error| Contents::Unread(crate::in_full(&error)));
    }
    let file = match host.open_file(path) {
        Ok(file) => file,
        Err(error) => return Contents::Unread(crate::in_full(&error)),
    };
    // What is no archive is found to be none by its first bytes.
    if let Ok(image) = Image::digested(file, Limits::default())
        && !image.members().is_empty()
    {
        return Contents::Image(members(&image));
    }
    if let Some(text) = text(host, path) {
        return Contents::Text(text);
    }
    mark(host, path)
        .map_or_else(|| Contents::Unread("its bytes cannot be read".to_owned()), Contents::Other)
}

fn unified(host: &Sysroot, uki: &Uki) -> Result<Contents, UkiError> {
    let (mut sections, mut images) = (BTreeMap::new(), BTreeMap::new());
    for (index, section) in uki.sections().iter().enumerate() {
        if section.name == SIGNATURE {
            continue;
        }
        // Each profile has sections of the same names.
        let before = uki.sections()[..index].iter().filter(|one| one.name == section.name).count();
        let name = match before {
            0 => section.name.clone(),
            _ => format!("{} ({})", section.name, before + 1),
        };
        if section.name == ".initrd"
            && let Ok(image) = uki.digested(host, section)
        {
            images.insert(name, members(&image));
        } else {
            sections.insert(name, uki.digest(host, section)?);
        }
    }
    Ok(Contents::Unified { sections, images })
}

fn members(image: &Image) -> Members {
    let mut found = Members::new();
    for (member, target, digest) in image.unpacked() {
        let target = target.map(|target| target.escape_ascii().to_string());
        let contents = target.or_else(|| digest.map(Digest::to_string));
        let contents = contents.filter(|_| !member.path.ends_with(CALL));
        let path = member.path.display().to_string();
        found.insert(path, Member { kind: member.kind, mode: member.mode, contents });
    }
    found
}

fn text(host: &Sysroot, path: &str) -> Option<String> {
    if host.size(path).ok()? > TEXT_LIMIT {
        return None;
    }
    let mut bytes = Vec::new();
    host.open_file(path).ok()?.take(TEXT_LIMIT).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The digest of a file's bytes, or of what a link says; `None` where it cannot be read.
pub(super) fn mark(host: &Sysroot, path: &str) -> Option<Digest> {
    let mut hasher = Hasher::default();
    match host.link(path) {
        Ok(target) => hasher.read(target.into_os_string().as_encoded_bytes()),
        Err(_) => hasher.read(host.open_file(path).ok()?),
    }
    .ok()?;
    Some(hasher.digest())
}
