//! Putting drivers into a Haiku volume without booting it, and taking them out again.
//!
//! A [`Plan`] is made of files and of what the volume has already; it says what goes where, and is
//! a pure function of both. [`install`] carries it out and [`remove`] takes it back, so that every
//! file that was there before is as it was. What was done is written down in the volume
//! before it is done: an install that was interrupted is taken back like any other.

mod apply;
mod paths;
mod record;
mod settings;

use std::fmt;

use bfs::{Storage, Volume};
use serde::Serialize;

use crate::driver::{ElfError, Kernel, Kind, PlaceError, Report, Step, Wanted, check, place};
use crate::hpkg::{NewContent, NewEntry};
use crate::packages::{self, PackagedAddOn, PackagesError};

pub use apply::{install, remove, serial_is_off};
pub use settings::{Setting, SettingsError};

/// What a volume has that matters to a driver.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The file of the package that the kernel is in, and the kernel's symbols.
    pub kernel: Option<(String, Kernel)>,
    /// The add-ons that packages of the volume have.
    pub packaged: Vec<PackagedAddOn>,
}

impl Target {
    /// Reads it from a volume. A volume without the package of a kernel for x86-64 is a target all
    /// the same: symbols are not checked then.
    ///
    /// # Errors
    /// The volume cannot be read, or its kernel is for 32 bits.
    pub fn read<S: Storage>(volume: &mut Volume<S>) -> Result<Self, PackagesError> {
        let kernel = match packages::kernel(volume) {
            Ok((name, bytes)) => Kernel::parse(&bytes).ok().map(|kernel| (name, kernel)),
            Err(error @ (PackagesError::Volume(_) | PackagesError::Bits32(_))) => {
                return Err(error);
            }
            Err(_) => None,
        };
        Ok(Self { kernel, packaged: packages::add_ons(volume)? })
    }
}

/// A file to install.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its name on this machine; `.so` at the end is left out in the volume.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// How to install.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// Where the driver goes: `CATEGORY/NAME`; see [`Wanted::place`].
    pub place: Option<&'a str>,
    /// Whether the boot loader loads it.
    pub boot: bool,
    /// Whether it is installed even if the kernel would not load it.
    pub force: bool,
}

/// It cannot be told how to install a file.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be looked into.
    #[error("{file}: {source}")]
    Elf {
        /// The file.
        file: String,
        /// Why.
        source: ElfError,
    },
    /// The kernel would not load the file.
    #[error("the kernel would not load {file}")]
    NotLoadable {
        /// The file.
        file: String,
        /// What is wrong with it.
        report: Box<Report>,
    },
    /// The file has no place.
    #[error("{file}: {source}")]
    Place {
        /// The file.
        file: String,
        /// Why.
        source: PlaceError,
    },
    /// One place was asked for, for several files.
    #[error("{first} and {second} cannot both have the place that was asked for")]
    OnePlace {
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// Two files have one path.
    #[error("two of the files would be /boot/{0}")]
    Twice(String),
}

/// What goes where.
#[derive(Clone, Debug)]
pub struct Plan {
    items: Vec<Item>,
    settings: Vec<(String, Setting)>,
    /// What is worth telling the user.
    pub notes: Vec<String>,
}

/// Something that gets a path of the volume.
#[derive(Clone, Debug)]
struct Item {
    path: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    AddOn { file: String, bytes: Vec<u8> },
    Link(String),
    Text(String),
}

impl Plan {
    /// Tells what goes where.
    ///
    /// # Errors
    /// A file is none that the kernel loads, or has no place.
    pub fn new(files: &[File<'_>], how: How<'_>, target: &Target) -> Result<Self, PlanError> {
        let mut checked = Vec::new();
        for file in files {
            let kernel = target.kernel.as_ref().map(|(_, kernel)| kernel);
            let mut report = check(file.bytes, kernel, None)
                .map_err(|source| PlanError::Elf { file: file.name.to_owned(), source })?;
            report.compare(&target.packaged);
            if !report.is_loadable() && !how.force {
                let report = Box::new(report);
                return Err(PlanError::NotLoadable { file: file.name.to_owned(), report });
            }
            checked.push((file, report));
        }
        let mut in_kernel = checked.iter().filter(|(_, report)| report.kind.is_kernel());
        if how.place.is_some()
            && let (Some((first, _)), Some((second, _))) = (in_kernel.next(), in_kernel.next())
        {
            let (first, second) = (first.name.to_owned(), second.name.to_owned());
            return Err(PlanError::OnePlace { first, second });
        }
        let mut this = Self { items: Vec::new(), settings: Vec::new(), notes: Vec::new() };
        let accelerant = checked.iter().any(|(_, report)| report.kind == Kind::Accelerant);
        for (file, report) in &checked {
            let wanted = Wanted {
                // Only a driver of the kernel has a place to choose.
                place: how.place.filter(|_| report.kind.is_kernel()),
                // Beside an accelerant, it is the other half of a graphics driver.
                category: accelerant.then_some("graphics"),
                boot: how.boot && report.kind.is_kernel(),
            };
            this.note_halves(file, report, &checked, &target.packaged);
            let name = file.name.strip_suffix(".so").unwrap_or(file.name);
            let steps = place(report, name, wanted, &target.packaged)
                .map_err(|source| PlanError::Place { file: file.name.to_owned(), source })?;
            for step in steps {
                this.add(file, step)?;
            }
        }
        Ok(this)
    }

    /// A graphics driver has two halves: tells if one is missing.
    fn note_halves(
        &mut self,
        file: &File<'_>,
        report: &Report,
        files: &[(&File<'_>, Report)],
        packaged: &[PackagedAddOn],
    ) {
        let given = |name: &str| {
            files.iter().any(|(file, _)| file.name.strip_suffix(".so").unwrap_or(file.name) == name)
        };
        let there = |name: &str| {
            let path = format!("add-ons/accelerants/{name}");
            packaged.iter().any(|entry| entry.path == path)
        };
        for name in &report.accelerants {
            if !given(name) && !there(name) {
                self.notes.push(format!(
                    "{} names the accelerant `{name}`, which is neither given nor in a package",
                    file.name
                ));
            }
        }
        let name = file.name.strip_suffix(".so").unwrap_or(file.name);
        let named =
            |(_, report): &(&File<'_>, Report)| report.accelerants.iter().any(|a| a == name);
        if report.kind == Kind::Accelerant && !files.iter().any(named) {
            self.notes.push(format!(
                "{} is one half of a graphics driver; no file given here names it as its accelerant",
                file.name
            ));
        }
    }

    fn add(&mut self, file: &File<'_>, step: Step) -> Result<(), PlanError> {
        let (path, content) = match step {
            Step::AddOn { path } => {
                let (file, bytes) = (file.name.to_owned(), file.bytes.to_vec());
                (path, Content::AddOn { file, bytes })
            }
            Step::Link { path, target } => (path, Content::Link(target)),
            Step::Text { path, content } => (path, Content::Text(content)),
            Step::Setting { path, setting } => {
                let setting = (path, setting);
                if !self.settings.contains(&setting) {
                    self.settings.push(setting);
                }
                return Ok(());
            }
        };
        if self.items.iter().any(|item| item.path == path) {
            return Err(PlanError::Twice(path));
        }
        self.items.push(Item { path, content });
        Ok(())
    }

    /// The links, each with what it leads to; paths are from the root of the volume.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items.iter().filter_map(|item| match &item.content {
            Content::Link(target) => Some((item.path.as_str(), target.as_str())),
            _ => None,
        })
    }

    /// The same as files of a package, which Haiku mounts with `system/packages`. Settings are no
    /// part of one.
    pub fn package(&self) -> Vec<NewEntry> {
        let place = |path: &str| {
            let own = path.strip_prefix("home/config/non-packaged/").map(str::to_owned);
            // Jobs of packages are in another place (src/servers/launch/LaunchDaemon.cpp).
            let job = path.strip_prefix("system/settings/launch/");
            own.or_else(|| job.map(|job| format!("data/launch/{job}")))
        };
        let entries = self.items.iter().filter_map(|item| {
            let content = match &item.content {
                Content::AddOn { bytes, .. } => {
                    NewContent::File { bytes: bytes.clone(), executable: true }
                }
                Content::Text(text) => {
                    NewContent::File { bytes: text.clone().into_bytes(), executable: false }
                }
                Content::Link(target) => NewContent::Symlink(target.clone()),
            };
            Some(NewEntry { path: place(&item.path)?, content })
        });
        entries.collect()
    }

    /// The paths of the add-ons in the volume, from its root, each after the file's name on this
    /// machine.
    pub fn add_ons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items.iter().filter_map(|item| match &item.content {
            Content::AddOn { file, .. } => Some((file.as_str(), item.path.as_str())),
            _ => None,
        })
    }
}

/// Something that was done to a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// An add-on is there.
    AddOn {
        /// The file that it comes from.
        file: String,
        /// Its path.
        path: String,
    },
    /// A link is there.
    Link {
        /// Its path.
        path: String,
        /// What it leads to.
        target: String,
    },
    /// A small file is there.
    Text {
        /// Its path.
        path: String,
    },
    /// A file of a person was put aside; it comes back when the driver goes.
    PutAside {
        /// Its path.
        path: String,
    },
    /// A settings file has what it needs.
    Settings {
        /// Its path.
        path: String,
        /// What was added.
        settings: Vec<Setting>,
    },
    /// Something is gone.
    Removed {
        /// Its path.
        path: String,
    },
    /// Something is as it was before.
    Restored {
        /// Its path.
        path: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddOn { file, path } => write!(f, "{file} -> /boot/{path}"),
            Self::Link { path, target } => write!(f, "link /boot/{path} -> {target}"),
            Self::Text { path } => write!(f, "file /boot/{path}"),
            Self::PutAside { path } => write!(f, "put aside /boot/{path}, until it is removed"),
            Self::Settings { path, settings } => {
                for (index, setting) in settings.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    match setting {
                        Setting::Line(line) => write!(f, "{separator}line `{line}`")?,
                        Setting::Blocked { package, entry } => {
                            write!(f, "{separator}blocked `{entry}` of the package {package}")?;
                        }
                    }
                    write!(f, " in /boot/{path}")?;
                }
                Ok(())
            }
            Self::Removed { path } => write!(f, "removed /boot/{path}"),
            Self::Restored { path } => write!(f, "restored /boot/{path}"),
        }
    }
}

/// A volume cannot be changed as a plan says, or back.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The volume cannot be read or written.
    #[error(transparent)]
    Volume(#[from] bfs::Error),
    /// A settings file cannot be used.
    #[error("/boot/{path} cannot be changed: {source}")]
    Settings {
        /// Its path.
        path: String,
        /// Why.
        source: SettingsError,
    },
    /// Something that should be a settings file is none.
    #[error("/boot/{0} is no settings file")]
    NoSettings(String),
    /// Something is in the way.
    #[error("/boot/{0} is a directory, where a file would go")]
    Directory(String),
    /// What was written down cannot be read.
    #[error("/boot/{path}, where kireji wrote down what it did, cannot be read: {problem}")]
    Record {
        /// Its path.
        path: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No such driver was installed.
    #[error("no driver `{0}` was installed by kireji")]
    NotInstalled(String),
}

#[cfg(test)]
mod tests;
