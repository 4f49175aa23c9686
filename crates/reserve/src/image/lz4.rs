//! The legacy frame of LZ4 (lz4's doc/lz4_Frame_format.md, "Legacy frame").
//!
//! A magic number, then blocks, each after its packed length. Nothing marks the end: it is the end
//! of the stream, or a length that no block can have (lib/decompress_unlz4.c of the kernel).

use std::io::{self, BufRead, Read};

const MAGIC: u32 = 0x184c_2102;
/// What each block but the last unpacks to, in bytes.
const BLOCK: usize = 8 << 20;
/// What a block can be packed to at most (LZ4_COMPRESSBOUND of lz4.h).
const BLOCK_BOUND: usize = BLOCK + BLOCK / 255 + 16;

/// Unpacks one legacy frame, or several that follow one another.
///
/// The length behind the last block is consumed. Only zeros can stand there, with which images
/// are padded, since anything else is taken for a length or is an error.
#[derive(Debug)]
pub(super) struct Lz4Legacy<R> {
    packed: R,
    started: bool,
    ended: bool,
    block: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Lz4Legacy<R> {
    pub(super) fn new(packed: R) -> Self {
        Self { packed, started: false, ended: false, block: Vec::new(), at: 0 }
    }

    /// Reads a number; `None` at the end of the stream. Up to three zeros before it are padding.
    fn number(&mut self) -> io::Result<Option<u32>> {
        let mut bytes = [0; 4];
        let mut have = 0;
        while have < bytes.len() {
            match self.packed.read(&mut bytes[have..])? {
                0 if bytes[..have].iter().all(|byte| *byte == 0) => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => have += more,
            }
        }
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    fn next_block(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        let mut number = self.number()?;
        if !self.started && number != Some(MAGIC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no legacy frame of lz4"));
        }
        self.started = true;
        while number == Some(MAGIC) {
            number = self.number()?;
        }
        let length = match number {
            None | Some(0) => {
                self.ended = true;
                return Ok(());
            }
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
        };
        if length > BLOCK_BOUND {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an lz4 block is too long"));
        }
        let mut packed = Vec::new();
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        self.packed.by_ref().take(limit).read_to_end(&mut packed)?;
        if packed.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.block.resize(BLOCK, 0);
        let unpacked = lz4_flex::block::decompress_into(&packed, &mut self.block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.block.truncate(unpacked);
        Ok(())
    }
}

impl<R: BufRead> Read for Lz4Legacy<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.ended {
            self.next_block()?;
        }
        let count = (&self.block[self.at..]).read(into)?;
        self.at += count;
        Ok(count)
    }
}
