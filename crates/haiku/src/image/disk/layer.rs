//! One qcow2 file, with what lies below it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use bfs::Storage;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, ShallowMapping};

use super::super::{ImageError, qcow2::Header};
use super::{Disk, backing};

/// The disk of a qcow2 file.
///
/// The tables are imago's work. Backing files are looked after here: the descriptions that `run`
/// gives for images behind a header are nothing that imago knows, and no file is to be opened but
/// as a [`Disk`].
pub(super) struct Layer {
    qcow2: FormatAccess<imago::file::File>,
    cluster: u64,
    below: Option<Disk>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("below", &self.below).finish_non_exhaustive()
    }
}

impl Layer {
    /// Opens a qcow2 file whose header was read; it is the backing file of `depth` others.
    pub(super) fn open(
        path: &Path,
        file: File,
        header: &Header,
        writable: bool,
        depth: usize,
    ) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Open { path: path.to_owned(), source };
        let file = imago::file::File::try_from(file).map_err(failed)?;
        let qcow2 = Qcow2::<imago::file::File>::builder(file)
            .write(writable)
            .backing(None)
            .data_file(None)
            .open(DenyImplicitOpenGate::default())
            .map_err(failed)?;
        let below = match qcow2.implicit_backing_file() {
            Some(name) => {
                let format = qcow2.implicit_backing_format().map(String::as_str);
                Some(backing::open(path, name, format, depth + 1)?)
            }
            None => None,
        };
        Ok(Self { qcow2: FormatAccess::new(qcow2), cluster: header.cluster(), below })
    }

    pub(super) fn size(&self) -> u64 {
        self.qcow2.size()
    }

    fn check(&self, offset: u64, length: usize) -> io::Result<()> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns whether the disk shows what lies below at `offset`, and for how many bytes that or
    /// the contrary holds: at most `length`, and at least one.
    fn shows_below(&self, offset: u64, length: usize) -> io::Result<(bool, usize)> {
        let (mapping, known) = self.qcow2.get_shallow_mapping(offset, length as u64)?;
        let known = usize::try_from(known).unwrap_or(length).min(length);
        match known {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            // Zeros are explicit where the file says that there are, not where it says nothing.
            _ => Ok((matches!(mapping, ShallowMapping::Zero { explicit: false, .. }), known)),
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        let Some(below) = &self.below else { return self.qcow2.read(buffer, offset) };
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (is_below, length) = self.shows_below(at, buffer.len() - done)?;
            let part = &mut buffer[done..done + length];
            if is_below {
                read_or_zeros(below, part, at)?
            } else {
                self.qcow2.read(part, at)?
            }
            done += length;
        }
        Ok(())
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        if self.below.is_none() {
            return self.qcow2.write(bytes, offset);
        }
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let within = at % self.cluster;
            let whole = rest.len() as u64 / self.cluster * self.cluster;
            if within == 0 && whole > 0 {
                let (now, later) = rest.split_at(usize::try_from(whole).unwrap_or(rest.len()));
                self.qcow2.write(now, at)?;
                (rest, at) = (later, at + whole);
                continue;
            }
            let length = usize::try_from(self.cluster - within).unwrap_or(rest.len());
            let (now, later) = rest.split_at(length.min(rest.len()));
            self.write_into_cluster(now, at, within)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Writes a part of one cluster, from byte `within` of it on. If it was not there, what lies
    /// below comes along.
    fn write_into_cluster(&self, bytes: &[u8], at: u64, within: u64) -> io::Result<()> {
        let start = at - within;
        let (is_below, _) = self.shows_below(start, 1)?;
        if !is_below {
            return self.qcow2.write(bytes, at);
        }
        let length = self.cluster.min(self.size() - start);
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut cluster = vec![0; usize::try_from(length).map_err(too_large)?];
        self.read_at(&mut cluster, start)?;
        let within = usize::try_from(within).map_err(too_large)?;
        cluster[within..within + bytes.len()].copy_from_slice(bytes);
        self.qcow2.write(&cluster[..], start)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.qcow2.flush()?;
        self.qcow2.sync()
    }
}

/// Reads from a disk that may be shorter than the one above it, which shows zeros after its end.
fn read_or_zeros(disk: &Disk, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let there = disk.size()?.saturating_sub(offset);
    let there = usize::try_from(there).unwrap_or(buffer.len()).min(buffer.len());
    let (there, beyond) = buffer.split_at_mut(there);
    beyond.fill(0);
    if there.is_empty() { Ok(()) } else { disk.read_at(there, offset) }
}
