//! Which boot loader started this system.

use host::{ReadError, Sysroot, command_line};
use serde::Serialize;

use super::entries::extlinux;
use super::{Clue, Verdict};

/// What boot loaders write down about themselves (the Boot Loader Interface of systemd), of type
/// text in UTF-16 behind four bytes of attributes (efivarfs, Documentation/filesystems/efivarfs.rst).
const LOADER_INFO: &str =
    "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// What the stub of a unified kernel image writes down about itself, whoever started it.
const STUB_INFO: &str = "/sys/firmware/efi/efivars/StubInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB 2.
    Grub,
    /// systemd-boot.
    SystemdBoot,
    /// rEFInd.
    Refind,
    /// Limine.
    Limine,
    /// extlinux.
    Extlinux,
    /// None: firmware started a unified kernel image itself.
    Firmware,
}

impl std::fmt::Display for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Grub => "GRUB",
            Self::SystemdBoot => "systemd-boot",
            Self::Refind => "rEFInd",
            Self::Limine => "Limine",
            Self::Extlinux => "extlinux",
            Self::Firmware => "firmware without a boot loader",
        })
    }
}

pub(super) fn detect(host: &Sysroot) -> Result<Verdict<Loader>, ReadError> {
    let mut clues = Vec::new();
    match host.read(LOADER_INFO) {
        Ok(bytes) => {
            let info = utf16(bytes.get(4..).unwrap_or_default());
            let known = [
                ("systemd-boot", Loader::SystemdBoot),
                ("GRUB", Loader::Grub),
                ("refind", Loader::Refind),
                ("rEFInd", Loader::Refind),
                ("Limine", Loader::Limine),
            ];
            let found = known.into_iter().find(|(name, _)| info.starts_with(name));
            clues.extend(found.map(|(_, loader)| Clue::new(loader, LOADER_INFO, info.clone())));
        }
        Err(error) if error.is_absent() => {
            if host.exists(STUB_INFO) {
                let what = "the stub of a unified kernel image, and no loader before it";
                clues.push(Clue::new(Loader::Firmware, STUB_INFO, what));
            }
        }
        Err(error) => return Err(error),
    }
    let running = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    // A command line that was written down once may still have what an earlier loader added.
    let written = host.optional_text("/etc/kernel/cmdline")?.unwrap_or_default();
    let written = command_line::split(&written);
    for word in command_line::split(&running).into_iter().filter(|word| !written.contains(word)) {
        // GRUB's command `linux` writes the kernel's name there; a stub in EFI is given `initrd=`
        // with backslashes by its loader.
        if word.starts_with("BOOT_IMAGE=") && host_has_grub(host) {
            clues.push(Clue::new(Loader::Grub, "/proc/cmdline", word));
        } else if word.starts_with("BOOT_IMAGE=")
            && extlinux::MENUS.iter().any(|menu| host.exists(menu))
        {
            clues.push(Clue::new(Loader::Extlinux, "/proc/cmdline", word));
        } else if word.starts_with("initrd=\\")
            && clues.iter().all(|clue| clue.says != Loader::Refind)
            && host.exists("/sys/firmware/efi")
            && clues.iter().any(|clue| clue.says == Loader::SystemdBoot)
        {
            clues.push(Clue::new(Loader::SystemdBoot, "/proc/cmdline", word));
        }
    }
    if clues.is_empty() {
        clues.extend(of_menu(host, &running)?);
    }
    let why = format!(
        "{LOADER_INFO} is not there, and /proc/cmdline has no BOOT_IMAGE with a menu of GRUB on disk"
    );
    Ok(Verdict::of(clues, why))
}

/// U-Boot leaves no word of its own: the command line is what its menu appends (boot/pxe_utils.c),
/// which has the same root even if the rest was changed for the next boot. A kernel that the menu
/// starts sees no firmware of EFI.
fn of_menu(host: &Sysroot, running: &str) -> Result<Option<Clue<Loader>>, ReadError> {
    let Some(root) = command_line::value(running, "root") else { return Ok(None) };
    if host.exists("/sys/firmware/efi") {
        return Ok(None);
    }
    let entries = extlinux::read(host)?;
    let same =
        entries.iter().find(|entry| command_line::value(&entry.options, "root") == Some(root));
    Ok(same.map(|entry| {
        let what =
            format!("the root that {} appends for `{}`", entry.source.display(), entry.title);
        Clue::new(Loader::Extlinux, "/proc/cmdline", what)
    }))
}

/// Other loaders write `BOOT_IMAGE` too (syslinux's `linux.c32` and its core); they have no menu of
/// GRUB.
fn host_has_grub(host: &Sysroot) -> bool {
    ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"].iter().any(|menu| host.exists(menu))
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> =
        bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
}
