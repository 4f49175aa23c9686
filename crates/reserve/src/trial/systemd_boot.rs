//! systemd-boot: `bootctl set-oneshot` names the entry of the next boot alone (bootctl(1)).
//!
//! A unified kernel image has its command line inside. An entry of type 1 can start it as an EFI
//! program with another (`efi` and `options`, Boot Loader Specification), which its stub takes
//! unless Secure Boot is on (systemd-stub(7)).

use std::path::Path;

use host::{Measured, Sysroot};

use super::{NAME, NOT_FOUND, TrialError, copied, impossible, running};
use crate::boot::{Boot, Entry, EntryKind};
use crate::config::Change;
use crate::plan::{Command, Contents, Plan};
use crate::risk;

pub(super) fn plan(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), TrialError> {
    let file = format!("{NAME}.conf");
    let (path, text) = if let Some(entry) = running(boot, EntryKind::Bls) {
        let text = host.optional_text(&entry.source)?.unwrap_or_default();
        let title = format!("{} (trial)", entry.title);
        (entry.source.with_file_name(&file), copied(&text, &title, change))
    } else if let Some(entry) = running(boot, EntryKind::Uki) {
        let (partition, below) = placed(entry)?;
        starts_with_options(host, entry)?;
        let options = change.apply(&entry.options);
        let title = &entry.title;
        let text = format!("title {title} (trial)\nefi {below}\noptions {options}\n");
        (partition.join("loader/entries").join(&file), text)
    } else {
        return impossible(NOT_FOUND);
    };
    plan.file(host, path, Some(Contents::text(text)))?;
    let command = Command::new(["bootctl".to_owned(), "set-oneshot".into(), file]);
    plan.command(command.inverse(["bootctl", "set-oneshot", ""]));
    Ok(())
}

/// The partition that an image is on, and its path there.
fn placed(entry: &Entry) -> Result<(&Path, String), TrialError> {
    // The specification has such images in this directory alone.
    let directory = "/EFI/Linux";
    let name = entry.source.file_name().unwrap_or_default().to_string_lossy();
    let Some(partition) = entry.source.ancestors().nth(3) else { return impossible(NOT_FOUND) };
    Ok((partition, format!("{directory}/{name}")))
}

/// Sees that an image takes another command line than its own, and will be there.
fn starts_with_options(host: &Sysroot, entry: &Entry) -> Result<(), TrialError> {
    let name = entry.source.display();
    match risk::secure_boot(host) {
        Measured::Known(false) => {}
        Measured::Known(true) => {
            return impossible(format!(
                "under Secure Boot {name} takes no other command line than its own"
            ));
        }
        Measured::Unmeasured { unmeasured } => {
            return impossible(format!(
                "whether {name} takes another command line is unmeasured: {unmeasured}"
            ));
        }
    }
    if is_counted(&entry.source) {
        return impossible(format!("the tries of {name} are counted, which renames it"));
    }
    Ok(())
}

/// Whether systemd-boot counts how often it tried an image: `+LEFT` or `+LEFT-DONE` ends its name
/// (Automatic Boot Assessment).
fn is_counted(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some((_, count)) = stem.rsplit_once('+') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (left, done) = count.split_once('-').unwrap_or((count, "0"));
    is_number(left) && is_number(done)
}
