//! Entries of the Boot Loader Specification, type 1, whose `options` are the command line: those
//! that GRUB reads on Fedora and RHEL, and those that a person wrote for systemd-boot.
//!
//! grubby changes the line `options` of each entry where it is (grubby-bls, update_bls_fragment),
//! and so is it done here: what changes is seen in the plan, and taken back byte for byte. What
//! kernel-install and grub2-mkconfig make the entries of later kernels from is changed as well.

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source, grub};
use crate::boot::{Boot, EntryKind};
use crate::config::{Change, entry, lines};
use crate::generator::Confidence;
use crate::plan::Plan;

/// What kernel-install takes for a new kernel's command line (20-grub.install of Fedora's grub2,
/// 90-loaderentry.install of systemd).
const KERNEL: &str = "/etc/kernel/cmdline";

/// Entries that GRUB reads by its command `blscfg`.
#[derive(Debug)]
pub(super) struct Grub;

/// Entries that no program makes again.
#[derive(Debug)]
pub(super) struct ByHand;

impl Source for Grub {
    fn name(&self) -> &'static str {
        "GRUB with entries of the Boot Loader Specification, as grubby edits them"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Lab
    }

    fn plan(
        &self,
        host: &Sysroot,
        boot: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        entries(host, boot, change, plan)?;
        super::edit(host, Path::new(KERNEL), plan, |text| Ok(lines::apply(text, change)))?;
        if host.exists(grub::DEFAULTS) {
            grub::edit(host, grub::VARIABLE, change, plan)?;
        }
        Ok(false)
    }
}

impl Source for ByHand {
    fn name(&self) -> &'static str {
        "entries of the Boot Loader Specification that were written by hand"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Source
    }

    fn plan(
        &self,
        host: &Sysroot,
        boot: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        entries(host, boot, change, plan)?;
        Ok(false)
    }
}

/// Edits every entry but those that are a way back.
fn entries(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), ParameterError> {
    let entries = boot.entries.iter().filter(|entry| entry.kind == EntryKind::Bls);
    for found in entries.filter(|entry| !entry.is_fallback()) {
        // RHEL 8 has one command line for all entries in GRUB's environment.
        if found.options.split_whitespace().any(|word| word == "$kernelopts") {
            let what =
                format!("{}, whose command line is in GRUB's environment", found.source.display());
            return Err(ParameterError::Unsupported(what));
        }
        super::edit(host, &found.source, plan, |text| Ok(entry::apply(text, change)))?;
    }
    Ok(())
}
