//! A trial boot: an entry that is started once, and whose command line alone makes the reservation
//! hold. A power cycle goes back to what there was.
//!
//! All entries of a kernel share one initramfs, so the hook asks the command line. systemd-boot and
//! GRUB start an entry once; no other boot loader is known to.

mod grub;
mod systemd_boot;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Entry, EntryKind, Loader};
use crate::config::{Change, entry};
use crate::plan::Plan;

/// What an entry is called that is ours.
const NAME: &str = "kireji-trial";
/// There is no trial here.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A file cannot be read.
    #[error("what a trial boot starts from cannot be read")]
    Read(#[from] ReadError),
    /// The boot loader cannot, or must not.
    #[error("no trial boot: {0}")]
    Impossible(String),
}

/// Adds to a plan that the running kernel is started once with `kireji.trial=ID`; or for no
/// trial, that the entry for it goes.
pub(crate) fn plan(
    host: &Sysroot,
    boot: &Boot,
    id: Option<&str>,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), TrialError> {
    let Some(id) = id else {
        for path in ours(host)? {
            plan.file(host, path, None)?;
        }
        return Ok(());
    };
    let change = parameters(id, change);
    match boot.loader.agreed() {
        Some(Loader::SystemdBoot) => systemd_boot::plan(host, boot, &change, plan),
        Some(Loader::Grub) if boot.grub_uses_bls(host)? => grub::bls(host, boot, &change, plan),
        Some(Loader::Grub) => grub::menu(host, boot, &change, plan),
        Some(loader) => impossible(format!("{loader} starts no entry just once")),
        None => impossible("the boot loader could not be told"),
    }
}

fn impossible<T>(why: impl Into<String>) -> Result<T, TrialError> {
    Err(TrialError::Impossible(why.into()))
}

/// The parameters of the entry for a trial: those of the goal, and what the hook asks for.
pub(crate) fn parameters(id: &str, change: &Change) -> Change {
    let add = change.add.iter().cloned().chain([format!("kireji.trial={id}")]);
    Change { remove: change.remove.clone(), ..Change::add(add) }
}

/// Whether an entry is the one for a trial.
pub(crate) fn is_entry(entry: &Entry) -> bool {
    let is_ours = |name: &str| name.ends_with(NAME);
    entry.title == NAME
        || entry.source.file_stem().and_then(|name| name.to_str()).is_some_and(is_ours)
}

/// What of a trial is there.
fn ours(host: &Sysroot) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    for partition in ["/boot", "/efi", "/boot/efi"] {
        let directory = PathBuf::from(format!("{partition}/loader/entries"));
        let names = host.optional_names(&directory)?.into_iter();
        let names = names.filter(|name| name.ends_with(&format!("{NAME}.conf")));
        found.extend(names.map(|name| directory.join(name)));
    }
    found.extend(grub::ours(host)?);
    Ok(found)
}

/// A copy of an entry of the Boot Loader Specification, with another title.
fn copied(text: &str, title: &str, change: &Change) -> String {
    let is_title = |line: &&str| line.split_whitespace().next() == Some("title");
    let rest = text.lines().filter(|line| !is_title(line));
    let lines = rest.map(|line| format!("{line}\n")).collect::<String>();
    entry::apply(&format!("title {title}\n{lines}"), change)
}

/// The entry of the running kernel of this kind, as the menu has it.
fn running(boot: &Boot, kind: EntryKind) -> Option<&Entry> {
    let kernel = boot.kernels.iter().find(|kernel| kernel.is_running);
    let is_it = |entry: &&Entry| {
        entry.kind == kind
            && !entry.is_fallback()
            && !is_entry(entry)
            && kernel.is_some_and(|kernel| entry.boots(kernel))
    };
    boot.entries.iter().find(is_it)
}

/// Why there is no trial where nothing was found to copy.
const NOT_FOUND: &str = "no entry of the running kernel was found";
