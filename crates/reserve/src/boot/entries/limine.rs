//! Limine's menu: entries begin with `/`, and options are `key: value` (CONFIG.md of Limine 8 and
//! later).

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use super::{Entry, EntryKind, on_host};

/// Where Limine's configuration can be on a host, the first that is there counting.
pub(crate) const CONFIGURATIONS: [&str; 8] = [
    "/boot/limine.conf",
    "/boot/limine/limine.conf",
    "/boot/EFI/limine/limine.conf",
    "/boot/EFI/BOOT/limine.conf",
    "/efi/limine.conf",
    "/efi/EFI/limine/limine.conf",
    "/boot/efi/limine.conf",
    "/boot/efi/EFI/limine/limine.conf",
];

pub(super) fn read(host: &Sysroot) -> Result<Vec<Entry>, ReadError> {
    for path in CONFIGURATIONS {
        if let Some(text) = super::optional(host, path)? {
            return Ok(entries(host, path, &text));
        }
    }
    Ok(Vec::new())
}

fn entries(host: &Sysroot, source: &str, text: &str) -> Vec<Entry> {
    let partition =
        ["/boot/efi", "/efi", "/boot"].into_iter().find(|mount| source.starts_with(mount));
    let file = |value: &str| on_host(host, partition.unwrap_or("/boot"), below(value));
    let mut found: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('/') {
            found.push(Entry {
                kind: EntryKind::Limine,
                title: line.trim_start_matches(['/', '+']).trim().to_owned(),
                source: Path::new(source).to_owned(),
                kernel: PathBuf::new(),
                images: Vec::new(),
                options: String::new(),
                release: None,
            });
        }
        let (Some(entry), Some((key, value))) = (found.last_mut(), option(line)) else { continue };
        match key {
            "kernel_path" | "path" => entry.kernel = file(value),
            "module_path" => entry.images.push(file(value)),
            "cmdline" | "kernel_cmdline" => entry.options = value.to_owned(),
            _ => {}
        }
    }
    // What only holds other entries boots nothing.
    found.retain(|entry| !entry.kernel.as_os_str().is_empty());
    found
}

/// The key and the value of a line.
pub(crate) fn option(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', '/']) {
        return None;
    }
    let (key, value) = line.split_once(':')?;
    Some((key.trim(), value.trim()))
}

/// A path without the volume that it is on, `boot():/`, and without its checksum, `#…`.
fn below(value: &str) -> &str {
    let path = value.split_once("):").map_or(value, |(_, path)| path);
    path.split('#').next().unwrap_or(path)
}
