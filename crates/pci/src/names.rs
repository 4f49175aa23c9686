//! Names of vendors, devices, subsystems and classes, from the `pci.ids` database.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use ::host::Sysroot;
use serde::Serialize;

use crate::{Class, Function, Host, Ids};

/// Where distributions and `update-pciids` put the database.
pub const DATABASES: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/var/lib/pciutils/pci.ids"];
/// The database has 1.4 MB; what is much larger is something else.
const MOST: u64 = 16 << 20;
/// The longest name in the database has about 120 characters.
const LONGEST: usize = 200;
/// Origin, licence and how to refresh it: `data/README.md`.
const EMBEDDED: &[u8] = include_bytes!("../data/pci.ids.zst");

/// Where names come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's own database.
    File(PathBuf),
    /// The copy inside this program.
    Embedded,
}

/// The names of the functions of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    source: Source,
    vendors: BTreeMap<u16, String>,
    devices: BTreeMap<Ids, String>,
    subsystems: BTreeMap<(Ids, Ids), String>,
    classes: BTreeMap<u8, String>,
    sub_classes: BTreeMap<u16, String>,
}

/// What one function is called; `None` where the database does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FunctionNames {
    /// Who made the chip.
    pub vendor: Option<String>,
    /// The chip.
    pub device: Option<String>,
    /// Who made the board.
    pub subsystem_vendor: Option<String>,
    /// The board.
    pub subsystem: Option<String>,
    /// What it is for: its sub-class, or else its class.
    pub class: Option<String>,
}

impl Names {
    /// Looks up all names that `functions` need, in one pass over the host's database, or over the
    /// copy in this program where the host has none that can be read.
    pub fn read(host: &Sysroot, functions: &Host) -> Self {
        let wanted = Wanted::of(functions.functions());
        for path in DATABASES {
            if let Ok(text) = host.read_limited(path, MOST) {
                return Self::find(&text, &wanted, Source::File(path.into()));
            }
        }
        Self::find(&embedded(), &wanted, Source::Embedded)
    }

    /// Returns where the names come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns what a function is called.
    pub fn of(&self, function: &Function) -> FunctionNames {
        let subsystem = function.subsystem.and_then(|subsystem| {
            let listed = self.subsystems.get(&(function.ids, subsystem));
            // A board that has the ids of its chip is the chip, as lspci has it.
            listed.or_else(|| {
                (subsystem == function.ids).then(|| self.devices.get(&function.ids)).flatten()
            })
        });
        FunctionNames {
            vendor: self.vendor(function.ids.vendor).map(str::to_owned),
            device: self.devices.get(&function.ids).cloned(),
            subsystem_vendor: function
                .subsystem
                .and_then(|ids| self.vendor(ids.vendor))
                .map(str::to_owned),
            subsystem: subsystem.cloned(),
            class: self.class(function.class).map(str::to_owned),
        }
    }

    /// Returns a vendor's name, if a function of the host has its id.
    pub fn vendor(&self, id: u16) -> Option<&str> {
        self.vendors.get(&id).map(String::as_str)
    }

    /// Returns the name of a class that a function of the host has: of its sub-class, or else of
    /// its base class.
    pub fn class(&self, class: Class) -> Option<&str> {
        let name =
            self.sub_classes.get(&class.number()).or_else(|| self.classes.get(&class.base()));
        name.map(String::as_str)
    }

    /// Returns a database that holds just these names.
    pub fn database(&self) -> String {
        let mut text = String::new();
        for (vendor, name) in &self.vendors {
            text += &format!("{vendor:04x}  {name}\n");
            let first = Ids { vendor: *vendor, device: 0 };
            let last = Ids { vendor: *vendor, device: u16::MAX };
            for (ids, name) in self.devices.range(first..=last) {
                text += &format!("\t{:04x}  {name}\n", ids.device);
                let of_device = self.subsystems.iter().filter(|((device, _), _)| device == ids);
                for ((_, subsystem), name) in of_device {
                    text +=
                        &format!("\t\t{:04x} {:04x}  {name}\n", subsystem.vendor, subsystem.device);
                }
            }
        }
        for (class, name) in &self.classes {
            text += &format!("C {class:02x}  {name}\n");
            let of_class =
                self.sub_classes.iter().filter(|(sub, _)| sub.to_be_bytes()[0] == *class);
            for (sub, name) in of_class {
                text += &format!("\t{:02x}  {name}\n", sub.to_be_bytes()[1]);
            }
        }
        text
    }

    fn find(text: &[u8], wanted: &Wanted, source: Source) -> Self {
        let mut names = Self {
            source,
            vendors: BTreeMap::new(),
            devices: BTreeMap::new(),
            subsystems: BTreeMap::new(),
            classes: BTreeMap::new(),
            sub_classes: BTreeMap::new(),
        };
        let mut within = Within::Nothing;
        for line in text.split(|byte| *byte == b'\n') {
            names.take(line, wanted, &mut within);
        }
        names
    }

    /// Takes one line, whose depth is its number of tabs: vendor, device and subsystem, or class
    /// and sub-class (the syntax is described in the database itself).
    fn take(&mut self, line: &[u8], wanted: &Wanted, within: &mut Within) {
        let depth = line.iter().take_while(|byte| **byte == b'\t').count();
        let entry = &line[depth..];
        match (depth, *within) {
            (_, _) if entry.is_empty() || entry[0] == b'#' => {}
            (0, _) => {
                *within = Within::Nothing;
                if let Some(class) = entry.strip_prefix(b"C ") {
                    let Some((id, name)) = split(class, 2) else { return };
                    let Ok(base) = u8::try_from(id) else { return };
                    if wanted.classes.contains(&base) {
                        self.classes.entry(base).or_insert_with(|| tidy(name));
                        *within = Within::Class(base);
                    }
                } else if let Some((vendor, name)) = split(entry, 4)
                    && wanted.vendors.contains(&vendor)
                {
                    self.vendors.entry(vendor).or_insert_with(|| tidy(name));
                    *within = Within::Vendor(vendor);
                }
            }
            (1, Within::Class(base)) => {
                let Some((sub, name)) = split(entry, 2) else { return };
                let number = u16::from(base) << 8 | sub;
                if wanted.sub_classes.contains(&number) {
                    self.sub_classes.entry(number).or_insert_with(|| tidy(name));
                }
            }
            (1, Within::Vendor(vendor) | Within::Device(Ids { vendor, .. })) => {
                *within = Within::Vendor(vendor);
                let Some((device, name)) = split(entry, 4) else { return };
                let ids = Ids { vendor, device };
                if wanted.devices.contains(&ids) {
                    self.devices.entry(ids).or_insert_with(|| tidy(name));
                    *within = Within::Device(ids);
                }
            }
            (2, Within::Device(ids)) => {
                let Some((vendor, rest)) = split(entry, 4) else { return };
                let Some((device, name)) = split(rest, 4) else { return };
                let subsystem = Ids { vendor, device };
                if wanted.subsystems.contains(&(ids, subsystem)) {
                    self.subsystems.entry((ids, subsystem)).or_insert_with(|| tidy(name));
                }
            }
            _ => {}
        }
    }
}

/// Whose entries follow.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    Vendor(u16),
    Device(Ids),
    Class(u8),
}

/// What is looked for.
#[derive(Default)]
struct Wanted {
    vendors: BTreeSet<u16>,
    devices: BTreeSet<Ids>,
    subsystems: BTreeSet<(Ids, Ids)>,
    classes: BTreeSet<u8>,
    sub_classes: BTreeSet<u16>,
}

impl Wanted {
    fn of<'a>(functions: impl Iterator<Item = &'a Function>) -> Self {
        let mut wanted = Self::default();
        for function in functions {
            wanted.vendors.insert(function.ids.vendor);
            wanted.devices.insert(function.ids);
            if let Some(subsystem) = function.subsystem {
                wanted.vendors.insert(subsystem.vendor);
                wanted.subsystems.insert((function.ids, subsystem));
            }
            wanted.classes.insert(function.class.base());
            wanted.sub_classes.insert(function.class.number());
        }
        wanted
    }
}

/// Splits `digits` hexadecimal digits from what follows them after white space.
fn split(entry: &[u8], digits: usize) -> Option<(u16, &[u8])> {
    let (number, rest) = entry.split_at_checked(digits)?;
    let mut id: u16 = 0;
    for byte in number {
        id = id << 4 | u16::try_from(char::from(*byte).to_digit(16)?).ok()?;
    }
    let name = rest.trim_ascii_start();
    (name.len() < rest.len()).then_some((id, name))
}

/// Makes a name fit to print: it may come from a captured host.
fn tidy(name: &[u8]) -> String {
    let start = &name[..name.len().min(4 * LONGEST)];
    let text = String::from_utf8_lossy(start.trim_ascii());
    text.chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

fn embedded() -> Cow<'static, [u8]> {
    let mut text = Vec::new();
    // Reading from memory what a test has read once cannot fail; without it there are no names.
    let whole =
        zstd::Decoder::new(EMBEDDED).and_then(|decoder| decoder.take(MOST).read_to_end(&mut text));
    if whole.is_ok() { Cow::Owned(text) } else { Cow::Borrowed(&[]) }
}

#[cfg(test)]
mod tests;
