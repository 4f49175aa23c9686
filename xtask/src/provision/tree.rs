//! From packages to a tree that the lab can run from.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use host::SystemRunner;
use lab::tools::{LAUNCHED, launcher};

use crate::process;

/// Where the tree has its loader and its libraries.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What packages bring that the lab has no use for; most of its size is programs for other
/// machines.
pub const UNNEEDED: [&str; 12] = [
    "etc",
    "usr/bin/kvm",
    "usr/bin/qemu-system-amd64",
    "usr/bin/qemu-system-i386",
    "usr/bin/qemu-system-x86_64-microvm",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var",
];

/// Unpacks the archives into `root`.
pub fn unpack(archives: &[PathBuf], root: &Path) -> Result<()> {
    for archive in archives {
        process::output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(root))?;
    }
    for path in UNNEEDED.map(|path| root.join(path)) {
        let removed = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    make_readable(root)
}

/// A kernel image may be packed for root's eyes only.
fn make_readable(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root.join("boot")).context("no kernel among the packages")? {
        let path = entry?.path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Writes the indexes that depmod(8) would write when the kernel is installed.
pub fn index_modules(root: &Path) -> Result<()> {
    let modules = root.join("usr/lib/modules");
    let release = match std::fs::read_dir(&modules).context("no kernel modules")?.next() {
        Some(release) => release?.file_name(),
        None => bail!("no kernel modules in {}", modules.display()),
    };
    // depmod looks in lib/modules, which the unpacked tree has in usr alone.
    let link = root.join("lib");
    std::os::unix::fs::symlink("usr/lib", &link)?;
    let mut depmod = loader(root);
    depmod.args(["--argv0", "depmod"]).arg(root.join("usr/bin/kmod"));
    depmod.arg("-b").arg(root).arg(&release);
    process::output(&mut depmod)?;
    Ok(std::fs::remove_file(link)?)
}

/// Returns the tree's own loader, to be given a program of the tree.
pub fn loader(root: &Path) -> Command {
    let libraries = root.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(libraries);
    command
}

/// Makes a disk image with the tree on it. Neither root nor a loop device is needed.
pub fn make_disk(root: &Path, image: &Path) -> Result<()> {
    let used = process::output(Command::new("du").args(["-s", "--block-size=1"]).arg(root))?;
    let used: u64 = used.split_whitespace().next().context("du printed nothing")?.parse()?;
    // Room for what ext4 itself needs; a multiple of 2 MiB, as an NVDIMM must be.
    let bytes = (used + used / 10 + (16 << 20)).next_multiple_of(2 << 20);
    std::fs::File::create(image)?.set_len(bytes)?;
    let root = root.to_str().context("the cache directory's name is not UTF-8")?;
    let arguments = ["-L", "kireji-tools", "-E", "root_owner=0:0", "-d", root];
    Ok(lab::disk::mke2fs(&SystemRunner, &arguments, image)?)
}

/// Writes the launchers of the tree's programs. `root` is where the tree will be in the end.
pub fn write_launchers(bin: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(bin)?;
    let root = root.to_str().context("the cache directory's name is not UTF-8")?;
    for name in LAUNCHED {
        let path = bin.join(name);
        std::fs::write(&path, launcher(root, "/bin/sh", name))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
