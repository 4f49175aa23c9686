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

use std::path::Path;

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Builder, EntryKind, Loader, Placer};
use crate::config::Change;
use crate::config::shell::EditError;
use crate::generator::Confidence;
use crate::plan::{Contents, Plan};

/// Parameters cannot be changed here.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// A file of the source cannot be read.
    #[error("where the kernel's parameters come from cannot be read")]
    Read(#[from] ReadError),
    /// A file cannot be edited.
    #[error("{path} cannot be edited")]
    Edit {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: EditError,
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

/// Returns where the parameters of this host come from: of all entries together, since a menu may
/// hold entries of several kinds.
///
/// # Errors
/// It cannot be told, or there is no backend for it.
pub fn sources(host: &Sysroot, boot: &Boot) -> Result<Vec<&'static dyn Source>, ParameterError> {
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
        return Err(ParameterError::Unsupported(format!("{}, which is no UTF-8", path.display())));
    };
    let changed = change(text)?;
    if changed != text {
        let after = Contents { bytes: changed.into_bytes(), mode: before.mode };
        plan.file(host, path, Some(after))?;
    }
    Ok(())
}
