//! What a reboot could choose: entries of menus, entries of the Boot Loader Specification, and
//! unified kernel images.

pub(crate) mod extlinux;
mod grub;
pub(crate) mod limine;
pub(crate) mod refind;
mod system;

use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};
use serde::Serialize;

use crate::config::{entry, words};
use crate::image::Uki;

use super::Kernel;
use system::System;

/// Where the partitions are mounted that a boot loader reads.
const PARTITIONS: [&str; 3] = ["/boot", "/efi", "/boot/efi"];
/// The menus that GRUB reads, and what those of grub-mkconfig read besides (41_custom).
const MENUS: [&str; 4] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/custom.cfg",
    "/boot/grub2/custom.cfg",
];
/// What a menu may hold, in bytes.
const MENU_LIMIT: u64 = 8 << 20;
/// How many entries are read of all kinds.
const MOST: usize = 1000;

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// An entry of GRUB's menu.
    Grub,
    /// A file of the Boot Loader Specification.
    Bls,
    /// A unified kernel image.
    Uki,
    /// A line of rEFInd's list of options.
    Refind,
    /// An entry of Limine's menu.
    Limine,
    /// A label of extlinux.
    Extlinux,
}

/// One entry that boots a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What kind it is.
    pub kind: EntryKind,
    /// Its title or file name.
    pub title: String,
    /// The file that it is in.
    pub source: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs images, as files of the host; those that are not there as they are written.
    pub images: Vec<PathBuf>,
    /// The command line.
    pub options: String,
    /// The release of the kernel, where the entry itself says it.
    pub release: Option<String>,
}

impl Entry {
    /// Whether it is there for when others fail: its command line stays as it is, as a way back.
    pub fn is_fallback(&self) -> bool {
        self.is_rescue() || self.is_named("-fallback")
    }

    /// Whether it was made at the installation and is never made again, as Fedora's.
    pub fn is_rescue(&self) -> bool {
        self.is_named("0-rescue-")
    }

    fn is_named(&self, part: &str) -> bool {
        let names = [self.kernel.as_path(), self.source.as_path()].into_iter();
        let names = names.chain(self.images.iter().map(PathBuf::as_path));
        let mut names = names.filter_map(|path| path.file_name()?.to_str());
        names.any(|name| name.contains(part))
    }

    /// Whether it boots a kernel of the host, as it says itself, or as its files are named.
    pub fn boots(&self, kernel: &Kernel) -> bool {
        if let Some(release) = &self.release {
            return *release == kernel.release;
        }
        let ends = |path: &Path, name: &str| {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            let stem = file.strip_suffix(".img").or_else(|| file.strip_suffix(".efi"));
            stem.unwrap_or(file).strip_suffix(name).is_some_and(|rest| rest.ends_with('-'))
        };
        let is_in =
            |path: &Path| path.parent().is_some_and(|above| above.ends_with(&kernel.release));
        std::iter::once(&self.kernel).chain(&self.images).any(|path| {
            is_in(path)
                || ends(path, &kernel.release)
                || kernel.package.as_deref().is_some_and(|package| ends(path, package))
        })
    }
}

/// Reads all entries of this system.
///
/// # Errors
/// A file is there and cannot be read.
pub fn read(host: &Sysroot) -> Result<Vec<Entry>, ReadError> {
    let system = System::read(host)?;
    let mut entries = Vec::new();
    for menu in MENUS {
        if let Some(text) = optional(host, menu)? {
            entries.extend(grub::read(host, Path::new(menu), &text));
        }
    }
    entries.extend(limine::read(host)?);
    entries.extend(extlinux::read(host)?);
    entries.retain(system::is_started);
    entries.extend(refind::read(host)?);
    for partition in PARTITIONS {
        let directory = format!("{partition}/loader/entries");
        for name in host.optional_names(&directory)? {
            let Some(id) = name.strip_suffix(".conf") else { continue };
            let path = PathBuf::from(format!("{directory}/{name}"));
            if let Some(text) = optional(host, &path)? {
                let found = bls(host, partition, id, path, &text);
                entries.extend(found.filter(|found| !system.is_other_machine(&text, found)));
            }
        }
        let directory = format!("{partition}/EFI/Linux");
        for name in host.optional_names(&directory)? {
            if name.ends_with(".efi") {
                let path = PathBuf::from(format!("{directory}/{name}"));
                entries.extend(uki(host, &system, path, name));
            }
        }
    }
    entries.truncate(MOST);
    Ok(entries)
}

fn optional(host: &Sysroot, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
    match host.read_limited(path, MENU_LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn bls(host: &Sysroot, partition: &str, id: &str, source: PathBuf, text: &str) -> Option<Entry> {
    let first = |key| entry::values(text, key).first().map(|value| (*value).to_owned());
    let kernel = first("linux");
    let is_kernel = kernel.is_some();
    let kernel = kernel.or_else(|| first("efi"))?;
    // Fedora writes variables of GRUB behind the image.
    let images = entry::values(text, "initrd").into_iter().flat_map(words::split);
    let found = Entry {
        kind: EntryKind::Bls,
        title: first("title").unwrap_or_else(|| id.to_owned()),
        source,
        kernel: on_host(host, partition, &kernel),
        images: images
            .filter(|image| !image.starts_with('$'))
            .map(|image| on_host(host, partition, image))
            .collect(),
        options: entry::options(text).join(" "),
        // openSUSE's sdbootutil writes the number of a snapshot before it.
        release: first("version")
            .map(|version| version.rsplit('@').next().unwrap_or_default().to_owned()),
    };
    // Other programs of EFI are no systems.
    (is_kernel || system::is_started(&found)).then_some(found)
}

fn uki(host: &Sysroot, system: &System, source: PathBuf, title: String) -> Option<Entry> {
    let image = Uki::open(host, &source).ok()?;
    let options = image.text(host, ".cmdline").ok()??;
    let release = image.text(host, ".uname").ok().flatten();
    let of_system = image.text(host, ".osrel").ok().flatten();
    let found = Entry {
        kind: EntryKind::Uki,
        title,
        kernel: source.clone(),
        images: vec![source.clone()],
        source,
        options,
        release,
    };
    let is_other = of_system.is_some_and(|text| system.is_other_distribution(&text, &found));
    (!is_other).then_some(found)
}

/// Where a file is on the host that a boot loader sees below a partition's root, or below a
/// subvolume's.
fn on_host(host: &Sysroot, partition: &str, path: &str) -> PathBuf {
    let path = path.trim_matches(['\'', '"']);
    let below = path.trim_start_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    let inside = below.split_once("/boot/").map_or(below, |(_, inside)| inside);
    [
        format!("{partition}/{below}"),
        format!("/{below}"),
        format!("/boot/{inside}"),
        format!("/boot/{name}"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|candidate| host.exists(candidate))
    .unwrap_or_else(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    const MENU: &str = "\
set default=\"0\"
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {
\tload_video
\techo\t'Loading Linux 6.1.0-27-amd64 ...'
\tlinux\t/boot/vmlinuz-6.1.0-27-amd64 root=UUID=1 ro  quiet
\tinitrd\t/boot/initrd.img-6.1.0-27-amd64
}
submenu 'Advanced' {
\tmenuentry 'With microcode' --class debian {
\t\tlinux\t/@/boot/vmlinuz-6.1.0-25-amd64 root=UUID=1
\t\tinitrd\t/@/boot/intel-ucode.img /@/boot/initrd.img-6.1.0-25-amd64
\t}
}
menuentry 'UEFI Firmware Settings' {
\tfwsetup
}
";

    #[test]
    fn every_kind_of_entry_is_read() {
        let tree = Tree::new();
        tree.write("/boot/grub/grub.cfg", MENU);
        for file in ["initrd.img-6.1.0-27-amd64", "initrd.img-6.1.0-25-amd64", "intel-ucode.img"] {
            tree.write(&format!("/boot/{file}"), "");
        }
        tree.write(
            "/efi/loader/entries/arch.conf",
            "title Arch\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions root=a\noptions b\n",
        );
        tree.write("/efi/initramfs-linux.img", "");
        tree.write("/efi/loader/entries/auto.conf", "title nothing\n");
        let entries = read(&tree.sysroot()).unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| {
                let images: Vec<_> =
                    entry.images.iter().map(|path| path.display().to_string()).collect();
                format!("{} | {} | {}", entry.title, images.join(" "), entry.options)
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        Debian GNU/Linux | /boot/initrd.img-6.1.0-27-amd64 | root=UUID=1 ro  quiet
        With microcode | /boot/intel-ucode.img /boot/initrd.img-6.1.0-25-amd64 | root=UUID=1
        Arch | /efi/initramfs-linux.img | root=a b
        ");
    }

    /// The titles of a host's entries.
    fn titles(tree: &Tree) -> Vec<String> {
        read(&tree.sysroot()).unwrap().into_iter().map(|entry| entry.title).collect()
    }

    #[test]
    fn what_starts_no_system_is_no_entry() {
        let tree = Tree::new();
        let menu = "\
menuentry 'Memory test (memtest86+x64.bin)' {
\tlinux\t/boot/memtest86+x64.bin
}
menuentry 'Memory test (memtest86+x64.bin, serial console)' {
\tlinux\t/boot/memtest86+x64.bin console=ttyS0,115200
}
menuentry 'A kernel without an initramfs' {
\tlinux\t/boot/vmlinuz root=/dev/vda1
}
";
        tree.write("/boot/grub/grub.cfg", menu);
        tree.write("/efi/loader/entries/shell.conf", "title Shell\nefi /shellx64.efi\n");
        tree.write("/efi/loader/entries/own.conf", "title Kernel\nlinux /vmlinuz\n");
        assert_eq!(titles(&tree), ["A kernel without an initramfs", "Kernel"]);
    }

    #[test]
    fn entries_of_other_systems_are_left_alone() {
        let tree = Tree::new();
        let menu = "\
menuentry 'Ours' $menuentry_id_option 'gnulinux-simple-1' {
\tlinux\t/boot/vmlinuz root=UUID=1
}
menuentry 'Theirs' $menuentry_id_option 'osprober-gnulinux-simple-2' {
\tlinux\t/boot/vmlinuz root=UUID=2
}
";
        tree.write("/boot/grub/grub.cfg", menu);
        tree.write("/proc/cmdline", "root=UUID=1 ro\n");
        tree.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        tree.write("/etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\n");
        let other = "fedcba9876543210fedcba9876543210";
        for (name, machine, root) in [
            ("a", "0123456789abcdef0123456789abcdef", 1),
            ("b", other, 2),
            // Of before the machine had another identifier.
            ("c", other, 1),
        ] {
            let text = format!(
                "title {name}\nmachine-id {machine}\nlinux /{name}\noptions root=UUID={root}\n"
            );
            tree.write(&format!("/boot/loader/entries/{name}.conf"), text);
        }
        for (name, id, root) in
            [("d", "debian", 2), ("e", "\"fedora\"", 2), ("f", "debian-testing", 1)]
        {
            let (release, line) = (format!("VERSION='1'\nID={id}\n"), format!("root=UUID={root}"));
            let sections =
                [(".osrel", release.as_bytes()), (".cmdline", line.as_bytes()), (".linux", b"MZ")];
            tree.write(&format!("/boot/EFI/Linux/{name}.efi"), testkit::boot::pe(&sections));
        }
        assert_eq!(titles(&tree), ["Ours", "a", "c", "d.efi", "f.efi"]);
    }
}
