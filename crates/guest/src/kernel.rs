//! A Linux kernel to boot, and its modules.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};

/// The kernel image may hold this many bytes at most; the largest seen hold twenty million.
pub(crate) const IMAGE_LIMIT: u64 = 256 << 20;

/// No kernel could be had.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The image cannot be read.
    #[error("the kernel cannot be read")]
    Read(#[from] ReadError),
    /// The file is not an x86 Linux kernel.
    #[error("{} is not a Linux kernel for x86", image.display())]
    NotKernel {
        /// The file.
        image: PathBuf,
    },
    /// The kernel's modules are not where they belong.
    #[error("no modules for {} (release {release}) beside it or in /lib/modules", image.display())]
    NoModules {
        /// The kernel's image.
        image: PathBuf,
        /// Its release.
        release: String,
    },
    /// The running kernel's image is in none of the usual places.
    #[error("no kernel image for the running kernel {release} in /boot or /lib/modules")]
    NotFound {
        /// The running kernel's release.
        release: String,
    },
}

impl KernelError {
    /// Returns what the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            // Ubuntu lets only root read it.
            Self::Read(error) if error.is_denied() => Some(format!(
                "only root may read {}; run as root, or name a copy of it with --kernel",
                error.path.display()
            )),
            Self::NotFound { .. } => Some("name a kernel's image with --kernel".to_owned()),
            Self::NoModules { release, .. } => {
                Some(format!("install the modules of Linux {release}, or name another kernel"))
            }
            _ => None,
        }
    }
}

/// A kernel with its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// The directory that holds its `modules.dep`.
    pub modules: PathBuf,
}

impl Kernel {
    /// Returns the kernel in the file `image` with its modules, which lie in the same directory,
    /// in `lib/modules` or `usr/lib/modules` of the tree whose `boot` holds the image, or in
    /// the host's `/lib/modules`.
    ///
    /// # Errors
    /// The file is not a kernel, or its modules are nowhere.
    pub fn at(host: &Sysroot, image: &Path) -> Result<Self, KernelError> {
        let image = std::path::absolute(image).unwrap_or_else(|_| image.to_owned());
        let release = release(&host.read_limited(&image, IMAGE_LIMIT)?)
            .ok_or_else(|| KernelError::NotKernel { image: image.clone() })?;
        let dir = image.parent().unwrap_or(Path::new("/"));
        let tree = dir.parent().unwrap_or(Path::new("/"));
        let candidates = [
            dir.to_owned(),
            tree.join("usr/lib/modules").join(&release),
            tree.join("lib/modules").join(&release),
            Path::new("/lib/modules").join(&release),
        ];
        // A directory of another release may hold modules too.
        let own = |dir: &PathBuf| dir.file_name() == Some(OsStr::new(&release));
        match candidates.into_iter().find(|dir| own(dir) && host.exists(dir.join("modules.dep"))) {
            Some(modules) => Ok(Self { image, modules }),
            None => Err(KernelError::NoModules { image, release }),
        }
    }

    /// Returns the kernel that the host runs.
    ///
    /// # Errors
    /// Its image or modules are in none of the usual places.
    pub fn running(host: &Sysroot) -> Result<Self, KernelError> {
        let release = host.text("/proc/sys/kernel/osrelease")?;
        let images = [
            format!("/boot/vmlinuz-{release}"),
            format!("/lib/modules/{release}/vmlinuz"),
            format!("/usr/lib/modules/{release}/vmlinuz"),
        ];
        match images.iter().find(|image| host.exists(image)) {
            Some(image) => Self::at(host, Path::new(image)),
            None => Err(KernelError::NotFound { release }),
        }
    }
}

/// Returns the release that a kernel image names in its header (`kernel_version`: the kernel's
/// Documentation/arch/x86/boot.rst).
fn release(image: &[u8]) -> Option<String> {
    const MAGIC: usize = 0x202;
    const VERSION: usize = 0x20e;
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let offset: [u8; 2] = image.get(VERSION..VERSION + 2)?.try_into().ok()?;
    let at = usize::from(u16::from_le_bytes(offset)) + 0x200;
    let text = image.get(at..)?.split(|byte| matches!(byte, 0 | b' ')).next()?;
    let release = std::str::from_utf8(text).ok()?;
    // It becomes part of a path.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let good = (1..=64).contains(&release.len()) && release.chars().all(plain);
    (good && !release.starts_with('.')).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    #[test]
    fn the_release_is_read_from_the_header() {
        assert_eq!(
            release(&image("6.12.1+deb13-amd64 (me@here) #1")).unwrap(),
            "6.12.1+deb13-amd64"
        );
        assert_eq!(release(&image("../../x")), None);
        assert_eq!(release(&image("")), None);
        assert_eq!(release(b"\x7fELF"), None);
    }

    #[test]
    fn modules_are_found_beside_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("lab/boot/vmlinuz-6.1.0", &image("6.1.0 x"));
        let at = || Kernel::at(&host, Path::new("/lab/boot/vmlinuz-6.1.0"));
        assert!(matches!(at(), Err(KernelError::NoModules { .. })));
        put("lib/modules/6.1.0/modules.dep", b"");
        assert_eq!(at().unwrap().modules, Path::new("/lib/modules/6.1.0"));
        put("lab/usr/lib/modules/6.1.0/modules.dep", b"");
        assert_eq!(at().unwrap().modules, Path::new("/lab/usr/lib/modules/6.1.0"));
        put("proc/sys/kernel/osrelease", b"6.1.0\n");
        assert!(matches!(Kernel::running(&host), Err(KernelError::NotFound { .. })));
        put("boot/vmlinuz-6.1.0", &image("6.1.0 x"));
        assert_eq!(Kernel::running(&host).unwrap().modules, Path::new("/lib/modules/6.1.0"));
    }
}
