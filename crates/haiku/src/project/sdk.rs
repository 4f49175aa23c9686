//! What a revision of Haiku gives to build a driver against: the headers and the kernel to link
//! against, of its package `haiku_devel`; or the kernel only, of its package `haiku`.

use crate::hpkg::{EntryKind, HpkgError, Package, PackageSource};
use crate::packages::followed;

/// Where the headers are in `haiku_devel`.
const HEADERS: &str = "develop/headers/";
/// Where it has the kernel to link against.
const STUB: &str = "develop/lib/_KERNEL_";
/// The kernel in the package `haiku`.
const KERNEL: &str = "kernel_x86_64";
/// Bytes of all files together; those of Haiku have about 20 MiB.
pub const LARGEST_SDK: u64 = 256 << 20;

/// There is nothing to build against.
#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] HpkgError),
    /// It has neither headers nor a kernel.
    #[error("the package `{0}` has neither headers nor a kernel; `haiku_devel` has both")]
    Nothing(String),
    /// It has more than is believed.
    #[error("the files have more than {LARGEST_SDK} bytes")]
    TooLarge,
}

/// Files to build a driver against. Links in the package are files here.
#[derive(Clone, Debug, Default)]
pub struct Sdk {
    /// The package's name and version.
    pub package: String,
    /// Each file's path and what it holds. No path leads out of the directory they are put in.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Sdk {
    /// Reads it from a package.
    ///
    /// # Errors
    /// The package cannot be read, or has nothing to build against.
    pub fn read<S: PackageSource>(package: &mut Package<S>) -> Result<Self, SdkError> {
        let info = package.info()?;
        let mut this =
            Self { package: format!("{} {}", info.name, info.version), files: Vec::new() };
        let entries = package.entries()?;
        let mut left = LARGEST_SDK;
        for entry in &entries {
            let Ok(path) = std::str::from_utf8(&entry.path) else { continue };
            let wanted = path.starts_with(HEADERS) || path == STUB || path == KERNEL;
            if !wanted {
                continue;
            }
            let data = match &entry.kind {
                EntryKind::File(data) => data,
                EntryKind::Directory => continue,
                EntryKind::Symlink(target) => {
                    let target = followed(path, &String::from_utf8_lossy(target));
                    let found = entries.iter().find(|other| {
                        target.as_ref().is_some_and(|target| other.path == target.as_bytes())
                    });
                    match found.map(|found| &found.kind) {
                        Some(EntryKind::File(data)) => data,
                        // A link to a directory only gives headers a second name.
                        _ => continue,
                    }
                }
            };
            left = left.checked_sub(data.size()).ok_or(SdkError::TooLarge)?;
            let mut bytes = package.read_all(data, LARGEST_SDK)?;
            let path = if path == KERNEL {
                shared(&mut bytes);
                STUB
            } else {
                path
            };
            this.files.push((path.to_owned(), bytes));
        }
        if this.files.is_empty() { Err(SdkError::Nothing(info.name)) } else { Ok(this) }
    }

    /// Whether it has headers.
    pub fn has_headers(&self) -> bool {
        self.files.iter().any(|(path, _)| path.starts_with(HEADERS))
    }

    /// Whether it has the kernel to link against.
    pub fn has_kernel(&self) -> bool {
        self.files.iter().any(|(path, _)| path == STUB)
    }
}

/// The kernel as a shared object, which linkers take: Haiku makes its `_KERNEL_` so, by changing
/// the type of the file (src/system/kernel/Jamfile).
fn shared(kernel: &mut [u8]) {
    if kernel.starts_with(b"\x7fELF")
        && let Some(kind) = kernel.get_mut(16..18)
    {
        kind.copy_from_slice(&object::elf::ET_DYN.0.to_le_bytes());
    }
}
