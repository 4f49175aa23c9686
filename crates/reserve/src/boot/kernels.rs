//! The kernels that are installed, each with its initramfs.

use std::path::PathBuf;

use host::modules::is_release;
use host::{ReadError, Sysroot};
use serde::Serialize;

use super::Entry;

/// Where a kernel's modules are, by release.
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
/// How many kernels are looked at.
const MOST: usize = 64;

/// One installed kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Its release.
    pub release: String,
    /// Whether it runs now.
    pub is_running: bool,
    /// Its initramfs, where one of the usual names is there.
    pub image: Option<PathBuf>,
    /// What its package is called, where its images are named after that, as on Arch.
    pub package: Option<String>,
}

impl Kernel {
    /// The kernel itself, as its package installs it.
    pub fn file(&self, host: &Sysroot) -> Option<PathBuf> {
        let release = &self.release;
        [
            format!("/usr/lib/modules/{release}/vmlinuz"),
            format!("/lib/modules/{release}/vmlinuz"),
            format!("/boot/vmlinuz-{release}"),
        ]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| host.exists(path))
    }
}

/// Reads which kernels are installed, by release. Of a kernel that was removed, modules that were
/// built for it may be left: it is none, where neither it nor an image of it is there and none of
/// the `entries` boots it.
///
/// # Errors
/// A directory is there and cannot be read.
pub fn read(host: &Sysroot, entries: &[Entry]) -> Result<Vec<Kernel>, ReadError> {
    let running = host.optional_text("/proc/sys/kernel/osrelease")?;
    let mut releases = Vec::new();
    for directory in MODULES {
        for release in host.optional_names(directory)? {
            let is_there = host.exists(format!("{directory}/{release}/modules.dep"));
            if is_there && is_release(&release) && !releases.contains(&release) {
                releases.push(release);
            }
        }
    }
    releases.sort_unstable();
    releases.truncate(MOST);
    let kernel = |release: String| {
        let package = package(host, &release);
        Kernel {
            image: image(host, &release, package.as_deref()),
            is_running: running.as_deref() == Some(release.as_str()),
            release,
            package,
        }
    };
    let is_left = |kernel: &Kernel| {
        kernel.is_running
            || kernel.image.is_some()
            || kernel.file(host).is_some()
            || entries.iter().any(|entry| entry.boots(kernel))
    };
    Ok(releases.into_iter().map(kernel).filter(is_left).collect())
}

/// The name of a kernel's package, which Arch leaves beside its modules; Alpine's release ends with
/// the flavour that its files are named after.
fn package(host: &Sysroot, release: &str) -> Option<String> {
    let plain = |name: &String| {
        !name.is_empty()
            && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.+".contains(char))
    };
    let package = host.text(format!("/usr/lib/modules/{release}/pkgbase"));
    if let Some(package) = package.ok().filter(plain) {
        return Some(package);
    }
    let flavour = release.rsplit_once('-').map(|(_, flavour)| flavour.to_owned());
    flavour.filter(|flavour| host.exists(format!("/boot/initramfs-{flavour}")))
}

/// The names that distributions give to the initramfs of a release, or of a package of kernels.
fn image(host: &Sysroot, release: &str, package: Option<&str>) -> Option<PathBuf> {
    let mut names = vec![
        format!("/boot/initrd.img-{release}"),
        format!("/boot/initramfs-{release}.img"),
        format!("/boot/initrd-{release}"),
    ];
    if let Some(package) = package {
        names.push(format!("/boot/initramfs-{package}.img"));
        names.push(format!("/boot/booster-{package}.img"));
        names.push(format!("/boot/initramfs-{package}"));
    }
    names.into_iter().map(PathBuf::from).find(|path| host.exists(path))
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;
    use crate::boot::entries;

    #[test]
    fn each_kernel_has_its_image() {
        let tree = Tree::new();
        tree.write("/proc/sys/kernel/osrelease", "6.1.0-27-amd64\n");
        for release in ["6.1.0-27-amd64", "6.1.0-25-amd64", "6.17.1-arch1-1", "9;reboot"] {
            tree.write(&format!("/usr/lib/modules/{release}/modules.dep"), "");
        }
        tree.directory("/lib/modules/6.0.0");
        tree.write("/boot/vmlinuz-6.1.0-25-amd64", "");
        // Booted by an entry alone, and by nothing.
        for release in ["6.5.0", "6.6.0"] {
            tree.write(&format!("/usr/lib/modules/{release}/modules.dep"), "");
        }
        let entry = "title x\nversion 6.5.0\nlinux /x\n";
        tree.write("/boot/loader/entries/x.conf", entry);
        tree.write("/usr/lib/modules/6.17.1-arch1-1/pkgbase", "linux\n");
        tree.write("/boot/initrd.img-6.1.0-27-amd64", "");
        tree.write("/boot/initramfs-linux.img", "");
        let host = tree.sysroot();
        let kernels = read(&host, &entries::read(&host).unwrap()).unwrap();
        let shown: Vec<_> = kernels
            .iter()
            .map(|kernel| (kernel.release.as_str(), kernel.is_running, kernel.image.clone()))
            .collect();
        assert_eq!(
            shown,
            [
                ("6.1.0-25-amd64", false, None),
                ("6.1.0-27-amd64", true, Some("/boot/initrd.img-6.1.0-27-amd64".into())),
                ("6.17.1-arch1-1", false, Some("/boot/initramfs-linux.img".into())),
                ("6.5.0", false, None),
            ]
        );
    }
}
