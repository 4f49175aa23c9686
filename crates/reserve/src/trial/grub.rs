//! GRUB: `grub-reboot` leaves the name of an entry in GRUB's environment. GRUB takes it out again
//! before it starts the entry, and cannot where it does not write to the file system ("The GRUB
//! environment block").

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use super::{NAME, NOT_FOUND, TrialError, copied, impossible, running};
use crate::boot::{Boot, EntryKind};
use crate::config::Change;
use crate::config::shell::Script;
use crate::plan::{Command, Contents, Plan};

/// Where GRUB is, by the name that the distribution gives it.
const DIRECTORIES: [&str; 2] = ["/boot/grub2", "/boot/grub"];
/// Its menu.
const MENU: &str = "grub.cfg";
/// A file that the menu reads as it is started, if it is there (41_custom of grub-mkconfig).
const CUSTOM: &str = "custom.cfg";
/// What the kernel calls the file systems that GRUB writes its environment to.
const WRITABLE: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "vfat", "msdos"];

/// The files of a trial.
pub(super) fn ours(host: &Sysroot) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        let path = Path::new(directory).join(CUSTOM);
        if host.optional_text(&path)?.is_some_and(|text| text.contains(NAME)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A menu of grub-mkconfig: the copy is in a file that the menu reads.
pub(super) fn menu(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), TrialError> {
    let Some(found) = running(boot, EntryKind::Grub) else { return impossible(NOT_FOUND) };
    let directory = found.source.parent().unwrap_or(Path::new("/"));
    let menu = forgetful(host, directory)?;
    if !menu.contains("/custom.cfg") {
        return impossible(format!("{} does not read {CUSTOM}", found.source.display()));
    }
    let path = directory.join(CUSTOM);
    if host.optional_text(&path)?.is_some_and(|text| !text.contains(NAME)) {
        return impossible(format!("{} is yours", path.display()));
    }
    let Some(body) = body(&menu, &found.title) else {
        return impossible(format!("the entry `{}` was not understood", found.title));
    };
    let line = |line: &str| match line.trim_start().starts_with("linux") {
        true => format!("{}\n", change.apply(line)),
        false => format!("{line}\n"),
    };
    let body: String = body.lines().map(line).collect();
    let text = format!("menuentry '{NAME}' --id {NAME} {{\n{body}}}\n");
    plan.file(host, &path, Some(Contents::text(text)))?;
    plan.command(once(directory));
    Ok(())
}

/// Entries of the Boot Loader Specification: the copy is a file beside them.
pub(super) fn bls(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), TrialError> {
    let Some(found) = running(boot, EntryKind::Bls) else { return impossible(NOT_FOUND) };
    let Some(directory) =
        DIRECTORIES.map(Path::new).into_iter().find(|directory| host.exists(directory.join(MENU)))
    else {
        return impossible("GRUB has no menu below /boot");
    };
    forgetful(host, directory)?;
    // GRUB sorts entries by their file names as if they were versions, the newest first, and may
    // start the first of them by default (grub-core/commands/blsuki.c, blsuki_add_entry). Named as
    // version 0 of the same machine, the copy comes last, as the rescue entry does.
    let stem = found.source.file_stem().unwrap_or_default().to_string_lossy();
    let release = found.release.as_deref().unwrap_or_default();
    let Some(machine) = stem.strip_suffix(release).filter(|_| !release.is_empty()) else {
        return impossible(format!("{} is not named after its kernel", found.source.display()));
    };
    let name = format!("{machine}0-{NAME}.conf");
    let text = host.optional_text(&found.source)?.unwrap_or_default();
    // It is started by its title: of the file's name, which is its identity, GRUB takes a digit at the
    // front for the number of an entry (grub-core/normal/menu.c, get_entry_number).
    let text = copied(&text, NAME, change);
    plan.file(host, found.source.with_file_name(name), Some(Contents::text(text)))?;
    plan.command(once(directory));
    Ok(())
}

/// Reads the menu in a directory of GRUB, and sees that GRUB forgets an entry once it has started it.
fn forgetful(host: &Sysroot, directory: &Path) -> Result<String, TrialError> {
    if let Some(why) = environment_is_fixed(host, directory)? {
        return impossible(why);
    }
    let defaults = host.optional_text("/etc/default/grub")?.unwrap_or_default();
    if Script::parse(&defaults).value("GRUB_SAVEDEFAULT").as_deref() == Some("true") {
        return impossible("GRUB_SAVEDEFAULT would make the trial the default");
    }
    let path = directory.join(MENU);
    let menu = host.read_limited(&path, 8 << 20)?;
    let menu = String::from_utf8_lossy(&menu).into_owned();
    if !menu.contains("next_entry") {
        return impossible(format!("{} is not one of grub-mkconfig", path.display()));
    }
    Ok(menu)
}

/// The command by which GRUB starts an entry once, and its inverse.
fn once(directory: &Path) -> Command {
    let name = if directory.ends_with("grub2") { "grub2" } else { "grub" };
    let command = Command::new([format!("{name}-reboot"), NAME.to_owned()]);
    command.inverse([format!("{name}-editenv"), "-".into(), "unset".into(), "next_entry".into()])
}

/// The lines of a menu's entry, between its braces.
fn body<'a>(menu: &'a str, title: &str) -> Option<&'a str> {
    let start = menu.find(&format!("menuentry '{title}'"))?;
    let (_, rest) = menu[start..].split_once("{\n")?;
    // The entry ends where a brace stands alone.
    let end = rest
        .match_indices('\n')
        .find(|(at, _)| rest[at + 1..].trim_start_matches([' ', '\t']).starts_with('}'))?;
    Some(&rest[..=end.0])
}

/// Why GRUB could not write its environment where it is, as the running kernel has it mounted.
fn environment_is_fixed(host: &Sysroot, directory: &Path) -> Result<Option<String>, ReadError> {
    let mounts = host.optional_text("/proc/self/mountinfo")?.unwrap_or_default();
    // Mount point, then behind ` - ` file system and device (proc_pid_mountinfo(5)).
    let of_directory = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        directory.starts_with(point).then_some((point, right))
    });
    let Some((_, right)) = of_directory.max_by_key(|(point, _)| point.len()) else {
        return Ok(Some("what GRUB's directory is on is not seen".to_owned()));
    };
    let mut words = right.split(' ');
    let (kind, device) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_layered = device.starts_with("/dev/mapper/")
        || device.starts_with("/dev/md")
        || device.starts_with("/dev/dm-");
    Ok((!WRITABLE.contains(&kind) || is_layered).then(|| {
        format!(
            "GRUB does not write its environment to {kind} on {device}, so the trial would stay"
        )
    }))
}
