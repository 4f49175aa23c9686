//! Systems whose image is not the administrator's to build, or takes no hook: what a person has to
//! tell them.
//!
//! No hook of ours gets into their initramfs, so a card is named by its ids, those of the subsystem
//! included (drivers/vfio/pci/vfio_pci.c, parameter `ids`). That takes every card just like it, so
//! where another one would stay behind there is no way.

use host::Sysroot;
use pci::{Address, Host};

use crate::boot::{Boot, Builder};
use crate::goal::Goal;
use crate::reservation::{Identity, Reserved};

/// A system that is told by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// NixOS: by its configuration.
    NixOs,
    /// One with rpm-ostree: by its own command.
    RpmOstree,
    /// One whose images booster builds: it runs no hooks (booster's manual, "configuration").
    Booster,
    /// One whose images mkinitfs builds, whose init runs none either (mkinitfs, initramfs-init).
    Mkinitfs,
}

/// Which system it is, if it is one; `/etc/NIXOS` marks the one, and `/run/ostree-booted` the other
/// (nixos/modules/system/etc/etc-activation.nix; ostree-prepare-root), and images their builder.
pub fn told(host: &Sysroot, boot: &Boot) -> Option<Told> {
    if host.exists("/etc/NIXOS") {
        return Some(Told::NixOs);
    }
    if host.exists("/run/ostree-booted") {
        return Some(Told::RpmOstree);
    }
    match boot.builder.agreed()? {
        Builder::Booster => Some(Told::Booster),
        Builder::Mkinitfs => Some(Told::Mkinitfs),
        _ => None,
    }
}

/// A card cannot be named by its ids: another function has the same, and would be taken as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reserved} can only be named by its ids here, and {twin} has the same")]
pub struct TwinError {
    /// What shall be reserved.
    pub reserved: Address,
    /// The other.
    pub twin: Address,
}

/// Returns what a person has to do for a goal.
///
/// # Errors
/// A card cannot be told from another one that stays.
pub fn instructions(told: Told, host: &Host, goal: &Goal) -> Result<String, TwinError> {
    let reserved = &goal.reservations.functions;
    for one in reserved {
        let is_twin = |function: &&pci::Function| {
            Identity::of(function) == one.identity
                && !reserved.iter().any(|other| other.address == function.address)
        };
        if let Some(twin) = host.functions().find(is_twin) {
            return Err(TwinError { reserved: one.address, twin: twin.address });
        }
    }
    let mut ids: Vec<_> = reserved.iter().map(ids).collect();
    ids.dedup();
    let mut words = goal.parameters.add.clone();
    if !ids.is_empty() {
        words.push(format!("vfio-pci.ids={}", ids.join(",")));
    }
    Ok(match told {
        Told::NixOs => nixos(&words),
        Told::RpmOstree => {
            // Without a hook, the module itself has to come before the card's driver.
            words.extend((!ids.is_empty()).then(|| "rd.driver.pre=vfio-pci".to_owned()));
            rpm_ostree(&words, &goal.parameters.remove)
        }
        Told::Booster => booster(&ids, &goal.parameters.add),
        Told::Mkinitfs => mkinitfs(&ids, &goal.parameters.add),
    })
}

fn ids(reserved: &Reserved) -> String {
    let Identity { ids, subsystem, .. } = &reserved.identity;
    match (subsystem.vendor, subsystem.device) {
        (0, 0) => ids.to_string(),
        (vendor, device) => format!("{ids}:{vendor:04x}:{device:04x}"),
    }
}

fn booster(ids: &[String], words: &[String]) -> String {
    format!(
        "# booster is known by hearsay alone. In /etc/modprobe.d/vfio.conf:\n\
         options vfio-pci ids={}\n\
         # In /etc/booster.yaml, before other drivers:\n\
         modules_force_load: vfio_pci,vfio,vfio_iommu_type1\n\
         # Then run this{}\n\
         /usr/lib/booster/regenerate_images\n",
        ids.join(","),
        on_command_line(words, ":")
    )
}

fn mkinitfs(ids: &[String], words: &[String]) -> String {
    format!(
        "# mkinitfs is known by hearsay alone. In /etc/modprobe.d/vfio.conf:\n\
         options vfio-pci ids={}\n\
         # In /etc/mkinitfs/features.d/vfio.modules:\n\
         kernel/drivers/vfio/*\n\
         # Add `vfio` to `features` in /etc/mkinitfs/mkinitfs.conf, and to the kernel's parameter\n\
         # `modules=` the module vfio-pci, before other drivers{}\n\
         # Then run this:\n\
         mkinitfs\n",
        ids.join(","),
        on_command_line(words, ".")
    )
}

/// What goes on the command line besides, at the end of a sentence.
fn on_command_line(words: &[String], end: &str) -> String {
    match words {
        [] => end.to_owned(),
        words => format!(", with `{}` on the kernel's command line{end}", words.join(" ")),
    }
}

fn nixos(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!(
        "# Add this to the configuration, then run `nixos-rebuild boot`.\n\
         {{\n  \
         boot.initrd.kernelModules = [ \"vfio_pci\" \"vfio_iommu_type1\" ];\n  \
         boot.kernelParams = [ {} ];\n}}\n",
        words.join(" ")
    )
}

fn rpm_ostree(words: &[String], remove: &[String]) -> String {
    let add = words.iter().map(|word| format!(" --append-if-missing={word}"));
    let remove = remove.iter().map(|word| format!(" --delete-if-present={word}"));
    let options: String = add.chain(remove).collect();
    format!(
        "# Run this: it makes a new deployment, and `rpm-ostree rollback` goes back.\n\
         rpm-ostree kargs{options}\n"
    )
}
