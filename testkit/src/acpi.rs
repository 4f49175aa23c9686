//! ACPI tables of synthetic hosts, as bytes (Intel VT-d 4.1, chapter 8; AMD IOMMU 48882 3.08,
//! chapter 5).

/// Flag of [`dmar`]: the platform supports interrupt remapping.
pub const DMAR_INTERRUPT_REMAPPING: u8 = 1;

/// Returns a DMAR table with these remapping structures.
pub fn dmar(flags: u8, structures: &[Vec<u8>]) -> Vec<u8> {
    // A host address width of 39 bits, as most client processors have.
    let mut body = vec![38, flags];
    body.resize(12, 0);
    body.extend(structures.concat());
    table(b"DMAR", &body)
}

/// Returns a remapping unit.
pub fn drhd(segment: u16, base: u64, include_all: bool, scopes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![u8::from(include_all), 0];
    body.extend(segment.to_le_bytes());
    body.extend(base.to_le_bytes());
    body.extend(scopes.concat());
    structure(0, &body)
}

/// Returns reserved memory from `base` to the byte `end`.
pub fn rmrr(segment: u16, base: u64, end: u64, scopes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(segment.to_le_bytes());
    body.extend(base.to_le_bytes());
    body.extend(end.to_le_bytes());
    body.extend(scopes.concat());
    structure(1, &body)
}

/// Returns a device scope: 1 an endpoint, 2 a bridge with all below it.
pub fn scope(kind: u8, bus: u8, path: &[(u8, u8)]) -> Vec<u8> {
    let length = u8::try_from(6 + 2 * path.len()).expect("a short path");
    let mut bytes = vec![kind, length, 0, 0, 0, bus];
    bytes.extend(path.iter().flat_map(|(device, function)| [*device, *function]));
    bytes
}

/// Returns an IVRS table with these blocks.
pub fn ivrs(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0; 12];
    body.extend(blocks.concat());
    table(b"IVRS", &body)
}

/// Returns a hardware definition block with device entries; `id` is bus, device and function.
pub fn ivhd(kind: u8, segment: u16, id: u16, base: u64, entries: &[&[u8]]) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.extend(0x40u16.to_le_bytes());
    body.extend(base.to_le_bytes());
    body.extend(segment.to_le_bytes());
    body.resize(if kind == 0x10 { 20 } else { 36 }, 0);
    body.extend(entries.concat());
    block(kind, 0, &body)
}

/// Returns a memory definition block: 0x20 for all devices, 0x21 for `first`, 0x22 for the range.
pub fn ivmd(kind: u8, flags: u8, first: u16, last: u16, base: u64, length: u64) -> Vec<u8> {
    let mut body = first.to_le_bytes().to_vec();
    body.extend(last.to_le_bytes());
    body.extend([0; 8]);
    body.extend(base.to_le_bytes());
    body.extend(length.to_le_bytes());
    block(kind, flags, &body)
}

fn structure(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + body.len()).expect("a short structure");
    [&kind.to_le_bytes(), &length.to_le_bytes(), body].concat()
}

fn block(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + body.len()).expect("a short block");
    [&[kind, flags], &length.to_le_bytes()[..], body].concat()
}

/// A table with its header and checksum (ACPI 6.5, 5.2.6).
fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(36 + body.len()).expect("a short table");
    let mut bytes = signature.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend([1, 0]);
    bytes.extend(b"KIREJISYNTHHOST");
    bytes.resize(36, 0);
    bytes.extend(body);
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[9] = sum.wrapping_neg();
    bytes
}
