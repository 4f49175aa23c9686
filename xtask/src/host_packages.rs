//! Programs of the machine that the tests and the lab use, and the packages that have them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use host::Sysroot;

use crate::ask::Consent;
use crate::process;
use crate::provision::Release;

/// How a distribution installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    /// Debian, Ubuntu and what is made of them.
    Apt,
    /// Fedora and what is made of it.
    Dnf,
    /// Arch and what is made of it.
    Pacman,
}

/// A program, and the package that has it for each manager; `None` where the lab brings it.
struct Needed {
    program: &'static str,
    apt: Option<&'static str>,
    dnf: Option<&'static str>,
    pacman: Option<&'static str>,
}

const NEEDED: [Needed; 22] = [
    Needed {
        program: "busybox",
        apt: Some("busybox"),
        dnf: Some("busybox"),
        pacman: Some("busybox"),
    },
    Needed { program: "bzip2", apt: Some("bzip2"), dnf: Some("bzip2"), pacman: Some("bzip2") },
    Needed { program: "cpio", apt: Some("cpio"), dnf: Some("cpio"), pacman: Some("cpio") },
    Needed {
        program: "dracut",
        apt: Some("dracut-core"),
        dnf: Some("dracut"),
        pacman: Some("dracut"),
    },
    Needed { program: "g++", apt: Some("g++"), dnf: Some("gcc-c++"), pacman: Some("gcc") },
    Needed {
        program: "kernel-install",
        apt: Some("systemd"),
        dnf: Some("systemd-udev"),
        pacman: Some("systemd"),
    },
    Needed { program: "lsinitramfs", apt: Some("initramfs-tools-core"), dnf: None, pacman: None },
    Needed {
        program: "lspci",
        apt: Some("pciutils"),
        dnf: Some("pciutils"),
        pacman: Some("pciutils"),
    },
    Needed { program: "lz4", apt: Some("lz4"), dnf: Some("lz4"), pacman: Some("lz4") },
    Needed { program: "make", apt: Some("make"), dnf: Some("make"), pacman: Some("make") },
    Needed { program: "mcopy", apt: Some("mtools"), dnf: Some("mtools"), pacman: Some("mtools") },
    Needed {
        program: "mke2fs",
        apt: Some("e2fsprogs"),
        dnf: Some("e2fsprogs"),
        pacman: Some("e2fsprogs"),
    },
    Needed {
        program: "mkfs.vfat",
        apt: Some("dosfstools"),
        dnf: Some("dosfstools"),
        pacman: Some("dosfstools"),
    },
    Needed {
        program: "mmdebstrap",
        apt: Some("mmdebstrap"),
        dnf: Some("mmdebstrap"),
        pacman: Some("mmdebstrap"),
    },
    Needed {
        program: "objdump",
        apt: Some("binutils"),
        dnf: Some("binutils"),
        pacman: Some("binutils"),
    },
    Needed {
        program: "qemu-system-x86_64",
        apt: Some("qemu-system-x86"),
        dnf: Some("qemu-system-x86-core"),
        pacman: Some("qemu-system-x86"),
    },
    Needed { program: "qemu-img", apt: None, dnf: Some("qemu-img"), pacman: Some("qemu-img") },
    Needed {
        program: "sfdisk",
        apt: Some("fdisk"),
        dnf: Some("util-linux"),
        pacman: Some("util-linux"),
    },
    Needed {
        program: "ssh",
        apt: Some("openssh-client"),
        dnf: Some("openssh-clients"),
        pacman: Some("openssh"),
    },
    Needed {
        program: "sshd",
        apt: Some("openssh-server"),
        dnf: Some("openssh-server"),
        pacman: Some("openssh"),
    },
    Needed { program: "strace", apt: Some("strace"), dnf: Some("strace"), pacman: Some("strace") },
    Needed { program: "zstd", apt: Some("zstd"), dnf: Some("zstd"), pacman: Some("zstd") },
];

/// Installs what is missing, after asking.
pub fn install(consent: Consent) -> Result<()> {
    let release = Release::read(&Sysroot::host()?)?;
    let manager = manager(&release);
    let missing = missing(manager, |program| find(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let Some(manager) = manager else {
        bail!("please install: {}", missing.join(", "));
    };
    let words = install_command(manager, &missing);
    consent.ask(&format!("install {} with `{}`", missing.join(", "), words.join(" ")))?;
    if manager == Manager::Apt {
        // A new machine has no list of packages yet, or an old one.
        as_root(&["apt-get".to_owned(), "update".to_owned(), "--quiet".to_owned()])?;
    }
    as_root(&words).context("the packages were not installed")
}

fn as_root(words: &[String]) -> Result<()> {
    let (program, words) = words.split_first().context("no command")?;
    process::run(process::as_root(program).args(words))
}

fn manager(release: &Release) -> Option<Manager> {
    let like = format!("{} {}", release.get("ID"), release.get("ID_LIKE"));
    like.split_whitespace().find_map(|id| match id {
        "debian" | "ubuntu" => Some(Manager::Apt),
        "fedora" | "rhel" => Some(Manager::Dnf),
        "arch" => Some(Manager::Pacman),
        _ => None,
    })
}

/// Returns the packages whose programs are missing; the programs where there is no manager.
fn missing(manager: Option<Manager>, there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let package = |needed: &Needed| match manager {
        Some(Manager::Apt) => needed.apt,
        Some(Manager::Dnf) => needed.dnf,
        Some(Manager::Pacman) => needed.pacman,
        None => Some(needed.program),
    };
    NEEDED.iter().filter(|needed| !there(needed.program)).filter_map(package).collect()
}

fn install_command(manager: Manager, packages: &[&str]) -> Vec<String> {
    let words: &[&str] = match manager {
        Manager::Apt => &["apt-get", "install", "-y", "--no-install-recommends"],
        Manager::Dnf => &["dnf", "install", "-y", "--setopt=install_weak_deps=False"],
        Manager::Pacman => &["pacman", "-S", "--needed", "--noconfirm"],
    };
    words.iter().chain(packages).map(|word| (*word).to_owned()).collect()
}

/// Returns where a program is. The directories of system programs are not in everybody's `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text)
    }

    #[test]
    fn each_distribution_has_its_manager() {
        for (text, expected) in [
            ("ID=debian", Some(Manager::Apt)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", Some(Manager::Apt)),
            ("ID=fedora", Some(Manager::Dnf)),
            ("ID=manjaro\nID_LIKE=arch", Some(Manager::Pacman)),
            ("ID=void", None),
        ] {
            assert_eq!(manager(&release(text)), expected, "{text}");
        }
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let few = |program: &str| !["lspci", "mke2fs", "qemu-img", "zstd"].contains(&program);
        assert_eq!(missing(Some(Manager::Apt), few), ["pciutils", "e2fsprogs", "zstd"]);
        let fewer = |program: &str| few(program) || ["mke2fs", "lspci"].contains(&program);
        assert_eq!(missing(Some(Manager::Dnf), fewer), ["qemu-img", "zstd"]);
        assert_eq!(missing(None, few), ["lspci", "mke2fs", "qemu-img", "zstd"]);
        let none = missing(Some(Manager::Pacman), |program| program != "lsinitramfs");
        assert!(none.is_empty(), "only Debian has it");
        assert_eq!(missing(None, |_| true), Vec::<&str>::new());
        assert_eq!(
            install_command(Manager::Pacman, &["qemu-img"]).join(" "),
            "pacman -S --needed --noconfirm qemu-img"
        );
    }
}
