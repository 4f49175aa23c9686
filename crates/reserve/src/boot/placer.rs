//! Who puts kernels and images where the boot loader finds them, by how their files are named there.

use host::{ReadError, Sysroot};
use serde::Serialize;

use super::{Entry, EntryKind, Kernel};
use crate::generator::Confidence;
use crate::plan::{Command, Knowledge};

/// The partitions that proxmox-boot-tool fills, one of its own identifiers a line
/// (proxmox-boot/functions of proxmox-kernel-helper).
const PROXMOX: &str = "/etc/kernel/proxmox-boot-uuids";
/// What kernelstub remembers (kernelstub/config.py).
const KERNELSTUB: &str = "/etc/kernelstub/configuration";
/// Where kernel-install reads what it shall make (kernel-install(8)): the first that is there, then
/// drop-ins in directories beside them.
const INSTALL_CONF: [&str; 2] = ["/etc/kernel/install.conf", "/usr/lib/kernel/install.conf"];

/// Who places what is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placer {
    /// The generator writes its images where they are booted from.
    Generator,
    /// kernel-install copies what the generator built, or calls it.
    KernelInstall,
    /// sdbootutil of openSUSE.
    Sdbootutil,
    /// limine-entry-tool, which CachyOS and others have.
    LimineEntryTool,
    /// proxmox-boot-tool, to partitions that are not mounted.
    ProxmoxBootTool,
    /// kernelstub of Pop!_OS.
    Kernelstub,
}

pub(super) fn detect(
    host: &Sysroot,
    kernels: &[Kernel],
    entries: &[Entry],
) -> Result<Placer, ReadError> {
    if host.optional_text(PROXMOX)?.is_some_and(|text| !text.is_empty()) {
        return Ok(Placer::ProxmoxBootTool);
    }
    if host.exists(KERNELSTUB) && entries.iter().any(is_of_kernelstub) {
        return Ok(Placer::Kernelstub);
    }
    if entries.iter().any(|entry| entry.kind == EntryKind::Limine)
        && host.exists("/etc/default/limine")
        && limine_tool(host).is_some()
    {
        return Ok(Placer::LimineEntryTool);
    }
    let placed = |entry: &&Entry| is_placed(entry, kernels);
    if let Some(entry) = entries.iter().find(placed) {
        return Ok(match is_of_sdbootutil(entry) {
            true => Placer::Sdbootutil,
            false => Placer::KernelInstall,
        });
    }
    let makes_uki = makes_uki(host)?;
    let named = |entry: &&Entry| entry.kind == EntryKind::Uki && is_named_by_kernel_install(entry);
    Ok(match makes_uki && entries.iter().any(|entry| named(&entry)) {
        true => Placer::KernelInstall,
        false => Placer::Generator,
    })
}

/// The program that makes Limine's images and entries again.
pub(crate) fn limine_tool(host: &Sysroot) -> Option<&'static str> {
    ["limine-mkinitcpio", "limine-dracut", "limine-update"]
        .into_iter()
        .find(|name| host.exists(format!("/usr/bin/{name}")))
}

/// Whether an entry's kernel lies in a directory named after its release (90-loaderentry.install).
fn is_placed(entry: &Entry, kernels: &[Kernel]) -> bool {
    let above = entry.kernel.parent();
    entry.kind == EntryKind::Bls
        && kernels.iter().any(|kernel| above.is_some_and(|above| above.ends_with(&kernel.release)))
}

/// sdbootutil names each file after what is in it: `linux-` and forty digits (install_kernel).
fn is_of_sdbootutil(entry: &Entry) -> bool {
    let name = entry.kernel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let digest = name.strip_prefix("linux-").unwrap_or_default();
    digest.len() == 40 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// kernelstub copies kernel and image to a directory of its own (kernelstub/installer.py).
fn is_of_kernelstub(entry: &Entry) -> bool {
    entry.kind == EntryKind::Bls
        && entry.kernel.file_name().is_some_and(|name| name == "vmlinuz.efi")
}

/// `TOKEN-RELEASE.efi`, with how often it is tried behind a `+` (90-uki-copy.install).
fn is_named_by_kernel_install(entry: &Entry) -> bool {
    let Some(release) = &entry.release else { return false };
    let name = entry.source.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let of_token = without_tries(name).strip_suffix(release.as_str());
    of_token.is_some_and(|token| token.len() > 1 && token.ends_with('-'))
}

/// The name without `+LEFT` or `+LEFT-DONE` ("Boot counting" of the Boot Loader Specification); a
/// release may have a `+` of its own, as Debian's `6.12.48+deb13-amd64`.
fn without_tries(name: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('+') {
        Some((rest, tries)) if tries.splitn(2, '-').all(is_number) => rest,
        _ => name,
    }
}

/// Whether kernel-install is told to make unified images. Of the drop-ins, the last has the last word.
fn makes_uki(host: &Sysroot) -> Result<bool, ReadError> {
    let mut paths = Vec::new();
    for path in INSTALL_CONF {
        if host.exists(path) {
            paths.push(path.to_owned());
            break;
        }
    }
    let mut drop_ins = Vec::new();
    for directory in INSTALL_CONF.map(|path| format!("{path}.d")) {
        for name in host.optional_names(&directory)? {
            if name.ends_with(".conf") && drop_ins.iter().all(|(other, _)| *other != name) {
                let path = format!("{directory}/{name}");
                drop_ins.push((name, path));
            }
        }
    }
    drop_ins.sort_unstable();
    paths.extend(drop_ins.into_iter().map(|(_, path)| path));
    let mut layout = None;
    for path in paths {
        let text = host.optional_text(path)?.unwrap_or_default();
        let mut values = text.lines().rev().filter_map(|line| line.trim().strip_prefix("layout="));
        layout = values.next().map(|value| value.trim_matches(['"', '\'']).to_owned()).or(layout);
    }
    Ok(layout.as_deref() == Some("uki"))
}

impl Placer {
    /// What it is for people, and how well it is known that its commands do what they should;
    /// `None` where the generator itself is all there is.
    pub(crate) fn knowledge(self) -> Option<Knowledge> {
        let (name, confidence) = match self {
            Self::Generator => return None,
            Self::KernelInstall => ("kernel-install", Confidence::Lab),
            Self::Sdbootutil => ("sdbootutil", Confidence::Source),
            Self::LimineEntryTool => ("limine-entry-tool", Confidence::Hearsay),
            Self::ProxmoxBootTool => ("proxmox-boot-tool", Confidence::Source),
            Self::Kernelstub => ("kernelstub", Confidence::Source),
        };
        Some(Knowledge::of(name, confidence))
    }

    /// The commands that build and place all images again; `build` are those of the generator.
    ///
    /// # Errors
    /// Why they cannot be told.
    pub(crate) fn commands(
        self,
        host: &Sysroot,
        kernels: &[Kernel],
        build: impl FnOnce() -> Result<Vec<Command>, String>,
    ) -> Result<Vec<Command>, String> {
        match self {
            Self::Generator => build(),
            Self::ProxmoxBootTool => {
                let mut commands = build()?;
                commands.push(Command::new(["proxmox-boot-tool", "refresh"]));
                Ok(commands)
            }
            Self::Kernelstub => {
                let mut commands = build()?;
                commands.push(Command::new(["kernelstub"]));
                Ok(commands)
            }
            Self::Sdbootutil => {
                Ok(vec![Command::new(["sdbootutil", "--no-reuse-initrd", "add-all-kernels"])])
            }
            Self::LimineEntryTool => {
                let tool = limine_tool(host).ok_or("no tool of Limine's entries is installed")?;
                Ok(vec![Command::new([tool])])
            }
            Self::KernelInstall => {
                // Where the generator has images of its own, those are built and handed over; else
                // kernel-install calls it (50-dracut.install, 50-mkinitcpio.install).
                let has_own = kernels.iter().any(|kernel| kernel.image.is_some());
                let mut commands = if has_own { build()? } else { Vec::new() };
                for kernel in kernels {
                    let release = &kernel.release;
                    let file = kernel.file(host);
                    let file =
                        file.ok_or_else(|| format!("kernel {release} itself is not there"))?;
                    let own = kernel.image.iter().map(|path| path.to_string_lossy().into_owned());
                    let words = ["kernel-install", "add", release].map(str::to_owned).into_iter();
                    let words = words.chain([file.to_string_lossy().into_owned()]).chain(own);
                    commands.push(Command::new(words));
                }
                Ok(commands)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn tries_are_told_from_a_release_with_a_plus() {
        for (name, expected) in [
            ("debian-6.12.48+deb13-amd64", "debian-6.12.48+deb13-amd64"),
            ("debian-6.12.48+deb13-amd64+3", "debian-6.12.48+deb13-amd64"),
            ("fedora-6.17.1+2-1", "fedora-6.17.1"),
            ("fedora-6.17.1+2-", "fedora-6.17.1+2-"),
            ("fedora-6.17.1+", "fedora-6.17.1+"),
        ] {
            assert_eq!(without_tries(name), expected);
        }
    }

    #[test]
    fn the_last_file_has_the_last_word_on_the_layout() {
        let tree = Tree::new();
        let is_told = || makes_uki(&tree.sysroot()).unwrap();
        assert!(!is_told());
        tree.write("/usr/lib/kernel/install.conf", "layout=uki\n");
        assert!(is_told());
        tree.write("/etc/kernel/install.conf", "#layout=uki\n");
        assert!(!is_told());
        tree.write("/usr/lib/kernel/install.conf.d/20-uki.conf", "layout=\"uki\"\n");
        assert!(is_told());
        tree.write("/etc/kernel/install.conf.d/20-uki.conf", "layout=bls\n");
        assert!(!is_told());
    }
}
