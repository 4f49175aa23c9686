//! What programs of the host built from its configuration: what is on the partitions that boot
//! loaders read, and the indexes of modules.
//!
//! A program that runs twice does not make the same bytes twice: archives have times, and packers
//! threads. So an initramfs is compared by the names, modes and contents of its members, a unified
//! kernel image by its sections, and all else by its bytes.

mod difference;
mod product;

#[cfg(test)]
mod tests;

pub use difference::{Detail, Difference};
pub use product::{Contents, Member, Members, Product};

use std::collections::BTreeMap;

use host::{NodeKind, ReadError, Sysroot};
use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// Where boot loaders read from; a partition for them is mounted there, or below.
const PLACES: [&str; 2] = ["/boot", "/efi"];
/// What each boot writes itself: the environment of GRUB ("The GRUB environment block") and the seed
/// that systemd-boot hands to the kernel (bootctl(1)).
const WRITTEN_BY_BOOTS: [&str; 2] = ["grubenv", "random-seed"];
/// Where the indexes of modules are, by kernel.
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
/// How many files are looked at.
const MOST: usize = 20_000;

/// What is built on a host, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    files: BTreeMap<String, Product>,
}

/// What the same files are to the byte, by path: what nobody has touched has the same marks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    files: BTreeMap<String, Digest>,
}

impl Built {
    /// Reads what is built on a host. What of it cannot be read is kept as such.
    ///
    /// # Errors
    /// A directory is there and cannot be read.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let files = paths(host)?.into_iter();
        Ok(Self { files: files.map(|path| (path.clone(), Product::read(host, &path))).collect() })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Marks {
    /// Reads what the files of a host are.
    ///
    /// # Errors
    /// A directory is there and cannot be read.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let marked = |path: String| Some((path.clone(), product::mark(host, &path)?));
        Ok(Self { files: paths(host)?.into_iter().filter_map(marked).collect() })
    }

    /// Whether a file is in both the same.
    fn agree(&self, other: &Self, path: &str) -> bool {
        self.files.get(path) == other.files.get(path)
    }
}

/// The files, links as such.
fn paths(host: &Sysroot) -> Result<Vec<String>, ReadError> {
    let mut found = Vec::new();
    let mut ahead = PLACES.map(str::to_owned).to_vec();
    while let Some(directory) = ahead.pop() {
        for name in host.optional_names(&directory)? {
            let path = format!("{directory}/{name}");
            if WRITTEN_BY_BOOTS.contains(&name.as_str()) {
                continue;
            }
            if host.link(&path).is_ok() {
                found.push(path);
                continue;
            }
            match host.node(&path).map(|node| node.kind) {
                Ok(NodeKind::Directory) => ahead.push(path),
                Ok(NodeKind::File) => found.push(path),
                _ => {}
            }
        }
        if found.len() > MOST {
            break;
        }
    }
    if let Some(modules) = MODULES.into_iter().find(|modules| host.exists(modules)) {
        for release in host.optional_names(modules)? {
            let directory = format!("{modules}/{release}");
            let names = host.names(&directory).unwrap_or_default().into_iter();
            let indexes = names.filter(|name| name.starts_with("modules."));
            found.extend(indexes.map(|name| format!("{directory}/{name}")));
        }
    }
    found.truncate(MOST);
    Ok(found)
}
