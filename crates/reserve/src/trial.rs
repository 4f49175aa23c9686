//! A trial boot: an entry that is started once, and whose command line alone makes the reservation
//! hold. A power cycle goes back to what there was.
//!
//! All entries of a kernel share one initramfs, so the hook asks the command line. systemd-boot
//! starts an entry once by `bootctl set-oneshot` (bootctl(1)), GRUB by `grub-reboot`, which leaves
//! the entry's name in its environment; GRUB takes the name out again before it starts the entry,
//! and cannot where it does not write to the file system ("The GRUB environment block").

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Entry, EntryKind, Loader};
use crate::config::shell::Script;
use crate::config::{Change, entry};
use crate::plan::{Command, Contents, Plan};

/// What an entry is called that is ours.
const NAME: &str = "kireji-trial";
/// A file that GRUB's menu reads as it is started, if it is there (41_custom of grub-mkconfig).
const CUSTOM: [&str; 2] = ["/boot/grub/custom.cfg", "/boot/grub2/custom.cfg"];
/// What the kernel calls the file systems that GRUB writes its environment to.
const WRITABLE: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "vfat", "msdos"];

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
        Some(Loader::SystemdBoot) => systemd_boot(host, boot, &change, plan),
        Some(Loader::Grub) if !boot.grub_uses_bls(host)? => grub(host, boot, &change, plan),
        Some(Loader::Grub) => {
            let why = "entries of the Boot Loader Specification under GRUB are not copied";
            Err(TrialError::Impossible(why.to_owned()))
        }
        Some(loader) => Err(TrialError::Impossible(format!("{loader} starts no entry just once"))),
        None => Err(TrialError::Impossible("the boot loader could not be told".to_owned())),
    }
}

/// The parameters of the entry for a trial: those of the goal, and what the hook asks for.
pub(crate) fn parameters(id: &str, change: &Change) -> Change {
    let add = change.add.iter().cloned().chain([format!("kireji.trial={id}")]);
    Change { remove: change.remove.clone(), ..Change::add(add) }
}

/// Whether an entry is the one for a trial.
pub(crate) fn is_entry(entry: &Entry) -> bool {
    entry.title == NAME || entry.source.file_stem().is_some_and(|name| name == NAME)
}

/// What of a trial is there.
fn ours(host: &Sysroot) -> Result<Vec<PathBuf>, ReadError> {
    let entries = ["/boot", "/efi", "/boot/efi"]
        .map(|partition| PathBuf::from(format!("{partition}/loader/entries/{NAME}.conf")));
    let mut found: Vec<_> = entries.into_iter().filter(|path| host.exists(path)).collect();
    for path in CUSTOM {
        if host.optional_text(path)?.is_some_and(|text| text.contains(NAME)) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The entry of the running kernel of this kind, as the menu has it.
fn running(boot: &Boot, kind: EntryKind) -> Result<&Entry, TrialError> {
    let kernel = boot.kernels.iter().find(|kernel| kernel.is_running);
    let is_it = |entry: &&Entry| {
        entry.kind == kind
            && !entry.is_fallback()
            && !is_entry(entry)
            && kernel.is_some_and(|kernel| entry.boots(kernel))
    };
    boot.entries.iter().find(is_it).ok_or_else(|| {
        TrialError::Impossible("no entry of the running kernel was found".to_owned())
    })
}

fn systemd_boot(
    host: &Sysroot,
    boot: &Boot,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), TrialError> {
    let found = running(boot, EntryKind::Bls)?;
    let text = host.optional_text(&found.source)?.unwrap_or_default();
    let lines = text.lines().map(|line| match line.split_whitespace().next() {
        Some("title") => format!("title {} (trial)", found.title),
        _ => line.to_owned(),
    });
    let text: String = lines.map(|line| line + "\n").collect();
    let path = found.source.with_file_name(format!("{NAME}.conf"));
    plan.file(host, &path, Some(Contents::text(entry::apply(&text, change))))?;
    let command =
        Command::new(["bootctl".to_owned(), "set-oneshot".into(), format!("{NAME}.conf")]);
    plan.command(command.inverse(["bootctl", "set-oneshot", ""]));
    Ok(())
}

fn grub(host: &Sysroot, boot: &Boot, change: &Change, plan: &mut Plan) -> Result<(), TrialError> {
    let impossible = |why: String| Err(TrialError::Impossible(why));
    let found = running(boot, EntryKind::Grub)?;
    let directory = found.source.parent().unwrap_or(Path::new("/"));
    if let Some(why) = environment_is_fixed(host, directory)? {
        return impossible(why);
    }
    let defaults = host.optional_text("/etc/default/grub")?.unwrap_or_default();
    if Script::parse(&defaults).value("GRUB_SAVEDEFAULT").as_deref() == Some("true") {
        return impossible("GRUB_SAVEDEFAULT would make the trial the default".to_owned());
    }
    let menu = host.read_limited(&found.source, 8 << 20)?;
    let menu = String::from_utf8_lossy(&menu);
    if !menu.contains("/custom.cfg") || !menu.contains("next_entry") {
        return impossible(format!("{} is not one of grub-mkconfig", found.source.display()));
    }
    let path = directory.join("custom.cfg");
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
    let name = if directory.ends_with("grub2") { "grub2" } else { "grub" };
    let command = Command::new([format!("{name}-reboot"), NAME.to_owned()]);
    let inverse = [format!("{name}-editenv"), "-".into(), "unset".into(), "next_entry".into()];
    plan.command(command.inverse(inverse));
    Ok(())
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

#[cfg(test)]
mod tests {
    use testkit::boot::ALL;
    use testkit::tree::Tree;

    use super::*;

    fn planned(tree: &Tree, id: Option<&str>) -> Result<Plan, TrialError> {
        let host = tree.sysroot();
        let boot = Boot::read(&host).unwrap();
        let mut made = Plan::default();
        plan(&host, &boot, id, &Change::add(["intel_iommu=on"]), &mut made).map(|()| made)
    }

    fn host(name: &str) -> Tree {
        ALL.iter().find(|one| one.name == name).unwrap().tree()
    }

    fn shown(plan: &Plan) -> String {
        let mut text = Vec::new();
        crate::plan::write_diff(plan, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn systemd_boot_starts_a_copy_of_the_entry_once() {
        let tree = host("arch-systemd-boot");
        let plan = planned(&tree, Some("7")).unwrap();
        insta::assert_snapshot!(shown(&plan), @r"
        # mode: 0644 /boot/loader/entries/kireji-trial.conf
        --- /dev/null
        +++ b/boot/loader/entries/kireji-trial.conf
        @@ -0,0 +1,4 @@
        +title Arch Linux (trial)
        +linux   /vmlinuz-linux
        +initrd  /initramfs-linux.img
        +options root=UUID=1 rw intel_iommu=on kireji.trial=7
        # run: bootctl set-oneshot kireji-trial.conf
        ");
        assert_eq!(plan.commands[0].to_take_back().to_string(), "bootctl set-oneshot ''");
        tree.write("/boot/loader/entries/kireji-trial.conf", "title x\n");
        let gone = planned(&tree, None).unwrap();
        assert_eq!(gone.files.len(), 1);
        assert_eq!(gone.files[0].after, None);
    }

    const ROOT: &str = "25 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n";

    fn debian() -> Tree {
        let tree = host("debian-12");
        let menu = tree.read("/boot/grub/grub.cfg");
        let head = "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nfi\n";
        let tail = "if [ -f  ${config_directory}/custom.cfg ]; then\n  source \
                    ${config_directory}/custom.cfg\nfi\n";
        tree.write("/boot/grub/grub.cfg", format!("{head}{menu}{tail}"));
        tree.write("/proc/self/mountinfo", ROOT);
        tree
    }

    #[test]
    fn grub_starts_a_copy_of_the_entry_once() {
        let tree = debian();
        let plan = planned(&tree, Some("7")).unwrap();
        insta::assert_snapshot!(shown(&plan), @r"
        # mode: 0644 /boot/grub/custom.cfg
        --- /dev/null
        +++ b/boot/grub/custom.cfg
        @@ -0,0 +1,4 @@
        +menuentry 'kireji-trial' --id kireji-trial {
        +	linux	/boot/vmlinuz-6.1.0-28-amd64 root=UUID=1 ro quiet intel_iommu=on kireji.trial=7
        +	initrd	/boot/initrd.img-6.1.0-28-amd64
        +}
        # run: grub-reboot kireji-trial
        ");
    }

    #[test]
    fn what_would_not_go_back_by_itself_is_refused() {
        let refused = |change: fn(&Tree)| {
            let tree = debian();
            change(&tree);
            planned(&tree, Some("7")).unwrap_err().to_string()
        };
        for (change, expected) in [
            (
                (|tree| {
                    let text = ROOT.replace("ext4", "btrfs");
                    tree.write("/proc/self/mountinfo", text);
                }) as fn(&Tree),
                "environment to btrfs on /dev/sda2",
            ),
            (
                |tree| {
                    let text = ROOT.replace("/dev/sda2", "/dev/mapper/vg-root");
                    tree.write("/proc/self/mountinfo", text);
                },
                "environment to ext4 on /dev/mapper/vg-root",
            ),
            (|tree| tree.write("/proc/self/mountinfo", ""), "is not seen"),
            (
                |tree| tree.write("/etc/default/grub", "GRUB_SAVEDEFAULT=true\n"),
                "GRUB_SAVEDEFAULT would make the trial the default",
            ),
            (|tree| tree.write("/boot/grub/custom.cfg", "menuentry x {\n}\n"), "is yours"),
        ] {
            let error = refused(change);
            assert!(error.contains(expected), "{error}");
        }
        let error = planned(&host("fedora-43"), Some("7")).unwrap_err();
        assert!(error.to_string().contains("under GRUB are not copied"), "{error}");
    }
}
