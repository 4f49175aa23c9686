//! Option ROMs of synthetic cards (PCI Firmware 3.3, 5.1; UEFI 2.10, 14.4.2).

/// Length of an image in blocks, and of a block in bytes.
const BLOCKS: u8 = 2;
const BLOCK: usize = 512;

/// Returns a ROM for a BIOS alone.
pub fn legacy(vendor: u16, device: u16) -> Vec<u8> {
    image(vendor, device, 0, true)
}

/// Returns a ROM for a BIOS and for UEFI.
pub fn both(vendor: u16, device: u16) -> Vec<u8> {
    [image(vendor, device, 0, false), image(vendor, device, 3, true)].concat()
}

fn image(vendor: u16, device: u16, code_type: u8, last: bool) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK * usize::from(BLOCKS)];
    bytes[..3].copy_from_slice(&[0x55, 0xaa, BLOCKS]);
    bytes[0x18] = 0x1c;
    let data = &mut bytes[0x1c..];
    data[..4].copy_from_slice(b"PCIR");
    data[4..6].copy_from_slice(&vendor.to_le_bytes());
    data[6..8].copy_from_slice(&device.to_le_bytes());
    data[0x0a] = 0x1c;
    data[0x0c] = 3;
    data[0x0f] = 3;
    data[0x10] = BLOCKS;
    data[0x14] = code_type;
    data[0x15] = u8::from(last) << 7;
    if code_type == 3 {
        bytes[4..8].copy_from_slice(&0x0ef1u32.to_le_bytes());
        bytes[0x08] = 11;
        bytes[0x0a..0x0c].copy_from_slice(&0x8664u16.to_le_bytes());
    }
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    let last = bytes.len() - 1;
    bytes[last] = sum.wrapping_neg();
    bytes
}
