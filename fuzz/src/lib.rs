//! What the fuzz targets do: each function gives bytes that nobody vouches for to one parser, and
//! checks what must hold whatever they are.
//!
//! Under `cargo fuzz` the programs in `fuzz_targets` feed them with libFuzzer. Built without it,
//! on any toolchain, the same programs run the inputs that they are given, or the seeds; so does
//! the test of this crate.

mod answers;
mod bfs_volumes;
mod boot_files;
mod disks;
mod firmware_tables;
mod haiku_files;
mod host_files;
mod machines;
mod pci_bytes;
mod scratch;
mod streams;

use std::path::{Path, PathBuf};

pub use answers::vfio_answer;
pub use bfs_volumes::bfs_volume;
pub use boot_files::{assignments, boot_entry, initramfs, uki};
pub use disks::{disk, haiku_image};
pub use firmware_tables::{dmar, ivrs};
pub use haiku_files::{haiku_driver, haiku_package, haiku_symbols};
pub use host_files::{journal, modules, pci_ids, snapshot};
pub use machines::{capabilities, diagnosis, rig};
pub use pci_bytes::{address, config_space, option_rom};
pub use streams::{channel, kdl, qmp, serial};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// A function that must not panic, whatever it gets.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its program and of the directory of its seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("address", address),
    ("assignments", assignments),
    ("bfs_volume", bfs_volume),
    ("boot_entry", boot_entry),
    ("capabilities", capabilities),
    ("channel", channel),
    ("config_space", config_space),
    ("diagnosis", diagnosis),
    ("disk", disk),
    ("dmar", dmar),
    ("haiku_driver", haiku_driver),
    ("haiku_image", haiku_image),
    ("haiku_package", haiku_package),
    ("haiku_symbols", haiku_symbols),
    ("initramfs", initramfs),
    ("ivrs", ivrs),
    ("journal", journal),
    ("kdl", kdl),
    ("modules", modules),
    ("option_rom", option_rom),
    ("pci_ids", pci_ids),
    ("qmp", qmp),
    ("rig", rig),
    ("serial", serial),
    ("snapshot", snapshot),
    ("uki", uki),
    ("vfio_answer", vfio_answer),
];

/// Makes the program of a target.
#[cfg(fuzzing)]
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$target(data));
    };
}

/// Makes the program of a target.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        fn main() -> std::io::Result<()> {
            $crate::replay(stringify!($target), $crate::$target)
        }
    };
}

/// Runs a target on the files and directories that the program was given, or on its seeds.
///
/// # Errors
/// One of them cannot be read.
pub fn replay(name: &str, target: Target) -> std::io::Result<()> {
    let mut given: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if given.is_empty() {
        given.push(seeds(name));
    }
    let mut count = 0;
    for path in given {
        let files = if path.is_dir() { files(&path)? } else { vec![path] };
        for file in files {
            println!("{}", file.display());
            target(&std::fs::read(file)?);
            count += 1;
        }
    }
    println!("{name}: {count} inputs");
    Ok(())
}

/// The directory with the seeds of a target.
pub fn seeds(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name)
}

/// The files in a directory, by name.
///
/// # Errors
/// The directory cannot be read.
pub fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<Result<Vec<_>, _>>()?;
    files.sort_unstable();
    Ok(files)
}

/// The input as text, as every reader of text here takes it.
fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
