//! Kinds of add-ons, told by what they export.

use std::fmt;

use serde::Serialize;

use super::elf::File;

/// Modules of one file that are listed.
const MOST_MODULES: u64 = 64;

/// What an add-on is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A driver of the old interface: it publishes names below `/dev`.
    Legacy,
    /// A driver of the device manager.
    Driver,
    /// A driver of a bus.
    Bus,
    /// A bus manager.
    BusManager,
    /// A part of the network stack.
    Network,
    /// A file system.
    FileSystem,
    /// Another module of the kernel.
    Module,
    /// The half of a graphics driver that `app_server` loads.
    Accelerant,
    /// An add-on of the media server.
    Media,
    /// It exports none of the interfaces that are known.
    Unknown,
}

impl Kind {
    pub(super) fn of(file: &File<'_>) -> Self {
        let has = |name: &str| file.symbol(name.as_bytes()).is_some();
        if has("get_accelerant_hook") {
            return Self::Accelerant;
        }
        if has("make_media_addon") {
            return Self::Media;
        }
        if has("publish_devices") {
            return Self::Legacy;
        }
        if !has("modules") {
            return Self::Unknown;
        }
        let names = module_names(file);
        let begins = |with: &str| names.iter().any(|name| name.starts_with(with));
        match () {
            () if begins("drivers/") => Self::Driver,
            () if begins("busses/") => Self::Bus,
            () if begins("bus_managers/") => Self::BusManager,
            () if begins("network/") => Self::Network,
            () if begins("file_systems/") => Self::FileSystem,
            () => Self::Module,
        }
    }

    /// Whether the kernel is to load it.
    pub fn is_kernel(self) -> bool {
        !matches!(self, Self::Accelerant | Self::Media)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "a legacy driver",
            Self::Driver => "a new-style driver",
            Self::Bus => "a bus driver",
            Self::BusManager => "a bus manager",
            Self::Network => "a part of the network stack",
            Self::FileSystem => "a file system",
            Self::Module => "a kernel module",
            Self::Accelerant => "an accelerant",
            Self::Media => "a media add-on",
            Self::Unknown => "an add-on without a known interface",
        })
    }
}

/// The names in the array `modules`: pointers to structures whose first field is the name
/// (headers/os/drivers/module.h, module_info).
pub(super) fn module_names(file: &File<'_>) -> Vec<String> {
    let Some(array) = file.symbol(b"modules") else { return Vec::new() };
    let pointers =
        (0..MOST_MODULES).map_while(|index| file.pointer(array.address.checked_add(index * 8)?));
    pointers
        .filter_map(|module| file.text(file.pointer(module)?))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// The modules that a file asks for: those of the array `module_dependencies`, pairs of a name and
/// a place for the pointer (headers/os/drivers/module.h, module_dependency), and bus managers,
/// which legacy drivers ask for by name.
pub(super) fn uses(file: &File<'_>) -> Vec<String> {
    let mut found = file.texts("bus_managers/", "");
    // What follows the manager's name is `vN`, or the name of one of its own modules.
    found.retain(|name| name.rsplit('/').next().is_some_and(is_version));
    if let Some(array) = file.symbol(b"module_dependencies") {
        let names = (0..MOST_MODULES).map_while(|index| {
            let name = file.pointer(array.address.checked_add(index * 16)?)?;
            file.text(name)
        });
        for name in names.map(|name| String::from_utf8_lossy(name).into_owned()) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// Whether the last part of a module's name is a version: `v1`.
fn is_version(leaf: &str) -> bool {
    let digits = leaf.strip_prefix('v').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
