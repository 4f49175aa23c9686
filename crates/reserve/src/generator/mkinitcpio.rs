//! mkinitcpio of Arch and what is made of it, with an init of busybox or of systemd.
//!
//! Its own init runs the early hooks of all its hooks, then loads modules, and has udev look for
//! devices only in the hook of udev itself (init, hooks/udev). With the hook `systemd`, units are
//! what runs; systemd-modules-load and udev's trigger run side by side there (install/systemd), so
//! that a unit before both is needed. Which hooks are taken is the array `HOOKS`, which drop-ins
//! may change (mkinitcpio.conf(5)).

use std::path::Path;

use host::Sysroot;

use super::{Confidence, Generator};
use crate::boot::{Boot, Builder};
use crate::image::{Image, Kind};
use crate::plan::{Command, Contents};
use crate::{hook, reservation};

const INSTALL: &str = "/etc/initcpio/install/kireji";
const SCRIPT: &str = "/etc/initcpio/hooks/kireji";
const DROP_IN: &str = "/etc/mkinitcpio.conf.d/kireji.conf";
/// What is built for which kernel, a file for each package of one.
const PRESETS: &str = "/etc/mkinitcpio.d";
/// Where things are in an image.
const IN_IMAGE: &str = "hooks/kireji";
const CONFIG: &str = "config";
const SYSTEMD: &str = "usr/lib/systemd/systemd";
const UNIT: &str = "usr/lib/systemd/system/kireji.service";
const WANTED: &str = "usr/lib/systemd/system/sysinit.target.wants/kireji.service";

/// mkinitcpio.
#[derive(Debug)]
pub(super) struct Mkinitcpio;

impl Generator for Mkinitcpio {
    fn builder(&self) -> Builder {
        Builder::Mkinitcpio
    }

    fn confidence(&self) -> Confidence {
        Confidence::Source
    }

    fn files(&self) -> Vec<(&'static str, Contents)> {
        vec![
            (INSTALL, Contents::program(include_str!("mkinitcpio.sh"))),
            (SCRIPT, script()),
            (DROP_IN, Contents::text(include_str!("mkinitcpio.conf"))),
        ]
    }

    fn rebuild(&self, host: &Sysroot, _: &Boot) -> Result<Vec<Command>, String> {
        let presets = host.optional_names(PRESETS).map_err(|error| crate::in_full(&error))?;
        let presets: Vec<_> = presets.iter().filter(|name| name.ends_with(".preset")).collect();
        if presets.is_empty() {
            return Err(format!("{PRESETS} has no preset"));
        }
        for name in presets {
            let path = format!("{PRESETS}/{name}");
            let text = host.optional_text(&path).map_err(|error| crate::in_full(&error))?;
            let text = text.unwrap_or_default();
            // With a configuration that is named, drop-ins are not read (mkinitcpio, option `-c`).
            let names_one = |line: &str| {
                let (name, _) = line.split_once('=').unwrap_or_default();
                name.ends_with("_config") && !name.starts_with('#')
            };
            if text.lines().map(str::trim).any(names_one) {
                return Err(format!("{path} names a configuration of its own"));
            }
        }
        Ok(vec![Command::new(["mkinitcpio", "-P"])])
    }

    fn hook(&self, image: &Image) -> Result<String, String> {
        match image.contents(IN_IMAGE) {
            Some(found) if found == script().bytes => {}
            Some(_) => return Err(format!("{IN_IMAGE} is another one")),
            None => return Err(format!("there is no {IN_IMAGE}")),
        }
        if image.find(SYSTEMD).is_some() {
            let unit = image.contents(UNIT).ok_or_else(|| format!("there is no {UNIT}"))?;
            let unit = String::from_utf8_lossy(unit);
            if !unit.lines().any(|line| line.starts_with("Before=systemd-udevd.service")) {
                return Err(format!("{UNIT} is not before udev"));
            }
            return match image.find(WANTED) {
                Some(member) if member.kind == Kind::File => {
                    Ok(format!("{UNIT}, before systemd-udevd.service"))
                }
                _ => Err(format!("nothing starts {UNIT}")),
            };
        }
        let config = image.contents(CONFIG).ok_or_else(|| format!("there is no {CONFIG}"))?;
        let config = String::from_utf8_lossy(config);
        let early = config.lines().find_map(|line| line.strip_prefix("EARLYHOOKS="));
        let early = early.unwrap_or_default().trim_matches(['"', '\'']);
        match early.split_whitespace().any(|name| name == "kireji") {
            true => Ok(format!("{IN_IMAGE}, an early hook ({early})")),
            false => Err(format!("{IN_IMAGE} is no early hook")),
        }
    }

    fn needs(&self, path: &Path) -> bool {
        [IN_IMAGE, CONFIG, UNIT].iter().any(|needed| path == Path::new(needed))
    }
}

/// The hook: a shell of busybox reads it and calls its function.
fn script() -> Contents {
    let function = hook::FUNCTION;
    let list = reservation::PATH;
    Contents::program(format!(
        "#!/usr/bin/ash\n{function}\nrun_earlyhook() {{\n    kireji_reserve {list} ''\n}}\n"
    ))
}
