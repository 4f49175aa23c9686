//! A kernel image without its wrapping.
//!
//! An x86 kernel image is a small program that unpacks the kernel proper, an ELF file. Where the
//! processor is emulated that takes seconds, and minutes if the emulator itself is emulated; so it
//! is done here, and QEMU starts the ELF file by its PVH entry.

use std::io::{self, Read};

use object::LittleEndian;
use object::elf::{FileHeader64, NoteType, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// What the kernel may hold when unpacked, in bytes; Debian's holds 58 million.
const UNPACKED_LIMIT: u64 = 512 << 20;

/// The note with the entry point that QEMU looks for: type `XEN_ELFNOTE_PHYS32_ENTRY` of owner
/// `Xen` (the kernel's include/xen/interface/elfnote.h; QEMU's hw/i386/x86-common.c, load_elfboot).
const PVH_OWNER: &[u8] = b"Xen";
const PVH_TYPE: NoteType = NoteType(18);

// Offsets of the setup header (the kernel's Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const PREFERRED_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
const SECTOR: usize = 512;

/// The first version whose header has the payload's place.
const WITH_PAYLOAD: u16 = 0x208;
/// The first version whose header has the kernel's size in memory.
const WITH_SIZE: u16 = 0x20a;

/// Returns the ELF file in a kernel image, if it is packed in a way known here and can be started
/// by itself.
pub(super) fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let version = u16::from_le_bytes(bytes(image, VERSION)?);
    if bytes(image, MAGIC)? != *b"HdrS" || version < WITH_PAYLOAD {
        return None;
    }
    // Zero stands for four (boot.rst, `setup_sects`).
    let setup = match *image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((setup + 1) * SECTOR).checked_add(number(image, PAYLOAD_OFFSET)?)?;
    let end = start.checked_add(number(image, PAYLOAD_LENGTH)?)?;
    let payload = image.get(start..end)?;
    let kernel = match payload {
        [0x1f, 0x8b, ..] => bounded(flate2::read::GzDecoder::new(payload)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => bounded(liblzma::read::XzDecoder::new(payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::stream::read::Decoder::new(payload)
            // The length follows, which is no frame.
            .and_then(|decoder| bounded(decoder.single_frame())),
        _ => return None,
    };
    kernel.ok().filter(|kernel| has_pvh_entry(kernel).unwrap_or(false))
}

/// Returns how much memory from address zero the kernel needs until it runs, in bytes.
pub(super) fn memory(image: &[u8]) -> Option<u64> {
    if u16::from_le_bytes(bytes(image, VERSION)?) < WITH_SIZE {
        return None;
    }
    let address = u64::from_le_bytes(bytes(image, PREFERRED_ADDRESS)?);
    let size = u32::from_le_bytes(bytes(image, INIT_SIZE)?);
    address.checked_add(u64::from(size)).filter(|end| *end < UNPACKED_LIMIT)
}

fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(UNPACKED_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn has_pvh_entry(kernel: &[u8]) -> object::read::Result<bool> {
    let header = FileHeader64::<LittleEndian>::parse(kernel)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, kernel)?;
    let is_whole = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .all(|segment| segment.data(endian, kernel).is_ok());
    for segment in segments {
        let Some(mut notes) = segment.notes(endian, kernel)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == PVH_OWNER && note.n_type(endian) == PVH_TYPE {
                return Ok(is_whole);
            }
        }
    }
    Ok(false)
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..at + N)?.try_into().ok()
}

fn number(image: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes(image, at)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An ELF file with one note.
    fn kernel(owner: &[u8; 3], kind: NoteType) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56 + 20];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2;
        elf[18] = 62;
        elf[20] = 1;
        elf[32] = 64;
        elf[52] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 4;
        elf[72] = 120;
        elf[96] = 20;
        elf[112] = 4;
        elf[120] = 4;
        elf[124] = 4;
        elf[128..132].copy_from_slice(&kind.0.to_le_bytes());
        elf[132..135].copy_from_slice(owner);
        elf
    }

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 64];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET] = 64;
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length);
        image[PREFERRED_ADDRESS + 3] = 1;
        image[INIT_SIZE + 2] = 0x20;
        image.extend(payload);
        image
    }

    /// As the kernel's build packs it: with the length at the end, but for gzip, which has its own.
    fn packed(kind: &str, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        match kind {
            "gzip" => {
                let mut packer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(bytes).unwrap();
                packer.finish().unwrap()
            }
            "xz" => {
                let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 0);
                packer.write_all(bytes).unwrap();
                [packer.finish().unwrap(), length.to_vec()].concat()
            }
            "zstd" => [zstd::encode_all(bytes, 1).unwrap(), length.to_vec()].concat(),
            _ => bytes.to_vec(),
        }
    }

    #[test]
    fn the_kernel_is_unpacked_if_qemu_can_start_it() {
        let startable = kernel(b"Xen", PVH_TYPE);
        for kind in ["gzip", "xz", "zstd"] {
            let image = image(&packed(kind, &startable));
            assert_eq!(unpack(&image).as_deref(), Some(&startable[..]), "{kind}");
            assert_eq!(memory(&image), Some(0x0120_0000));
            for end in 0..image.len() {
                let part = unpack(&image[..end]);
                assert_eq!(part, None, "{kind} cut at {end}");
            }
        }
        assert_eq!(unpack(&image(&packed("lz4", &startable))), None);
        for other in [kernel(b"Xen", NoteType(17)), kernel(b"GNU", PVH_TYPE), b"\x7fELF".to_vec()] {
            assert_eq!(unpack(&image(&packed("zstd", &other))), None);
        }
        assert_eq!(unpack(b""), None);
        assert_eq!(memory(b""), None);
    }
}
