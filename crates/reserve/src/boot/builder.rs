//! Which initramfs generator is at work here: the one that built what is booted, not one that is
//! merely installed.

use std::path::Path;

use host::Sysroot;
use serde::Serialize;

use super::{Clue, Entry, EntryKind, Kernel, Verdict};
use crate::image::{Image, Uki};
use crate::in_full;

/// A program that builds initramfs images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// initramfs-tools of Debian.
    InitramfsTools,
    /// dracut.
    Dracut,
    /// mkinitcpio of Arch.
    Mkinitcpio,
    /// booster of Arch.
    Booster,
    /// mkinitfs of Alpine.
    Mkinitfs,
}

impl std::fmt::Display for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::InitramfsTools => "initramfs-tools",
            Self::Dracut => "dracut",
            Self::Mkinitcpio => "mkinitcpio",
            Self::Booster => "booster",
            Self::Mkinitfs => "mkinitfs",
        })
    }
}

/// What each leaves in its images: initramfs-tools its order of scripts (mkinitramfs, cache_run_scripts),
/// dracut its directory (dracut.sh), mkinitcpio its configuration and functions (mkinitcpio, and
/// init_functions of its base hook), booster its own configuration, mkinitfs the program that looks
/// for the root (features.d/base.files).
const MARKS: [(&str, Builder); 7] = [
    ("scripts/init-top/ORDER", Builder::InitramfsTools),
    ("usr/lib/dracut", Builder::Dracut),
    ("lib/dracut", Builder::Dracut),
    ("buildconfig", Builder::Mkinitcpio),
    ("etc/booster.init.yaml", Builder::Booster),
    ("sbin/nlplug-findfs", Builder::Mkinitfs),
    ("usr/sbin/nlplug-findfs", Builder::Mkinitfs),
];

/// Tells who built an image, with what shows it.
pub fn of_image(image: &Image) -> Option<(Builder, &'static str)> {
    // A link leads to what is there, and nothing to a directory that is no member.
    let has = |mark: &str| image.find(mark).is_some() || !image.below(mark).is_empty();
    MARKS.into_iter().find(|(mark, _)| has(mark)).map(|(mark, builder)| (builder, mark))
}

/// Reads what the images of all kernels, and of all entries, say of their builder.
pub(super) fn detect(host: &Sysroot, kernels: &[Kernel], entries: &[Entry]) -> Verdict<Builder> {
    let mut clues = Vec::new();
    let mut unread = Vec::new();
    let mut seen: Vec<&Path> = Vec::new();
    let of_kernels = kernels.iter().filter_map(|kernel| kernel.image.as_deref());
    let of_entries = entries.iter().filter(|entry| entry.kind != EntryKind::Uki);
    let of_entries = of_entries.flat_map(|entry| entry.images.iter().map(|path| path.as_path()));
    let mut add = |path: &Path, read: Result<Image, String>| match read {
        Ok(image) => {
            if let Some((builder, mark)) = of_image(&image) {
                clues.push(Clue::new(builder, path, format!("it has {mark}")));
            }
        }
        Err(why) => unread.push(format!("{}: {why}", path.display())),
    };
    for path in of_kernels.chain(of_entries) {
        if !seen.contains(&path) && host.exists(path) {
            seen.push(path);
            add(path, Image::open(host, path, |_| false).map_err(|error| in_full(&error)));
        }
    }
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Uki) {
        let path = entry.source.as_path();
        let read = Uki::open(host, path).and_then(|uki| uki.initramfs(host, |_| false));
        add(path, read.map_err(|error| in_full(&error)));
    }
    let why = match &unread[..] {
        [] => "no image of an installed kernel is there".to_owned(),
        unread => unread.join("; "),
    };
    Verdict::of(clues, why)
}
