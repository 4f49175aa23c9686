//! The firmware files that drivers load into their cards.

use host::{ReadError, Sysroot};
use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

use crate::initramfs::{Initramfs, InitramfsError};

/// What one file may hold, in bytes; the largest of linux-firmware hold forty million.
const FILE_LIMIT: u64 = 128 << 20;

/// How the file may be packed, for kernels that unpack it (`CONFIG_FW_LOADER_COMPRESS`).
const PACKED: [&str; 3] = ["", ".zst", ".xz"];

/// Adds the firmware that a module names, where the host has it. Drivers name what any of their
/// cards may need, so that most of it is missing on most hosts.
pub(super) fn add(
    tree: &mut Initramfs,
    host: &Sysroot,
    release: &str,
    module: &[u8],
) -> Result<(), InitramfsError> {
    // The order in which the kernel looks (its Documentation/driver-api/firmware/
    // fw_search_path.rst).
    let dirs = [
        format!("lib/firmware/updates/{release}"),
        "lib/firmware/updates".to_owned(),
        format!("lib/firmware/{release}"),
        "lib/firmware".to_owned(),
    ];
    for name in names(module) {
        // A module is input like any other.
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            continue;
        }
        for path in dirs.iter().flat_map(|dir| PACKED.map(|end| format!("{dir}/{name}{end}"))) {
            if tree.contains(&path) {
                break;
            }
            match host.read_limited(format!("/{path}"), FILE_LIMIT) {
                Ok(bytes) => {
                    tree.file(&path, 0o644, bytes)?;
                    break;
                }
                Err(error) if is_no_file(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// A name may be a pattern or a directory, which the kernel could not load either.
fn is_no_file(error: &ReadError) -> bool {
    error.is_absent() || error.source.kind() == std::io::ErrorKind::IsADirectory
}

/// Returns what a module's `.modinfo` section says of `firmware` (include/linux/module.h,
/// MODULE_FIRMWARE): strings `KEY=VALUE`, each ended by a zero byte.
fn names(module: &[u8]) -> Vec<String> {
    let section = || -> Option<&[u8]> {
        let header = FileHeader64::<LittleEndian>::parse(module).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, module).ok()?;
        let (_, section) = sections.section_by_name(endian, b".modinfo")?;
        section.data(endian, module).ok()
    };
    let entries = section().unwrap_or_default().split(|byte| *byte == 0);
    let values = entries.filter_map(|entry| entry.strip_prefix(b"firmware="));
    values.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
