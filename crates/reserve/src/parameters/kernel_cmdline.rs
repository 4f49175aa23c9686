//! `/etc/kernel/cmdline`: the whole command line of every kernel, for whatever makes entries or
//! unified kernel images from it.

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::Boot;
use crate::config::{Change, lines, words};
use crate::generator::Confidence;
use crate::plan::{Command, Contents, Plan};

pub(super) const FILE: &str = "/etc/kernel/cmdline";
/// What is taken where the person has no file of their own.
const OF_VENDOR: &str = "/usr/lib/kernel/cmdline";
/// Files that mkinitcpio puts together (mkinitcpio, `--uki` without `--cmdline`).
const PARTS: &str = "/etc/cmdline.d";
/// Ours among them.
const PART: &str = "/etc/cmdline.d/kireji.conf";

macro_rules! sources {
    ($($(#[doc = $doc:literal])+ $type:ident, $name:literal, $confidence:ident, $plan:ident;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            pub(super) struct $type;

            impl Source for $type {
                fn name(&self) -> &'static str {
                    $name
                }

                fn confidence(&self) -> Confidence {
                    Confidence::$confidence
                }

                fn plan(
                    &self,
                    host: &Sysroot,
                    _: &Boot,
                    change: &Change,
                    plan: &mut Plan,
                ) -> Result<bool, ParameterError> {
                    $plan(host, change, plan)
                }
            }
        )+
    };
}

sources! {
    /// Entries or unified images that kernel-install makes (kernel-install(8)).
    KernelInstall, "kernel-install with /etc/kernel/cmdline", Lab, whole;
    /// Unified images that mkinitcpio makes.
    MkinitcpioUki, "unified kernel images of mkinitcpio", Source, parts;
    /// Entries that sdbootutil makes (sdbootutil, create_boot_options).
    Sdbootutil, "sdbootutil with /etc/kernel/cmdline", Source, with_entries;
    /// Entries that proxmox-boot-tool makes (proxmox-boot/zz-proxmox-boot).
    Proxmox, "proxmox-boot-tool with /etc/kernel/cmdline", Source, whole;
}

fn with_entries(host: &Sysroot, change: &Change, plan: &mut Plan) -> Result<bool, ParameterError> {
    let is_changed = whole(host, change, plan)?;
    if is_changed {
        plan.command(Command::new(["sdbootutil", "update-all-entries"]));
    }
    Ok(is_changed)
}

/// Files of which each adds its words need not be edited; but words that go stand in one of them.
fn parts(host: &Sysroot, change: &Change, plan: &mut Plan) -> Result<bool, ParameterError> {
    if !host.exists(PARTS) {
        return whole(host, change, plan);
    }
    let before = plan.files.len();
    let remove = Change::remove(change.remove.iter().cloned());
    for name in host.optional_names(PARTS)? {
        let path = Path::new(PARTS).join(name);
        if path != Path::new(PART) && path.extension().is_some_and(|kind| kind == "conf") {
            super::edit(host, &path, plan, |text| Ok(lines::apply(text, &remove)))?;
        }
    }
    super::edit(host, Path::new(FILE), plan, |text| Ok(lines::apply(text, &remove)))?;
    let words = (!change.add.is_empty()).then(|| change.add.join(" ") + "\n");
    plan.file(host, PART, words.map(Contents::text))?;
    Ok(plan.files.len() > before)
}

/// Changes the file, which is made where it is not there; returns whether it changes.
pub(super) fn whole(
    host: &Sysroot,
    change: &Change,
    plan: &mut Plan,
) -> Result<bool, ParameterError> {
    let before = plan.files.len();
    if plan.contents(host, FILE)?.is_some() {
        super::edit(host, Path::new(FILE), plan, |text| Ok(lines::apply(text, change)))?;
    } else {
        let present = present(host)?;
        let wanted = lines::apply(&present, change);
        if wanted != present {
            plan.file(host, FILE, Some(Contents::text(wanted)))?;
        }
    }
    Ok(plan.files.len() > before)
}

/// The command line that is taken as long as there is no file: the vendor's, or else that of the
/// running system without what its boot loader added (90-loaderentry.install).
fn present(host: &Sysroot) -> Result<String, ParameterError> {
    if let Some(text) = host.optional_text(OF_VENDOR)? {
        return Ok(text + "\n");
    }
    let running = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    let of_loader = ["BOOT_IMAGE=", "initrd=", "systemd.machine_id=", "kireji."];
    let kept: Vec<_> = words::split(&running)
        .into_iter()
        .filter(|word| !of_loader.iter().any(|start| word.starts_with(start)))
        .collect();
    if kept.is_empty() {
        let what = format!("{FILE}, which is not there while /proc/cmdline is empty");
        return Err(ParameterError::Unsupported(what));
    }
    Ok(kept.join(" ") + "\n")
}
