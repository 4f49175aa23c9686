//! The menu of extlinux and of U-Boot: labels, each with a kernel, an initramfs and what is
//! appended (syslinux.txt of Syslinux; doc/README.pxe of U-Boot).

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use super::{Entry, EntryKind, on_host};

/// Where the menu is.
pub(crate) const MENUS: [&str; 2] = ["/boot/extlinux.conf", "/boot/extlinux/extlinux.conf"];

pub(crate) fn read(host: &Sysroot) -> Result<Vec<Entry>, ReadError> {
    let mut found = Vec::new();
    for menu in MENUS {
        if let Some(text) = super::optional(host, menu)? {
            found.extend(labels(host, menu, &text));
        }
    }
    Ok(found)
}

fn labels(host: &Sysroot, source: &str, text: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = value.trim();
        let key = key.to_ascii_lowercase();
        if key == "label" {
            found.push(Entry {
                kind: EntryKind::Extlinux,
                title: value.to_owned(),
                source: Path::new(source).to_owned(),
                kernel: PathBuf::new(),
                images: Vec::new(),
                options: String::new(),
                release: None,
            });
        }
        let Some(entry) = found.last_mut() else { continue };
        match key.as_str() {
            "linux" | "kernel" => entry.kernel = on_host(host, "/boot", value),
            "initrd" => {
                entry.images.extend(value.split(',').map(|path| on_host(host, "/boot", path)));
            }
            "append" => entry.options = value.to_owned(),
            _ => {}
        }
    }
    found.retain(|entry| !entry.kernel.as_os_str().is_empty());
    found
}
