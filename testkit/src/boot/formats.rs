//! Archives and unified kernel images, written just well enough to be read.

/// Returns an archive of the `newc` kind, not packed
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
pub fn archive<'a>(files: impl IntoIterator<Item = (&'a str, u32, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, mode, contents) in files {
        member(&mut bytes, name, mode, contents);
    }
    member(&mut bytes, "TRAILER!!!", 0, &[]);
    bytes
}

fn member(bytes: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let (size, length) = (contents.len(), name.len() + 1);
    bytes.extend(format!("070701{:08X}{mode:08X}", 0).bytes());
    bytes.extend("00000000".repeat(4).bytes());
    bytes.extend(format!("{size:08X}").bytes());
    bytes.extend("00000000".repeat(4).bytes());
    bytes.extend(format!("{length:08X}{:08X}", 0).bytes());
    bytes.extend(name.bytes());
    bytes.push(0);
    pad(bytes, 4);
    bytes.extend(contents);
    pad(bytes, 4);
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// Returns a PE file of 64 bits with sections, as the specification lays it out (PE Format,
/// Microsoft).
///
/// # Panics
/// A section is too large for a test.
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x40];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0");
    bytes.extend(0x8664_u16.to_le_bytes());
    bytes.extend(u16::try_from(sections.len()).expect("few sections").to_le_bytes());
    bytes.extend([0; 12]);
    // The optional header without data directories.
    bytes.extend(112_u16.to_le_bytes());
    bytes.extend([0; 2]);
    let mut optional = [0; 112];
    optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
    bytes.extend(optional);
    let mut at = (bytes.len() + sections.len() * 40).next_multiple_of(512);
    let mut contents = Vec::new();
    for (index, (name, data)) in sections.iter().enumerate() {
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let raw = data.len().next_multiple_of(512);
        for (place, value) in [(8, data.len()), (12, 0x1000 * (index + 1)), (16, raw), (20, at)] {
            let value = u32::try_from(value).expect("a small section");
            header[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend(header);
        contents.push((at, *data, raw));
        at += raw;
    }
    for (at, data, raw) in contents {
        bytes.resize(at, 0);
        bytes.extend_from_slice(data);
        bytes.resize(at + raw, 0);
    }
    bytes
}
