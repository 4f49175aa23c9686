//! What the lab runs with: a QEMU, a kernel, and what it puts into rigs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use host::Sysroot;

use crate::arguments::MemoryDisk;
use guest::kernel::{Kernel, KernelError};

/// The environment variable that names a provisioned lab's directory.
pub const LAB_DIR_VARIABLE: &str = "KIREJI_LAB_DIR";

/// Where the tools disk is mounted inside a rig.
pub const MOUNT_POINT: &str = "/lab";

/// The program that runs rigs, and its name inside of them.
pub const QEMU: &str = "qemu-system-x86_64";

/// The programs of a provisioned lab that are started by a launcher.
pub const LAUNCHED: [&str; 2] = [QEMU, "qemu-img"];

/// The lab's equipment is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// There is no QEMU.
    #[error("no {QEMU} in {}", places.join(", "))]
    NoQemu {
        /// Where it was looked for.
        places: Vec<String>,
    },
    /// A directory that should hold a provisioned lab does not.
    #[error("{} is not a provisioned lab: it has no {missing}", dir.display())]
    NotLab {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// There is no kernel to boot.
    #[error("the lab has no kernel to boot")]
    Kernel(#[from] KernelError),
}

/// What the lab runs with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// QEMU for rigs.
    pub qemu: PathBuf,
    /// The kernel that rigs boot unless they name another.
    pub kernel: Option<Kernel>,
    /// A static busybox to put into rigs, for a shell and the usual small commands.
    pub busybox: Option<PathBuf>,
    /// The disk with QEMU for inner guests.
    pub disk: Option<MemoryDisk>,
    /// The release of the kernel on that disk.
    pub disk_release: Option<String>,
}

impl Tools {
    /// Returns the provisioned lab in `dir`: `bin/` holds launchers, `root/` an unpacked tree with
    /// a kernel, and `tools.img` the same tree as a disk.
    ///
    /// # Errors
    /// The directory does not hold all of that.
    pub fn provisioned(host: &Sysroot, dir: &Path) -> Result<Self, ToolsError> {
        let missing = |missing| ToolsError::NotLab { dir: dir.to_owned(), missing };
        let there = |path: &str| Some(dir.join(path)).filter(|path| host.exists(path));
        let qemu =
            there("bin/qemu-system-x86_64").ok_or_else(|| missing("bin/qemu-system-x86_64"))?;
        let names = host.names(dir.join("root/boot")).unwrap_or_default();
        let image = names.iter().find(|name| name.starts_with("vmlinuz-"));
        let image = image.ok_or_else(|| missing("root/boot/vmlinuz-*"))?;
        let kernel = Kernel::at(host, &dir.join("root/boot").join(image))?;
        let disk = there("tools.img").ok_or_else(|| missing("tools.img"))?;
        let size = host.locate(&disk).metadata().map_err(|_| missing("tools.img"))?.len();
        let release = kernel.modules.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            qemu,
            kernel: Some(kernel),
            busybox: there("root/usr/bin/busybox"),
            disk: Some(MemoryDisk { image: disk, size }),
            disk_release: release,
        })
    }

    /// Returns the equipment at hand: the provisioned lab that `dir` names
    /// ([`LAB_DIR_VARIABLE`]); else the one in the cache directory, if there is one; else the
    /// host's own QEMU from `path` (`PATH`) and its running kernel.
    ///
    /// # Errors
    /// `dir` is no provisioned lab, or there is no QEMU at all.
    pub fn find(
        host: &Sysroot,
        dir: Option<&Path>,
        cache: &Path,
        path: Option<&OsStr>,
    ) -> Result<Self, ToolsError> {
        if let Some(dir) = dir {
            return Self::provisioned(host, dir);
        }
        let cached = cache.join("lab/current");
        if host.exists(&cached) {
            return Self::provisioned(host, &cached);
        }
        let places: Vec<PathBuf> = std::env::split_paths(path.unwrap_or_default()).collect();
        let found = places.iter().map(|dir| dir.join(QEMU)).find(|path| host.exists(path));
        let Some(qemu) = found else {
            let mut places: Vec<String> =
                places.iter().map(|dir| dir.display().to_string()).collect();
            places.push(cached.display().to_string());
            return Err(ToolsError::NoQemu { places });
        };
        let busybox = ["/bin/busybox", "/usr/bin/busybox", "/usr/bin/busybox.static"];
        Ok(Self {
            qemu,
            kernel: Kernel::running(host).ok(),
            busybox: busybox.iter().map(PathBuf::from).find(|path| host.exists(path)),
            disk: None,
            disk_release: None,
        })
    }
}

/// Returns the launcher of the program `name` in an unpacked tree: a script that starts it by the
/// tree's own loader with the tree's own libraries and data, so that it runs on a host whose
/// libraries are of another age. `root` is the tree as the script's `shell` will see it.
pub fn launcher(root: &str, shell: &str, name: &str) -> String {
    let root = quoted(root);
    let data = if name == QEMU {
        format!(" -L {root}/usr/share/qemu -L {root}/usr/share/seabios")
    } else {
        String::new()
    };
    format!(
        "#!{shell}\n\
         QEMU_MODULE_DIR={root}/usr/lib/x86_64-linux-gnu/qemu\n\
         export QEMU_MODULE_DIR\n\
         exec {root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 \
         --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/bin/{name}{data} \"$@\"\n"
    )
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_runs_the_program_of_the_tree() {
        let script = launcher("/lab", "/lab/usr/bin/busybox sh", QEMU);
        insta::assert_snapshot!(script);
        let script = launcher("/a b/it's", "/bin/sh", "qemu-img");
        assert!(script.contains(r"exec '/a b/it'\''s'/usr/lib"), "{script}");
        assert!(!script.contains("-L"), "{script}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        let error = Tools::provisioned(&host, Path::new("/lab")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/lab is not a provisioned lab: it has no bin/qemu-system-x86_64"
        );
        let path = OsStr::new("/usr/bin:/bin");
        let error = Tools::find(&host, None, Path::new("/cache"), Some(path)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no qemu-system-x86_64 in /usr/bin, /bin, /cache/lab/current"
        );
    }
}
