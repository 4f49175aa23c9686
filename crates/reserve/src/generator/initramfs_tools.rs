//! initramfs-tools of Debian and what is made of it.
//!
//! Its `init` runs the scripts of `init-top` before it loads any module that it was told to load;
//! the script `udev` among them starts udev and waits until it has found all devices (init and
//! scripts/init-top/udev of initramfs-tools and udev). Which script comes first is settled when the
//! image is built, and written to `scripts/init-top/ORDER` (cache_run_scripts of mkinitramfs): by
//! what each asks for, and else by name.

use std::path::Path;

use host::Sysroot;

use super::{Confidence, Generator, hook_program};
use crate::boot::{Boot, Builder};
use crate::image::Image;
use crate::plan::{Command, Contents};

const SCRIPT: &str = "/etc/initramfs-tools/scripts/init-top/00-kireji";
const HOOK: &str = "/etc/initramfs-tools/hooks/kireji";
const ORDER: &str = "scripts/init-top/ORDER";
/// Where the script is in an image.
const IN_IMAGE: &str = "/scripts/init-top/00-kireji";

/// initramfs-tools.
#[derive(Debug)]
pub(super) struct InitramfsTools;

impl Generator for InitramfsTools {
    fn builder(&self) -> Builder {
        Builder::InitramfsTools
    }

    fn confidence(&self) -> Confidence {
        Confidence::Lab
    }

    fn files(&self) -> Vec<(&'static str, Contents)> {
        let asked = "case ${1-} in\nprereqs) exit 0 ;;\nesac\n\n";
        vec![
            (SCRIPT, hook_program(asked)),
            (HOOK, Contents::program(include_str!("initramfs_tools.sh"))),
        ]
    }

    fn rebuild(&self, _: &Sysroot, _: &Boot) -> Result<Vec<Command>, String> {
        Ok(vec![Command::new(["update-initramfs", "-u", "-k", "all"])])
    }

    fn hook(&self, image: &Image) -> Result<String, String> {
        let order = image.contents(ORDER).ok_or_else(|| format!("there is no {ORDER}"))?;
        let order = String::from_utf8_lossy(order);
        // Each script has a line that calls it and one that reads what it left.
        let calls = order.lines().filter_map(|line| line.split_whitespace().next());
        let place = |script: &str| calls.clone().position(|call| call == script);
        let ours = place(IN_IMAGE).ok_or_else(|| format!("{ORDER} does not call {IN_IMAGE}"))?;
        if place("/scripts/init-top/udev").is_some_and(|udev| udev < ours) {
            return Err(format!("{ORDER} calls udev before {IN_IMAGE}"));
        }
        match image.find(IN_IMAGE) {
            Some(member) if member.mode & 0o111 != 0 => {}
            _ => return Err(format!("there is no program {IN_IMAGE}")),
        }
        if image.contents(IN_IMAGE) != Some(&self.files()[0].1.bytes[..]) {
            return Err(format!("{IN_IMAGE} is another one"));
        }
        Ok(format!("{IN_IMAGE}, before udev in {ORDER}"))
    }

    fn needs(&self, path: &Path) -> bool {
        path == Path::new(ORDER) || path == Path::new(&IN_IMAGE[1..])
    }
}
