//! dracut, the generator of Fedora, openSUSE, Void, and of Ubuntu since 25.10.
//!
//! The hooks of the point `pre-udev` are sourced before udev is started (dracut-pre-udev.service has
//! `Before=systemd-udevd.service`; without systemd, init.sh does so). Modules are taken from
//! `/usr/lib/dracut/modules.d` alone.

use std::path::{Path, PathBuf};

use host::Sysroot;

use super::{Confidence, Generator, hook_program};
use crate::boot::{Boot, Builder, Entry, EntryKind, Kernel};
use crate::image::Image;
use crate::plan::{Command, Contents};

const SETUP: &str = "/usr/lib/dracut/modules.d/50kireji/module-setup.sh";
const SCRIPT: &str = "/usr/lib/dracut/modules.d/50kireji/kireji.sh";
/// Where the hooks of the point are in an image: `inst_hook` put them below `lib/dracut` up to
/// dracut 105, and below `var/lib/dracut` since.
const HOOKS: [&str; 3] =
    ["var/lib/dracut/hooks/pre-udev", "usr/lib/dracut/hooks/pre-udev", "lib/dracut/hooks/pre-udev"];
const NAME: &str = "00-kireji.sh";

/// dracut.
#[derive(Debug)]
pub(super) struct Dracut;

impl Generator for Dracut {
    fn builder(&self) -> Builder {
        Builder::Dracut
    }

    fn confidence(&self) -> Confidence {
        Confidence::Lab
    }

    fn files(&self) -> Vec<(&'static str, Contents)> {
        vec![(SETUP, Contents::program(include_str!("dracut.sh"))), (SCRIPT, hook_program(""))]
    }

    /// Builds each image where it is: what `--regenerate-all` writes to is not the same file on all
    /// distributions.
    fn rebuild(&self, _: &Sysroot, boot: &Boot) -> Result<Vec<Command>, String> {
        let uki = |kernel: &Kernel| {
            let is_it = |entry: &&Entry| entry.kind == EntryKind::Uki && entry.boots(kernel);
            boot.entries.iter().find(is_it).map(|entry| entry.source.clone())
        };
        let command = |kernel: &Kernel| {
            let words = match (&kernel.image, uki(kernel)) {
                (Some(image), _) => vec!["--force".into(), image.clone()],
                (None, Some(image)) => vec!["--force".into(), "--uefi".into(), image],
                (None, None) => {
                    return Err(format!(
                        "the initramfs of kernel {} was not found",
                        kernel.release
                    ));
                }
            };
            let words = words.iter().map(|word| word.to_string_lossy().into_owned());
            let words = ["dracut".to_owned()].into_iter().chain(words);
            Ok(Command::new(words.chain([kernel.release.clone()])))
        };
        boot.kernels.iter().map(command).collect()
    }

    fn hook(&self, image: &Image) -> Result<String, String> {
        let place = HOOKS.iter().find(|hooks| image.find(format!("{hooks}/{NAME}")).is_some());
        let Some(place) = place else {
            return Err(format!("there is no {NAME} among the hooks before udev"));
        };
        let path = PathBuf::from(format!("{place}/{NAME}"));
        // The hooks of a point are sourced by name.
        let before = image.below(place).into_iter().find(|other| *other < path.as_path());
        if image.contents(&path) != Some(&self.files()[1].1.bytes[..]) {
            return Err(format!("{} is another one", path.display()));
        }
        match before {
            Some(other) => Ok(format!("{}, after {}", path.display(), other.display())),
            None => Ok(format!("{}, the first before udev", path.display())),
        }
    }

    fn needs(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| name == NAME)
    }
}
