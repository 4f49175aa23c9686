//! What else a change of what is booted could break: volumes that are sealed to it, signatures,
//! partitions that are full.

use std::path::Path;

use host::{Measured, ReadError, Sysroot};
use serde::Serialize;

use crate::boot::{Boot, EntryKind};

/// Secure Boot's variable: four bytes of attributes, then one that is 1 if it is on (UEFI 2.10,
/// 3.3).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// What signs unified images that are made again: ukify's keys (ukify(1)), sbctl's hooks, dracut's
/// (dracut.conf(5), uefi_secureboot_key), openSUSE's and Fedora's have none.
const SIGNERS: [(&str, &str); 4] = [
    ("/etc/kernel/uki.conf", "SecureBootPrivateKey="),
    ("/etc/kernel/install.conf", "SecureBootPrivateKey="),
    ("/etc/dracut.conf", "uefi_secureboot_key="),
    ("/var/lib/sbctl/files.json", "output_file"),
];
/// How much larger than the images of now those to come may be, in bytes: vfio and what it needs.
const GROWTH: u64 = 8 << 20;

/// Something that the change could break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// What kind it is.
    pub kind: Kind,
    /// What could break, with the way to it.
    pub reason: String,
    /// What helps.
    pub remedy: &'static str,
}

/// What kind of risk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A volume that is sealed to what is booted asks for its recovery key.
    Sealed,
    /// An image that is not signed does not start.
    Signature,
    /// A partition is too small for the images.
    Space,
}

impl Kind {
    /// Its name, as a person confirms it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Signature => "signature",
            Self::Space => "space",
        }
    }
}

/// Whether Secure Boot is on.
pub fn secure_boot(host: &Sysroot) -> Measured<bool> {
    match host.read(SECURE_BOOT) {
        Ok(bytes) => match bytes.get(4) {
            Some(value) => Measured::Known(*value == 1),
            None => Measured::unmeasured(format!("{SECURE_BOOT} is too short")),
        },
        Err(error) if error.is_absent() => Measured::Known(false),
        Err(error) => Measured::unmeasured(crate::in_full(&error)),
    }
}

/// Finds what building images and entries again could break.
///
/// # Errors
/// A file cannot be read.
pub fn find(host: &Sysroot, boot: &Boot) -> Result<Vec<Risk>, ReadError> {
    let mut risks = sealed(host)?;
    risks.extend(signature(host, boot)?);
    // A captured host does not tell; then there is nothing to carry out either.
    let free = |directory: &Path| host.free_space(directory).ok()?.known().copied();
    risks.extend(space(host, boot, free));
    Ok(risks)
}

/// Volumes that a TPM unlocks: crypttab(5) with `tpm2-device`, and the command line of
/// systemd-cryptsetup-generator(8); Clevis has its pins in the volume's header, and a program.
fn sealed(host: &Sysroot) -> Result<Vec<Risk>, ReadError> {
    let remedy = "have the volume's recovery key at hand before the reboot, and enrol the TPM anew \
                  after it (systemd-cryptenroll)";
    let risk = |reason| Risk { kind: Kind::Sealed, reason, remedy };
    let mut risks = Vec::new();
    for path in ["/etc/crypttab", "/etc/crypttab.initramfs"] {
        for line in host.optional_text(path)?.unwrap_or_default().lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [name, device, _, options] = &fields[..] else { continue };
            if !name.starts_with('#')
                && options.split(',').any(|one| one.starts_with("tpm2-device"))
            {
                risks.push(risk(format!(
                    "{path}: a TPM unlocks {name} ({device}) by what is booted"
                )));
            }
        }
    }
    let line = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    if line.contains("tpm2-device=") {
        risks.push(risk("/proc/cmdline: a TPM unlocks the root by what is booted".to_owned()));
    }
    if host.exists("/usr/bin/clevis-luks-bind") && host.exists("/etc/crypttab") {
        let reason = "Clevis may unlock a volume of /etc/crypttab by what is booted".to_owned();
        risks.push(risk(reason));
    }
    Ok(risks)
}

/// A unified image that is made again and not signed does not start under Secure Boot. Kernel and
/// initramfs as files of their own are not concerned: the latter is not signed.
fn signature(host: &Sysroot, boot: &Boot) -> Result<Vec<Risk>, ReadError> {
    let Some(uki) = boot.entries.iter().find(|entry| entry.kind == EntryKind::Uki) else {
        return Ok(Vec::new());
    };
    let risk = |reason| Risk {
        kind: Kind::Signature,
        reason,
        remedy: "have images signed when they are made (ukify, sbctl), or switch Secure Boot off",
    };
    let name = uki.source.display();
    match secure_boot(host) {
        Measured::Known(false) => return Ok(Vec::new()),
        Measured::Known(true) => {}
        Measured::Unmeasured { unmeasured } => {
            return Ok(vec![risk(format!(
                "whether {name} must be signed is unmeasured: {unmeasured}"
            ))]);
        }
    }
    for (path, word) in SIGNERS {
        let text = host.optional_text(path)?.unwrap_or_default();
        let is_set =
            |line: &str| line.trim_start().contains(word) && !line.trim_start().starts_with('#');
        if text.lines().any(is_set) {
            return Ok(Vec::new());
        }
    }
    Ok(vec![risk(format!("Secure Boot is on, and nothing was found that signs {name}"))])
}

/// A new image is written beside the old one, and may be larger.
fn space(host: &Sysroot, boot: &Boot, free: impl Fn(&Path) -> Option<u64>) -> Vec<Risk> {
    let own = boot.kernels.iter().filter_map(|kernel| kernel.image.as_deref());
    let mut images: Vec<_> = own
        .chain(boot.entries.iter().flat_map(|entry| entry.images.iter().map(|path| &**path)))
        .collect();
    images.sort_unstable();
    images.dedup();
    let mut largest: Vec<(&Path, u64)> = Vec::new();
    for image in images {
        let Some(directory) = image.parent() else { continue };
        let Ok(size) = host.size(image) else { continue };
        match largest.iter_mut().find(|(other, _)| *other == directory) {
            Some((_, most)) => *most = size.max(*most),
            None => largest.push((directory, size)),
        }
    }
    let short = |(directory, size): (&Path, u64)| {
        let free = free(directory)?;
        too_little(free, size).map(|needed| Risk {
            kind: Kind::Space,
            reason: format!(
                "{} has {} MiB left, and a new image needs up to {} MiB",
                directory.display(),
                free >> 20,
                needed.div_ceil(1 << 20)
            ),
            remedy: "remove an old kernel first",
        })
    };
    largest.into_iter().filter_map(short).collect()
}

/// What an image of this size may need, if more than is free.
fn too_little(free: u64, size: u64) -> Option<u64> {
    let needed = size.saturating_add(GROWTH);
    (free < needed).then_some(needed)
}

#[cfg(test)]
mod tests {
    use testkit::boot::ALL;
    use testkit::tree::Tree;

    use super::*;

    fn kinds(tree: &Tree) -> Vec<Kind> {
        let host = tree.sysroot();
        let risks = find(&host, &Boot::read(&host).unwrap()).unwrap();
        risks.into_iter().map(|risk| risk.kind).collect()
    }

    fn host(name: &str) -> Tree {
        ALL.iter().find(|one| one.name == name).unwrap().tree()
    }

    #[test]
    fn a_unified_image_has_to_be_signed_only_under_secure_boot() {
        let tree = host("arch-uki");
        assert!(kinds(&tree).is_empty());
        tree.write(SECURE_BOOT, [6, 0, 0, 0, 1]);
        assert_eq!(kinds(&tree), [Kind::Signature]);
        tree.write("/etc/kernel/uki.conf", "[UKI]\n# SecureBootPrivateKey=/x\n");
        assert_eq!(kinds(&tree), [Kind::Signature]);
        tree.write("/etc/kernel/uki.conf", "[UKI]\nSecureBootPrivateKey=/x\n");
        assert!(kinds(&tree).is_empty());
        tree.write(SECURE_BOOT, [6, 0, 0, 0]);
        assert!(matches!(secure_boot(&tree.sysroot()), Measured::Unmeasured { .. }));
        // An initramfs that is a file of its own is not signed.
        let tree = host("debian-12");
        tree.write(SECURE_BOOT, [6, 0, 0, 0, 1]);
        assert!(kinds(&tree).is_empty());
    }

    #[test]
    fn sealed_volumes_are_told() {
        let tree = host("debian-12");
        tree.write("/etc/crypttab", "root UUID=1 none luks,discard\n");
        assert!(kinds(&tree).is_empty());
        tree.write(
            "/etc/crypttab",
            "#a b none tpm2-device=auto\nroot UUID=1 - luks,tpm2-device=auto\n",
        );
        let host = tree.sysroot();
        let risks = find(&host, &Boot::read(&host).unwrap()).unwrap();
        assert_eq!(risks.len(), 1);
        assert_eq!(risks[0].reason, "/etc/crypttab: a TPM unlocks root (UUID=1) by what is booted");
    }

    #[test]
    fn an_image_and_what_it_may_grow_must_fit() {
        assert_eq!(too_little(100 << 20, 40 << 20), None);
        assert_eq!(too_little(40 << 20, 40 << 20), Some(48 << 20));
        assert_eq!(too_little(0, u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn a_partition_that_is_full_is_told() {
        let tree = host("debian-13-systemd-boot");
        let host = tree.sysroot();
        let boot = Boot::read(&host).unwrap();
        let found = |full: &str| -> Vec<_> {
            let free = |at: &Path| Some(if at.starts_with(full) { 5 << 20 } else { u64::MAX });
            space(&host, &boot, free).into_iter().map(|risk| risk.reason).collect()
        };
        let says = "/boot has 5 MiB left, and a new image needs up to 9 MiB";
        assert_eq!(found("/boot"), [says]);
        assert!(matches!(&found("/efi")[..], [one] if one.starts_with("/efi/0123")));
        assert!(found("/nowhere").is_empty());
        assert!(space(&host, &boot, |_| None).is_empty());
    }
}
