//! Entries of a menu that grub-mkconfig made.

use std::path::{Path, PathBuf};

use host::Sysroot;

use super::{Entry, EntryKind, on_host};
use crate::config::words;

/// The entries of a menu that grub-mkconfig made: what is between `menuentry` and its brace.
pub(super) fn read(host: &Sysroot, source: &Path, text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut open: Option<Entry> = None;
    for line in text.lines().map(str::trim) {
        let (command, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        match command {
            // What os-prober found is of another system (util/grub.d/30_os-prober.in).
            "menuentry" if rest.contains("'osprober-") => open = None,
            "menuentry" => {
                open = Some(Entry {
                    kind: EntryKind::Grub,
                    title: title(rest),
                    source: source.to_owned(),
                    kernel: PathBuf::new(),
                    images: Vec::new(),
                    options: String::new(),
                    release: None,
                });
            }
            "linux" | "linux16" | "linuxefi" => {
                if let Some(entry) = &mut open {
                    let (kernel, options) =
                        rest.trim_start().split_once([' ', '\t']).unwrap_or((rest, ""));
                    entry.kernel = on_host(host, "/boot", kernel);
                    entry.options = options.trim().to_owned();
                }
            }
            "initrd" | "initrd16" | "initrdefi" => {
                if let Some(entry) = &mut open {
                    let images = words::split(rest).into_iter();
                    entry.images.extend(images.map(|image| on_host(host, "/boot", image)));
                }
            }
            "}" => {
                found.extend(open.take().filter(|entry| !entry.kernel.as_os_str().is_empty()));
            }
            _ => {}
        }
    }
    found
}

/// The first word of a line of GRUB's script, without its quotes.
fn title(rest: &str) -> String {
    let rest = rest.trim_start();
    match rest.chars().next() {
        Some(quote @ ('\'' | '"')) => rest[1..].split(quote).next().unwrap_or_default().to_owned(),
        _ => rest.split_whitespace().next().unwrap_or_default().to_owned(),
    }
}
