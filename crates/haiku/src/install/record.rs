//! What was done to a volume, as it is written down in it.

use bfs::{Storage, Volume};
use serde::{Deserialize, Serialize};

use super::{InstallError, Setting, paths};

/// The directory where it is kept, with the files that were put aside.
pub(super) const DIRECTORY: &str = "home/config/settings/kireji";
const FILE: &str = "home/config/settings/kireji/installed";
/// Bytes of the record; a driver has less than one KiB.
const LARGEST: u64 = 1 << 20;

/// All that was done.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    schema: u32,
    /// Directories that were made, each after the one above it.
    pub(super) directories: Vec<String>,
    /// Settings files that were changed.
    pub(super) files: Vec<SettingsFile>,
    /// What was installed together.
    pub(super) installed: Vec<Installed>,
}

/// A settings file, as it was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsFile {
    pub(super) path: String,
    /// When it changed last, in the volume's own units; none if it was not there.
    pub(super) modified: Option<i64>,
}

/// What was installed together, and goes together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Installed {
    pub(super) items: Vec<Item>,
    pub(super) settings: Vec<(String, Setting)>,
}

/// Something that has a path.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) path: String,
    /// Whether it is a driver or another add-on, by whose name all goes.
    pub(super) add_on: bool,
    /// Where what was there before is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) aside: Option<String>,
}

impl Record {
    /// Reads the record of a volume; an empty one if there is none.
    pub(super) fn read<S: Storage>(volume: &mut Volume<S>) -> Result<Self, InstallError> {
        let Some(node) = paths::at(volume, FILE)? else { return Ok(Self::default()) };
        let bad = |problem: String| InstallError::Record { path: FILE, problem };
        let bytes = paths::read(volume, node, LARGEST)?;
        let bytes = bytes.ok_or_else(|| bad("it is no small file".to_owned()))?;
        let record: Self =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if record.schema != 1 {
            return Err(bad(format!("it is of version {}", record.schema)));
        }
        let all = record.installed.iter().flat_map(|installed| &installed.items);
        let aside = all.clone().filter_map(|item| item.aside.as_deref());
        // What somebody else wrote there must not lead out of the volume's own tree.
        let mut known = all.map(|item| item.path.as_str()).chain(aside);
        match known.find(|path| path.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            Some(path) => Err(bad(format!("`{path}` is no path"))),
            None => Ok(record),
        }
    }

    /// Writes it down, or removes it if nothing is left.
    pub(super) fn write<S: Storage>(&mut self, volume: &mut Volume<S>) -> Result<(), InstallError> {
        if self.installed.is_empty() && self.files.is_empty() {
            paths::remove(volume, FILE)?;
            return Ok(());
        }
        self.schema = 1;
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| InstallError::Record { path: FILE, problem: error.to_string() })?;
        paths::write(volume, FILE, 0o644, &text)?;
        Ok(())
    }

    /// Notes the directories above a path that will be made.
    pub(super) fn note_directories<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
        path: &str,
    ) -> Result<(), InstallError> {
        for directory in paths::missing(volume, path)? {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
        Ok(())
    }

    /// Notes the directories of the record itself.
    pub(super) fn note_own<S: Storage>(
        &mut self,
        volume: &mut Volume<S>,
    ) -> Result<(), InstallError> {
        self.note_directories(volume, FILE)
    }

    /// A path to put something aside, that nothing has. `taken` are more of those that are taken.
    pub(super) fn free_place<'a>(&'a self, taken: impl Iterator<Item = &'a str>) -> String {
        let all = self.installed.iter().flat_map(|installed| &installed.items);
        let taken: Vec<&str> = all.filter_map(|item| item.aside.as_deref()).chain(taken).collect();
        let free = (1..=taken.len() + 1)
            .map(|number| format!("{DIRECTORY}/aside-{number}"))
            .find(|path| !taken.contains(&path.as_str()));
        free.unwrap_or_else(|| format!("{DIRECTORY}/aside"))
    }
}
