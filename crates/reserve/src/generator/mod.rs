//! The programs that build initramfs images, one file each: what each needs on disk, how it builds
//! again, and what its images must have.

mod dracut;
mod initramfs_tools;
mod mkinitcpio;

#[cfg(test)]
mod tests;

use std::path::Path;

use host::Sysroot;
use serde::Serialize;

use crate::boot::{Boot, Builder, Kernel};
use crate::image::Image;
use crate::plan::{Command, Contents};
use crate::reservation;

/// How well it is known that a backend does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// By hearsay: nothing is applied.
    Hearsay,
    /// Read at the source.
    Source,
    /// The distribution's own program ran on what it writes.
    RealTool,
    /// A machine rebooted with it.
    Lab,
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hearsay => "known by hearsay alone",
            Self::Source => "read at the source",
            Self::RealTool => "the real program was run on it",
            Self::Lab => "a machine was rebooted with it",
        })
    }
}

/// A program that builds initramfs images.
pub trait Generator: std::fmt::Debug {
    /// Which one it is.
    fn builder(&self) -> Builder;

    /// How well it is known to do what it says.
    fn confidence(&self) -> Confidence;

    /// The files that it needs beside the list of reservations.
    fn files(&self) -> Vec<(&'static str, Contents)>;

    /// The commands that build the images of all kernels again.
    ///
    /// # Errors
    /// Why they cannot be told.
    fn rebuild(&self, host: &Sysroot, boot: &Boot) -> Result<Vec<Command>, String>;

    /// Where the hook is in an image, if it is there and runs before udev; else what is wrong.
    ///
    /// # Errors
    /// What is missing or in the wrong order.
    fn hook(&self, image: &Image) -> Result<String, String>;

    /// Whether the contents of a file of an image are needed to tell.
    fn needs(&self, path: &Path) -> bool;
}

/// Returns the backend of a builder; `None` where there is none yet.
pub fn of(builder: Builder) -> Option<&'static dyn Generator> {
    match builder {
        Builder::InitramfsTools => Some(&initramfs_tools::InitramfsTools),
        Builder::Dracut => Some(&dracut::Dracut),
        Builder::Mkinitcpio => Some(&mkinitcpio::Mkinitcpio),
        Builder::Booster | Builder::Mkinitfs => None,
    }
}

/// All backends.
pub fn all() -> [&'static dyn Generator; 3] {
    [&initramfs_tools::InitramfsTools, &dracut::Dracut, &mkinitcpio::Mkinitcpio]
}

/// The program that a hook is: the function, and its call.
fn hook_program(first: &str) -> Contents {
    let function = crate::hook::FUNCTION;
    let list = reservation::PATH;
    Contents::program(format!("#!/bin/sh\n{first}{function}\nkireji_reserve {list} ''\n"))
}

/// Whether an image has a module of a kernel, packed or not, in the directory of its release.
pub(crate) fn has_module(image: &Image, kernel: &Kernel, name: &str) -> bool {
    image.members().iter().any(|member| {
        let file = member.path.file_name().map(|name| name.to_string_lossy().replace('-', "_"));
        let named = file.is_some_and(|file| {
            file.split_once(".ko").is_some_and(|(stem, rest)| {
                stem == name && (rest.is_empty() || rest.starts_with('.'))
            })
        });
        let in_release = member
            .path
            .components()
            .any(|component| component.as_os_str() == kernel.release.as_str());
        named && in_release
    })
}
