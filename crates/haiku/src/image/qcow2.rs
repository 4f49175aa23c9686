//! The header of a qcow2 file (docs/interop/qcow2.txt of QEMU).

/// The first four bytes.
pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) has_backing: bool,
    pub(super) virtual_size: u64,
}

impl Header {
    /// Parses the header; the error says what is wrong.
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let cut = "its qcow2 header is cut off";
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?))
        };
        let long = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?))
        };
        let version = word(4).ok_or(cut)?;
        if !matches!(version, 2 | 3) {
            return Err("its qcow2 version is neither 2 nor 3");
        }
        // Version 3 headers are at least 104 bytes, those of version 2 are 72.
        let length = if version == 2 { 72 } else { 104 };
        let (backing, size) = (long(8).ok_or(cut)?, long(24).ok_or(cut)?);
        if head.len() < length {
            return Err(cut);
        }
        if size == 0 {
            return Err("its qcow2 header describes a disk of no size");
        }
        Ok(Self { version, has_backing: backing != 0, virtual_size: size })
    }
}
