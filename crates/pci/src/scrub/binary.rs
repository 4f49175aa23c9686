//! Files that are no text.

use std::io::{Read, Write};
use std::path::Path;

use super::mask::Mask;
use crate::config::ConfigSpace;
use crate::facts::KernelConfig;

/// Serial number, as an extended capability (PCI Express Base 6.0, 7.9.3).
const SERIAL_NUMBER: u16 = 0x0003;
/// What a packed kernel configuration may unpack to, in bytes.
const CONFIG_LIMIT: u64 = 4 << 20;

/// Returns what is kept of a file that is known to be no text; `None` for all others.
pub(super) fn clean(path: &Path, bytes: &[u8], mask: &Mask) -> Option<Vec<u8>> {
    let name = path.file_name()?.to_str()?;
    if name == "config" && path.starts_with("/sys/devices") {
        return Some(configuration(bytes));
    }
    if path.starts_with("/sys/firmware/acpi/tables") {
        return Some(bytes.to_vec());
    }
    if path == Path::new("/proc/config.gz") {
        return Some(kernel_configuration(bytes));
    }
    match name {
        "edid" => Some(edid(bytes)),
        // It is the maker's, the same in every card of a model.
        "rom" if path.starts_with("/sys/devices") => Some(bytes.to_vec()),
        "vpd_pg80" => Some(vital_product_data(bytes, mask)),
        _ if name.starts_with("SecureBoot-") => Some(bytes.to_vec()),
        _ if name.starts_with("LoaderDevicePartUUID-") => Some(utf16(bytes, mask)),
        // No other variable of the firmware's is needed.
        _ if path.starts_with("/sys/firmware/efi") => Some(Vec::new()),
        _ => None,
    }
}

/// The serial number of a card becomes zeros.
fn configuration(bytes: &[u8]) -> Vec<u8> {
    let mut clean = bytes.to_vec();
    let lists = ConfigSpace::new(bytes.to_vec()).capabilities();
    for capability in lists.extended.iter().filter(|one| one.id == SERIAL_NUMBER) {
        let at = usize::from(capability.offset) + 4;
        let end = (at + 8).min(clean.len());
        if let Some(number) = clean.get_mut(at..end) {
            number.fill(0);
        }
    }
    clean
}

/// Of a monitor's block the serial number and the date, and a descriptor with a serial number, go
/// (VESA E-EDID, 3.4 and 3.10.3); what follows the first block goes too.
fn edid(bytes: &[u8]) -> Vec<u8> {
    let Some(block) = bytes.get(..128) else { return Vec::new() };
    let mut clean = block.to_vec();
    clean[12..18].fill(0);
    for at in [54, 72, 90, 108] {
        // Two zeros begin a descriptor that is no timing; its type 0xff is a serial number.
        if clean[at] == 0 && clean[at + 1] == 0 && clean[at + 3] == 0xff {
            clean[at..at + 18].fill(0);
            clean[at + 3] = 0x10;
        }
    }
    clean[126] = 0;
    let sum = clean[..127].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    clean[127] = sum.wrapping_neg();
    clean
}

fn vital_product_data(bytes: &[u8], mask: &Mask) -> Vec<u8> {
    let Some((head, number)) = bytes.split_at_checked(4) else { return Vec::new() };
    let masked = mask.of(&String::from_utf8_lossy(number));
    [head, masked.as_bytes()].concat()
}

/// Text of a variable: four bytes of attributes, then UTF-16.
fn utf16(bytes: &[u8], mask: &Mask) -> Vec<u8> {
    let Some((head, text)) = bytes.split_at_checked(4) else { return Vec::new() };
    let units = text.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map_while(Result::ok).collect();
    let masked = mask.text(&text);
    [head.to_vec(), masked.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()
}

fn kernel_configuration(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(packed).take(CONFIG_LIMIT).read_to_end(&mut bytes);
    if unpacked.is_err() {
        return Vec::new();
    }
    let needed = KernelConfig::needed(&String::from_utf8_lossy(&bytes));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory cannot fail; if it did, an empty file would say that nothing is known.
    encoder.write_all(needed.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default()
}
