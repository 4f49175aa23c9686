//! The rescue card: the keys and words that boot this machine once without what is reserved, to be
//! read on a telephone beside it.
//!
//! The keys are those of the boot loaders' own manuals: GRUB's ("GRUB only offers to edit"),
//! systemd-boot(7), "Using rEFInd", Limine's USAGE.md, syslinux.txt.

use std::fmt::Write;

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Entry, EntryKind, Loader};
use crate::config::{entry, words};

/// What the hook looks for.
const WORD: &str = "kireji.off";

/// Returns the card of a host.
///
/// # Errors
/// What its boot loader is told cannot be read.
pub fn card(host: &Sysroot, boot: &Boot) -> Result<String, ReadError> {
    let mut text = "If this machine does not come up as it should, boot it once\n\
                    without the reserved cards:\n\n"
        .to_owned();
    let steps = match boot.loader.agreed() {
        Some(Loader::Grub) => grub(host)?,
        Some(Loader::SystemdBoot) => systemd_boot(host, boot)?,
        Some(Loader::Refind) => vec![
            "Switch it on. rEFInd shows its menu.".to_owned(),
            "Move to the system. Press F2 or Insert.".to_owned(),
            "Move to the first line. Press F2 or Insert once more.".to_owned(),
            format!("At the end of the line type a space and {WORD}"),
            "Press Enter.".to_owned(),
        ],
        Some(Loader::Limine) => vec![
            "Switch it on. Limine shows its menu.".to_owned(),
            "Move to the system. Press E.".to_owned(),
            format!("At the end of the line `cmdline:` type a space and {WORD}"),
            "Press F10.".to_owned(),
        ],
        Some(Loader::Extlinux) => vec![
            "Switch it on. Hold Shift until `boot:` shows.".to_owned(),
            format!("Type the name of the entry, a space and {WORD}"),
            "Press Enter. Tab shows the names.".to_owned(),
        ],
        Some(Loader::Firmware) | None => vec![
            "Start it from a USB stick with Linux: nothing was found\n   here that lets the command \
             line be edited."
                .to_owned(),
        ],
    };
    for (index, step) in steps.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}. {step}", index + 1);
    }
    if boot.entries.iter().any(Entry::is_rescue) {
        text.push_str("\nThe entry with `rescue` in its name has no reservation at all.\n");
    }
    text.push_str(
        "\nOnce it is up, as root:\n   kireji undo        takes the last change back\n   \
         kireji verify      says what is so\n\n\
         From a USB stick, mount this system's partitions, enter them\n\
         with chroot, and run `kireji undo` there.\n",
    );
    Ok(text)
}

fn grub(host: &Sysroot) -> Result<Vec<String>, ReadError> {
    let is_uefi = host.exists("/sys/firmware/efi");
    let key = if is_uefi { "Tap Esc" } else { "Hold Shift" };
    let mut steps = vec![
        format!("Switch it on. {key} until GRUB's menu shows."),
        "Move to the system. Press E.".to_owned(),
    ];
    for menu in ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"] {
        if host.optional_text(menu)?.is_some_and(|text| text.contains("password")) {
            steps.push("Give the name and password that GRUB asks for.".to_owned());
        }
    }
    steps.extend([
        "Move to the line that begins with `linux`. Press End.".to_owned(),
        format!("Type a space and {WORD}"),
        "Press Ctrl-X.".to_owned(),
    ]);
    Ok(steps)
}

fn systemd_boot(host: &Sysroot, boot: &Boot) -> Result<Vec<String>, ReadError> {
    let mut steps = vec!["Switch it on. Hold Space until the menu shows.".to_owned()];
    let mut has_editor = true;
    for partition in ["/boot", "/efi", "/boot/efi"] {
        let text = host.optional_text(format!("{partition}/loader/loader.conf"))?;
        let value = text.as_deref().and_then(|text| entry::values(text, "editor").pop());
        has_editor &= !matches!(value, Some("no" | "0" | "false" | "off"));
    }
    let is_uki = boot.entries.iter().any(|entry| entry.kind == EntryKind::Uki);
    // The stub takes no other command line than its own under Secure Boot (systemd-stub(7)).
    let is_fixed = is_uki && crate::risk::secure_boot(host).known() == Some(&true);
    if !has_editor || is_fixed {
        let why = if is_fixed { "Secure Boot" } else { "loader.conf" };
        steps.push(format!("{why} forbids to edit entries: choose an older one."));
        steps.push("If there is none, start from a USB stick with Linux.".to_owned());
        return Ok(steps);
    }
    steps.extend([
        "Move to the system. Press E.".to_owned(),
        format!("Press End, type a space and {WORD}"),
        "Press Enter.".to_owned(),
    ]);
    Ok(steps)
}

/// Whether the running system was started so.
///
/// # Errors
/// The command line cannot be read.
pub fn is_off(host: &Sysroot) -> Result<bool, ReadError> {
    let line = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    Ok(words::split(&line).contains(&WORD))
}
