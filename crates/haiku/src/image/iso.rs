//! The ISO 9660 file system (ECMA-119).

use std::io;

use super::source::Source;

/// Sector 16 of 2048 bytes holds the first volume descriptor (ECMA-119, 6.2.1).
const FIRST_DESCRIPTOR: u64 = 16 * 2048;

/// Returns the name of the volume, if there is a primary volume descriptor (ECMA-119, 8.4).
pub(super) fn volume_name(disk: &dyn Source) -> io::Result<Option<String>> {
    let descriptor = disk.read_up_to(FIRST_DESCRIPTOR, 2048)?;
    if descriptor.get(1..6) != Some(b"CD001") {
        return Ok(None);
    }
    let name = descriptor.get(40..72).unwrap_or_default();
    let printable = name.iter().map(|byte| match byte {
        0x20..=0x7e => char::from(*byte),
        _ => '?',
    });
    Ok(Some(printable.collect::<String>().trim_end().to_owned()))
}
