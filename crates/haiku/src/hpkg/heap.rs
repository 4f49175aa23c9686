//! The heap: chunks of one size, each compressed for itself.

use std::io::Read;

use super::{HpkgError, PackageSource, damaged};

/// The largest chunk that is believed; Haiku's have 64 KiB.
const LARGEST_CHUNK: u64 = 1 << 20;

/// What the header says of the heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) start: u64,
    pub(super) file_size: u64,
    pub(super) compression: u64,
    pub(super) chunk_size: u64,
    pub(super) packed: u64,
    pub(super) unpacked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Zlib,
    Zstd,
}

/// The heap of a package, with the chunk that was unpacked last.
#[derive(Debug)]
pub(super) struct Heap<S> {
    source: S,
    compression: Compression,
    layout: Layout,
    /// Where each chunk begins in the packed heap, and at last the end.
    offsets: Vec<u64>,
    last: Option<(usize, Vec<u8>)>,
}

impl<S: PackageSource> Heap<S> {
    pub(super) fn open(source: S, layout: Layout) -> Result<Self, HpkgError> {
        let compression = match layout.compression {
            0 => Compression::None,
            1 => Compression::Zlib,
            2 => Compression::Zstd,
            other => return Err(damaged("heap_compression", format!("{other} is not known"))),
        };
        if layout.start.checked_add(layout.packed) != Some(layout.file_size) {
            let problem = format!("{} in a file of {}", layout.packed, layout.file_size);
            return Err(damaged("heap_size_compressed", problem));
        }
        if !(1..=LARGEST_CHUNK).contains(&layout.chunk_size) {
            return Err(damaged("heap_chunk_size", layout.chunk_size.to_string()));
        }
        let mut this = Self { source, compression, layout, offsets: Vec::new(), last: None };
        if compression == Compression::None {
            if layout.packed != layout.unpacked {
                let problem = format!("{} of {}", layout.unpacked, layout.packed);
                return Err(damaged("heap_size_uncompressed", problem));
            }
        } else {
            this.read_offsets()?;
        }
        Ok(this)
    }

    pub(super) fn size(&self) -> u64 {
        self.layout.unpacked
    }

    /// Reads the table after the chunks: two bytes for each but the last, its size less one.
    fn read_offsets(&mut self) -> Result<(), HpkgError> {
        let wrong = |problem: String| Err(damaged("heap_size_uncompressed", problem));
        let layout = self.layout;
        let count = layout.unpacked.div_ceil(layout.chunk_size);
        let table = count.saturating_sub(1).saturating_mul(2);
        let Some(end) = layout.packed.checked_sub(table) else {
            return wrong(format!("{count} chunks in {} bytes", layout.packed));
        };
        // The table is part of the file, so that its size is bounded by that.
        let mut sizes = vec![0; usize::try_from(table).unwrap_or_default()];
        self.read_packed(end, &mut sizes)?;
        let mut at = 0;
        self.offsets.push(at);
        for size in sizes.chunks_exact(2) {
            at += u64::from(u16::from_be_bytes([size[0], size[1]])) + 1;
            self.offsets.push(at);
        }
        if count > 0 {
            if at > end || end - at > layout.chunk_size {
                return wrong(format!("the chunks end at {at} of {end}"));
            }
            self.offsets.push(end);
        }
        Ok(())
    }

    fn read_packed(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), HpkgError> {
        let offset = self.layout.start.saturating_add(offset);
        self.source.read_at(offset, buffer).map_err(|source| HpkgError::Read { offset, source })
    }

    /// Reads from the unpacked heap.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), HpkgError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.layout.unpacked) {
            let problem = format!("{} bytes at {offset}", buffer.len());
            return Err(damaged("heap", problem));
        }
        if self.compression == Compression::None {
            return self.read_packed(offset, buffer);
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let index = usize::try_from(at / self.layout.chunk_size).unwrap_or(usize::MAX);
            let within = usize::try_from(at % self.layout.chunk_size).unwrap_or(usize::MAX);
            let chunk = self.chunk(index)?;
            let length = (buffer.len() - done).min(chunk.len().saturating_sub(within));
            buffer[done..done + length].copy_from_slice(&chunk[within..within + length]);
            done += length;
        }
        Ok(())
    }

    fn chunk(&mut self, index: usize) -> Result<&[u8], HpkgError> {
        if self.last.as_ref().is_none_or(|(known, _)| *known != index) {
            let chunk = self.unpack(index)?;
            self.last = Some((index, chunk));
        }
        Ok(self.last.as_ref().map_or(&[], |(_, chunk)| chunk))
    }

    fn unpack(&mut self, index: usize) -> Result<Vec<u8>, HpkgError> {
        let wrong = |problem: String| damaged("heap chunk", format!("{index}: {problem}"));
        let (Some(start), Some(end)) = (self.offsets.get(index), self.offsets.get(index + 1))
        else {
            return Err(wrong("there is none".to_owned()));
        };
        let (start, packed) = (*start, end.saturating_sub(*start));
        let left = self.layout.unpacked - index as u64 * self.layout.chunk_size;
        let size = usize::try_from(left.min(self.layout.chunk_size)).unwrap_or_default();
        let mut bytes = vec![0; usize::try_from(packed).unwrap_or_default()];
        self.read_packed(start, &mut bytes)?;
        // What does not become smaller is stored as it is.
        if bytes.len() == size {
            return Ok(bytes);
        }
        let mut chunk = Vec::with_capacity(size);
        let limit = size as u64 + 1;
        let unpacked = match self.compression {
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(bytes.as_slice())
                .and_then(|decoder| decoder.take(limit).read_to_end(&mut chunk)),
            _ => {
                flate2::read::ZlibDecoder::new(bytes.as_slice()).take(limit).read_to_end(&mut chunk)
            }
        };
        unpacked.map_err(|error| wrong(error.to_string()))?;
        if chunk.len() != size {
            return Err(wrong(format!("{} bytes in place of {size}", chunk.len())));
        }
        Ok(chunk)
    }
}
