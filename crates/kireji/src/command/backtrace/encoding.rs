//! Logs that are compressed, or text in UTF-16: known by how they begin, and read as they come.

use std::io::{self, BufReader, Cursor, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// The most memory that unpacking xz may take, in bytes; what `xz -9` packs takes 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// So many bytes of the beginning tell.
const HEAD: u64 = 6;
/// Packings within one another that are taken off.
const LAYERS: usize = 3;

type Bytes = Box<dyn Read>;

/// Returns the plain text of a log.
///
/// # Errors
/// It cannot be read, or has more layers than anybody would make.
pub(super) fn plain(mut log: Bytes) -> io::Result<Bytes> {
    for _ in 0..LAYERS {
        let mut head = Vec::new();
        log.by_ref().take(HEAD).read_to_end(&mut head)?;
        let whole = Cursor::new(head.clone()).chain(log);
        log = match head[..] {
            // RFC 1952, 2.3.1.
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
            // RFC 8878, 3.1.1.
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(whole)?),
            // The .xz file format, 2.1.1.1.
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(whole, stream))
            }
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(whole)),
            // The Unicode standard, 2.13: the mark of the order of bytes.
            [0xff, 0xfe, ..] => return Ok(Box::new(Utf16::new(whole, u16::from_le_bytes))),
            [0xfe, 0xff, ..] => return Ok(Box::new(Utf16::new(whole, u16::from_be_bytes))),
            _ => return Ok(Box::new(whole)),
        };
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is packed again and again"))
}

/// Text in UTF-16 as UTF-8, its mark left out. What is no text becomes U+FFFD.
struct Utf16<R> {
    units: BufReader<R>,
    unit: fn([u8; 2]) -> u16,
    /// The first half of a surrogate pair.
    high: Option<u16>,
    /// What is ready, and how much of it was taken.
    ready: Vec<u8>,
    taken: usize,
}

impl<R: Read> Utf16<R> {
    fn new(log: R, unit: fn([u8; 2]) -> u16) -> Self {
        Self { units: BufReader::new(log), unit, high: None, ready: Vec::new(), taken: 0 }
    }

    /// Makes more ready; nothing at the end.
    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.taken = 0;
        let mut bytes = Vec::new();
        // An even number, so that a unit is never cut but at the end.
        self.units.by_ref().take(16 << 10).read_to_end(&mut bytes)?;
        let mut units: Vec<u16> = self.high.take().into_iter().collect();
        units.extend(bytes.as_chunks().0.iter().map(|pair| (self.unit)(*pair)));
        if !bytes.is_empty() {
            self.high = units.pop_if(|unit| (0xd800..0xdc00).contains(unit));
        }
        for letter in char::decode_utf16(units) {
            let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
            if letter != '\u{feff}' {
                self.ready.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if bytes.len() % 2 == 1 {
            self.ready.extend_from_slice("\u{fffd}".as_bytes());
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A block may be all of a mark and half a pair.
        for _ in 0..2 {
            if self.taken < self.ready.len() {
                break;
            }
            self.fill()?;
        }
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(log: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        plain(Box::new(Cursor::new(log)))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn a_log_is_read_however_it_is_packed() {
        let text = "PANIC: ⚙ 𝄞 x\n".repeat(9000);
        let bytes = text.as_bytes();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(bytes).unwrap();
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(bytes).unwrap();
        for (name, log) in [
            ("plain", bytes.to_vec()),
            ("gzip", gzip(bytes)),
            ("gzip in two parts", [gzip(&bytes[..100]), gzip(&bytes[100..])].concat()),
            ("zstd", zstd::encode_all(bytes, 1).unwrap()),
            ("xz", xz.finish().unwrap()),
            ("bzip2", bz.finish().unwrap()),
            ("UTF-16, little end first", utf16(&text, u16::to_le_bytes)),
            ("UTF-16, big end first", utf16(&text, u16::to_be_bytes)),
            ("UTF-16 in gzip", gzip(&utf16(&text, u16::to_le_bytes))),
        ] {
            assert!(read(log).unwrap() == text, "{name}");
        }
        for short in ["", "x", "BZh", "PANIC"] {
            assert_eq!(read(short.into()).unwrap(), short);
        }
    }

    #[test]
    fn what_is_damaged_is_an_error_or_marked() {
        let packed = gzip("x".repeat(9000).as_bytes());
        assert!(read(packed[..packed.len() - 9].to_vec()).is_err());
        assert!(read(b"\x1f\x8b\x08\0".to_vec()).is_err());
        let many = (0..5).fold(b"x".to_vec(), |log, _| gzip(&log));
        assert!(read(many).is_err());
        let halves = [0xfeff_u16, 0xd834, 0x41, 0xdd1e, 0xd834];
        let mut log: Vec<_> = halves.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        assert_eq!(read(log.clone()).unwrap(), "\u{fffd}A\u{fffd}\u{fffd}");
        log.push(0x42);
        assert_eq!(read(log).unwrap(), "\u{fffd}A\u{fffd}\u{fffd}\u{fffd}");
    }
}
