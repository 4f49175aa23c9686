//! How a part of an image is packed.

use std::fmt;
use std::io::{self, BufRead, Read};

use liblzma::stream::Stream;
use serde::Serialize;

use super::lz4::Lz4Legacy;

/// The memory that unpacking may take, in bytes: `xz -9` needs 64 MiB.
const MEMORY: u64 = 256 << 20;
/// The largest window of zstd, as a power of two: `zstd --ultra -22` makes one of 128 MiB.
const WINDOW_LOG: u32 = 27;

/// How a part of an image is packed: what the kernel knows to unpack (lib/decompress.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// The older format of LZMA, without a real magic number.
    Lzma,
    /// Zstandard.
    Zstd,
    /// The legacy frame of LZ4, the only one that the kernel reads.
    Lz4,
    /// bzip2.
    Bzip2,
}

/// How many bytes tell how a part is packed.
pub(super) const MAGIC_LENGTH: usize = 6;

impl Packing {
    /// Tells it from the first bytes: the magic numbers of lib/decompress.c, and of the archive
    /// itself.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'0', b'7', b'0', b'7', b'0', ..] => Some(Self::None),
            [0x1f, 0x8b | 0x9e, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x5d, 0, 0, ..] => Some(Self::Lzma),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Self::Lz4),
            [b'B', b'Z', b'h', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// Returns what unpacks one part and consumes nothing behind it.
    pub(super) fn unpacker<'a, R: BufRead + 'a>(self, packed: R) -> io::Result<Box<dyn Read + 'a>> {
        let lzma = |stream: Result<Stream, liblzma::stream::Error>| stream.map_err(io::Error::from);
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(flate2::bufread::GzDecoder::new(packed)),
            Self::Xz => {
                let stream = lzma(Stream::new_stream_decoder(MEMORY, 0))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
            Self::Lzma => {
                let stream = lzma(Stream::new_lzma_decoder(MEMORY))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Lz4 => Box::new(Lz4Legacy::new(packed)),
            Self::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(packed)),
        })
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "not packed",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
        })
    }
}
