//! Carrying a plan out, and taking it back.

use bfs::{Error, Kind, Storage, Time, Volume};

use super::record::{self, Installed, Record, SettingsFile};
use super::settings::{is_off, render, strip};
use super::{Change, Content, InstallError, Item, Plan, Setting, paths};

/// Settings files are small; what is larger is none.
const LARGEST_SETTINGS: u64 = 1 << 20;

/// Carries a plan out. What an earlier install put at the same places is replaced; what it put
/// elsewhere goes. A file of somebody else is put aside until the driver is removed.
///
/// # Errors
/// The volume or a settings file cannot be read or written. If nothing of it was installed before,
/// what was done already is taken back as far as that is possible.
///
/// It is done in a batch, and synced; what the caller does after it is in the batch too.
pub fn install<S: Storage>(
    volume: &mut Volume<S>,
    plan: &Plan,
) -> Result<Vec<Change>, InstallError> {
    volume.batch();
    let mut record = Record::read(volume)?;
    let planned = |path: &str| plan.items.iter().any(|item| item.path == path);
    let ours = |installed: &Installed| installed.items.iter().any(|item| planned(&item.path));
    let (old, kept): (Vec<_>, Vec<_>) = record.installed.drain(..).partition(ours);
    record.installed = kept;
    let is_new = old.is_empty();
    let old: Vec<_> = old.into_iter().flat_map(|installed| installed.items).collect();

    let mut items = prepare(volume, &mut record, plan, &old)?;
    let obsolete: Vec<_> = old.into_iter().filter(|item| !planned(&item.path)).collect();
    // Until they are taken back, they are part of what is installed.
    let count = items.len();
    items.extend(obsolete);
    record.installed.push(Installed { items, settings: plan.settings.clone() });
    record.note_own(volume)?;
    record.write(volume)?;

    let done = carry_out(volume, &mut record, plan, count);
    if done.is_err() && is_new {
        // The first error is the one to tell.
        drop(record.installed.pop().map(|installed| withdraw(volume, &mut record, installed)));
    }
    done
}

/// Finds what is in the way and can be put aside, and which directories are missing.
fn prepare<S: Storage>(
    volume: &mut Volume<S>,
    record: &mut Record,
    plan: &Plan,
    old: &[record::Item],
) -> Result<Vec<record::Item>, InstallError> {
    let mut items: Vec<record::Item> = Vec::new();
    for item in &plan.items {
        let path = item.path.clone();
        let add_on = matches!(item.content, Content::AddOn { .. });
        let there = paths::at(volume, &path)?;
        let kind = there.map(|node| volume.metadata(node)).transpose()?.map(|found| found.kind);
        if kind == Some(Kind::Directory) {
            return Err(InstallError::Directory(path));
        }
        let aside = match old.iter().find(|known| known.path == path) {
            Some(known) => known.aside.clone(),
            None if kind.is_some() => {
                let taken = old.iter().chain(&items).filter_map(|item| item.aside.as_deref());
                Some(record.free_place(taken))
            }
            None => None,
        };
        record.note_directories(volume, &path)?;
        items.push(record::Item { path, add_on, aside });
    }
    for (path, _) in &plan.settings {
        let node = paths::at(volume, path)?;
        let wanted: Vec<_> = wanted(record, path).chain(plan.wanted(path)).cloned().collect();
        let text = read_settings(volume, path)?;
        render(&strip(&text), &wanted)
            .map_err(|source| InstallError::Settings { path: path.clone(), source })?;
        if record.files.iter().all(|known| known.path != *path) {
            let metadata = node.map(|node| volume.metadata(node)).transpose()?;
            let modified = metadata.map(|metadata| metadata.modified.raw());
            record.files.push(SettingsFile { path: path.clone(), modified });
            record.note_directories(volume, path)?;
        }
    }
    Ok(items)
}

impl Plan {
    fn wanted(&self, path: &str) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(move |(file, _)| file == path).map(|(_, setting)| setting)
    }
}

/// What all that is installed wants in a settings file.
fn wanted<'r>(record: &'r Record, path: &str) -> impl Iterator<Item = &'r Setting> {
    let all = record.installed.iter().flat_map(|installed| &installed.settings);
    all.filter(move |(file, _)| file == path).map(|(_, setting)| setting)
}

/// Does what was written down; the first `count` items of the last install are those of the plan.
fn carry_out<S: Storage>(
    volume: &mut Volume<S>,
    record: &mut Record,
    plan: &Plan,
    count: usize,
) -> Result<Vec<Change>, InstallError> {
    let mut changes = Vec::new();
    let Some(installed) = record.installed.last_mut() else { return Ok(changes) };
    let obsolete = installed.items.split_off(count);
    for (item, known) in plan.items.iter().zip(&installed.items) {
        put_aside(volume, known, &mut changes)?;
        changes.extend(put(volume, item)?);
    }
    for item in &obsolete {
        changes.extend(take_back(volume, item)?);
    }
    rewrite_all(volume, record, &mut changes)?;
    tidy(volume, record)?;
    volume.sync()?;
    Ok(changes)
}

fn put_aside<S: Storage>(
    volume: &mut Volume<S>,
    item: &record::Item,
    changes: &mut Vec<Change>,
) -> Result<(), InstallError> {
    let Some(aside) = &item.aside else { return Ok(()) };
    if paths::at(volume, aside)?.is_none() && paths::at(volume, &item.path)?.is_some() {
        paths::rename(volume, &item.path, aside)?;
        changes.push(Change::PutAside { path: item.path.clone() });
    }
    Ok(())
}

/// Puts one thing into the volume. `None` if it is there already.
fn put<S: Storage>(volume: &mut Volume<S>, item: &Item) -> Result<Option<Change>, InstallError> {
    let path = &item.path;
    let there = paths::at(volume, path)?;
    let kind = there.map(|node| volume.metadata(node)).transpose()?.map(|found| found.kind);
    if let Content::Link(target) = &item.content {
        if let (Some(node), Some(Kind::Symlink)) = (there, kind)
            && volume.read_link(node)? == target.as_bytes()
        {
            return Ok(None);
        }
        paths::remove(volume, path)?;
        let parent = paths::make_parent(volume, path)?;
        volume.create_symlink(parent, paths::name(path).as_bytes(), target.as_bytes())?;
        return Ok(Some(Change::Link { path: path.clone(), target: target.clone() }));
    }
    if kind.is_some_and(|kind| kind != Kind::File) {
        paths::remove(volume, path)?;
    }
    Ok(Some(match &item.content {
        Content::AddOn { file, bytes } => {
            paths::write(volume, path, 0o755, bytes)?;
            Change::AddOn { file: file.clone(), path: path.clone() }
        }
        Content::Text(text) | Content::Link(text) => {
            paths::write(volume, path, 0o644, text.as_bytes())?;
            Change::Text { path: path.clone() }
        }
    }))
}

/// Takes the driver with a file of this name, and whatever was installed with it, out of the
/// volume.
///
/// # Errors
/// No such driver was installed; the volume or a settings file cannot be read or written.
///
/// It is done in a batch, and synced; what the caller does after it is in the batch too.
pub fn remove<S: Storage>(volume: &mut Volume<S>, name: &str) -> Result<Vec<Change>, InstallError> {
    volume.batch();
    let mut record = Record::read(volume)?;
    let is_it = |item: &record::Item| item.add_on && paths::name(&item.path) == name;
    let (gone, kept): (Vec<_>, Vec<_>) =
        record.installed.drain(..).partition(|installed| installed.items.iter().any(is_it));
    record.installed = kept;
    if gone.is_empty() {
        return Err(InstallError::NotInstalled(name.to_owned()));
    }
    let mut changes = Vec::new();
    for installed in gone {
        changes.extend(withdraw(volume, &mut record, installed)?);
    }
    volume.sync()?;
    Ok(changes)
}

/// Takes back what was installed together. The record has it no more.
fn withdraw<S: Storage>(
    volume: &mut Volume<S>,
    record: &mut Record,
    installed: Installed,
) -> Result<Vec<Change>, InstallError> {
    let mut changes = Vec::new();
    for item in &installed.items {
        changes.extend(take_back(volume, item)?);
    }
    rewrite_all(volume, record, &mut changes)?;
    tidy(volume, record)?;
    Ok(changes)
}

/// Takes one thing back. What is gone already is no error.
fn take_back<S: Storage>(
    volume: &mut Volume<S>,
    item: &record::Item,
) -> Result<Option<Change>, InstallError> {
    let path = item.path.clone();
    match &item.aside {
        Some(aside) if paths::at(volume, aside)?.is_some() => {
            paths::rename(volume, aside, &item.path)?;
            Ok(Some(Change::Restored { path }))
        }
        // It was not put aside yet, or is back already.
        Some(_) => Ok(None),
        None => Ok(paths::remove(volume, &item.path)?.then_some(Change::Removed { path })),
    }
}

/// Brings all settings files to what is wanted in them now.
fn rewrite_all<S: Storage>(
    volume: &mut Volume<S>,
    record: &mut Record,
    changes: &mut Vec<Change>,
) -> Result<(), InstallError> {
    let mut kept = Vec::new();
    for file in std::mem::take(&mut record.files) {
        let wanted: Vec<Setting> = wanted(record, &file.path).cloned().collect();
        changes.extend(rewrite(volume, &file, &wanted)?);
        if !wanted.is_empty() {
            kept.push(file);
        }
    }
    record.files = kept;
    Ok(())
}

fn rewrite<S: Storage>(
    volume: &mut Volume<S>,
    file: &SettingsFile,
    wanted: &[Setting],
) -> Result<Option<Change>, InstallError> {
    let path = file.path.clone();
    let failed = |source| InstallError::Settings { path: file.path.clone(), source };
    let text = read_settings(volume, &path)?;
    let before = strip(&text);
    if wanted.is_empty() {
        if before == text {
            return Ok(None);
        }
        let Some(modified) = file.modified else {
            if before.is_empty() {
                paths::remove(volume, &path)?;
                return Ok(Some(Change::Removed { path }));
            }
            paths::write(volume, &path, 0o644, before.as_bytes())?;
            return Ok(Some(Change::Restored { path }));
        };
        let node = paths::write(volume, &path, 0o644, before.as_bytes())?;
        volume.set_times(node, None, Some(Time::from_raw(modified)))?;
        return Ok(Some(Change::Restored { path }));
    }
    let after = render(&before, wanted).map_err(failed)?;
    if after == text {
        return Ok(None);
    }
    let mut settings = Vec::new();
    for setting in wanted {
        let one = std::slice::from_ref(setting);
        if !settings.contains(setting) && render(&before, one).map_err(failed)? != before {
            settings.push(setting.clone());
        }
    }
    paths::write(volume, &path, 0o644, after.as_bytes())?;
    Ok(Some(Change::Settings { path, settings }))
}

/// Whether the kernel's settings of a volume keep it from writing to the serial line
/// (src/system/kernel/debug/debug.cpp, `serial_debug_output`; the default is to write).
///
/// # Errors
/// The volume or its settings cannot be read.
pub fn serial_is_off<S: Storage>(volume: &mut Volume<S>) -> Result<bool, InstallError> {
    let text = read_settings(volume, crate::driver::KERNEL_SETTINGS)?;
    Ok(is_off(&text, "serial_debug_output"))
}

fn read_settings<S: Storage>(volume: &mut Volume<S>, path: &str) -> Result<String, InstallError> {
    let Some(node) = paths::at(volume, path)? else { return Ok(String::new()) };
    let bytes = paths::read(volume, node, LARGEST_SETTINGS)?;
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| InstallError::NoSettings(path.to_owned()))
}

/// Removes directories that were made and are empty now, and writes the record.
fn tidy<S: Storage>(volume: &mut Volume<S>, record: &mut Record) -> Result<(), InstallError> {
    record.write(volume)?;
    let before = record.directories.len();
    let mut kept = Vec::new();
    while let Some(directory) = record.directories.pop() {
        match paths::remove(volume, &directory) {
            Ok(_) => {}
            Err(Error::NotEmpty(_)) => kept.push(directory),
            Err(error) => return Err(error.into()),
        }
    }
    kept.reverse();
    record.directories = kept;
    let is_empty = record.installed.is_empty() && record.files.is_empty();
    if record.directories.len() < before && !is_empty { record.write(volume) } else { Ok(()) }
}
