//! Where kernel parameters come from, one file for each source, and which are needed at all.

mod bls;
mod dracut_uki;
mod grub;
mod kernel_cmdline;
mod kernelstub;
mod limine;
mod need;
mod refind;
mod u_boot;

pub use need::needed;

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Builder, EntryKind, Loader, Placer};
use crate::config::shell::EditError;
use crate::config::{Change, words};
use crate::generator::Confidence;
use crate::plan::{Contents, FileChange, Knowledge, Plan};

/// Parameters cannot be changed here.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// A file of the source cannot be read.
    #[error("where the kernel's parameters come from cannot be read")]
    Read(#[from] ReadError),
    /// A file cannot be edited.
    #[error("{} cannot be edited", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EditError,
    },
    /// A word that shall go is in no file that was found.
    #[error("where the parameter {word} of {} comes from was not found", entry.display())]
    Untraced {
        /// The word.
        word: String,
        /// What has the entry with it.
        entry: PathBuf,
    },
    /// A file is no text.
    #[error("{} is no UTF-8, and is not edited", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// There is no backend for this source.
    #[error("the parameters of {0} are not changed by kireji yet")]
    Unsupported(String),
}

/// Where kernel parameters come from.
pub trait Source: std::fmt::Debug {
    /// What it is, for people.
    fn name(&self) -> &'static str;

    /// How well it is known that what is planned does what it should.
    fn confidence(&self) -> Confidence;

    /// Adds to a plan what changes the parameters of all kernels, present and future. Returns
    /// whether what is booted has to be built again for that.
    ///
    /// # Errors
    /// A file cannot be read or edited.
    fn plan(
        &self,
        host: &Sysroot,
        boot: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError>;
}

/// Plans that the parameters of this host change. Returns whether what is booted has to be built
/// again for that.
///
/// # Errors
/// Where they come from cannot be told, read or edited.
pub(crate) fn plan(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<bool, ParameterError> {
    let commands = plan.commands.len();
    let before = plan.files.len();
    let mut is_stale = false;
    for source in sources(host, boot)? {
        is_stale |= source.plan(host, boot, change, plan)?;
        plan.known(Knowledge::of(source.name(), source.confidence()));
    }
    let (files, commands) = (&plan.files[before..], &plan.commands[commands..]);
    for word in &change.remove {
        let has = |options: &str| words::split(options).iter().any(|one| words::is_same(one, word));
        let mut entries = boot.entries.iter().filter(|entry| !entry.is_fallback());
        if let Some(entry) = entries.find(|entry| has(&entry.options))
            && !files.iter().any(|change| takes_out(change, word))
            && !commands.iter().any(|command| command.words.contains(word))
        {
            let (word, entry) = (word.clone(), entry.source.clone());
            return Err(ParameterError::Untraced { word, entry });
        }
    }
    Ok(is_stale)
}

/// Whether a file has a word no more, or is new and says all words.
fn takes_out(change: &FileChange, word: &str) -> bool {
    let has = |contents: &Option<Contents>| {
        let bytes = contents.as_ref().map(|contents| &contents.bytes[..]).unwrap_or_default();
        // The name of a module is written in two ways.
        String::from_utf8_lossy(bytes).replace('-', "_").contains(&word.replace('-', "_"))
    };
    let is_whole = change.before.is_none() && change.path == Path::new(kernel_cmdline::FILE);
    (has(&change.before) || is_whole) && !has(&change.after)
}

/// Returns where the parameters of this host come from: of all entries together, since a menu may
/// hold entries of several kinds.
///
/// # Errors
/// It cannot be told, or there is no backend for it.
fn sources(host: &Sysroot, boot: &Boot) -> Result<Vec<&'static dyn Source>, ParameterError> {
    let unsupported = |what: &str| Err(ParameterError::Unsupported(what.to_owned()));
    match boot.placer {
        Placer::ProxmoxBootTool => return Ok(vec![&kernel_cmdline::Proxmox]),
        Placer::Kernelstub => return Ok(vec![&kernelstub::Kernelstub]),
        Placer::Sdbootutil => return Ok(vec![&kernel_cmdline::Sdbootutil]),
        Placer::LimineEntryTool => return Ok(vec![&limine::EntryTool]),
        Placer::KernelInstall | Placer::Generator => {}
    }
    let Some(loader) = boot.loader.agreed() else {
        return unsupported("a boot loader that could not be told");
    };
    match loader {
        Loader::Grub if boot.grub_uses_bls(host)? => Ok(vec![&bls::Grub]),
        Loader::Grub => Ok(vec![&grub::Grub]),
        Loader::Refind if has(boot, EntryKind::Refind) => Ok(vec![&refind::Refind]),
        Loader::Limine => Ok(vec![&limine::Limine]),
        Loader::Extlinux if u_boot::is_made(host)? => Ok(vec![&u_boot::UBootMenu]),
        // Alpine's, whose images take no hook either, and menus that were written by hand.
        Loader::Extlinux => unsupported(&loader.to_string()),
        Loader::SystemdBoot | Loader::Firmware | Loader::Refind => {
            let mut sources: Vec<&'static dyn Source> = Vec::new();
            let is_kernel_install = boot.placer == Placer::KernelInstall;
            if is_kernel_install {
                sources.push(&kernel_cmdline::KernelInstall);
            } else if has(boot, EntryKind::Uki) {
                sources.push(match boot.builder.agreed() {
                    Some(Builder::Mkinitcpio) => &kernel_cmdline::MkinitcpioUki,
                    Some(Builder::Dracut) => &dracut_uki::DracutUki,
                    _ => return unsupported("unified kernel images of an unknown maker"),
                });
            }
            if !is_kernel_install && has(boot, EntryKind::Bls) {
                sources.push(&bls::ByHand);
            }
            if sources.is_empty() {
                return unsupported("a boot loader without an entry that was found");
            }
            Ok(sources)
        }
    }
}

fn has(boot: &Boot, kind: EntryKind) -> bool {
    boot.entries.iter().any(|entry| entry.kind == kind)
}

/// Plans that a text file is edited; nothing where it is not there, or is so already.
fn edit(
    host: &Sysroot,
    path: &Path,
    plan: &mut Plan,
    change: impl FnOnce(&str) -> Result<String, ParameterError>,
) -> Result<(), ParameterError> {
    let Some(before) = plan.contents(host, path)? else { return Ok(()) };
    let Ok(text) = std::str::from_utf8(&before.bytes) else {
        return Err(ParameterError::NoText { path: path.to_owned() });
    };
    let changed = change(text)?;
    if changed != text {
        let after = Contents { bytes: changed.into_bytes(), mode: before.mode };
        plan.file(host, path, Some(after))?;
    }
    Ok(())
}
