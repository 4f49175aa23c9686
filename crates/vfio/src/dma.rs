//! Memory that a card reaches by DMA.

use std::mem::offset_of;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, vfio_iommu_type1_info,
    vfio_iommu_type1_info_cap_iova_range, vfio_iommu_type1_info_dma_avail,
};

use crate::capability::{self, MOST_BYTES, Nonsense, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::space::{AddressSpace, Backend};
use crate::sys::{IovaRanges, Mapping, Width};

const GET_INFO: &str = "VFIO_IOMMU_GET_INFO";
const IOVA_RANGES: &str = "IOMMU_IOAS_IOVA_RANGES";
/// Room for the ranges of any IOMMU seen, and the most that we believe.
const ROOM: usize = 16;
const MOST_RANGES: u32 = 4096;

/// What may be done with memory, seen from the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The card reads it.
    Read,
    /// The card writes it.
    Write,
    /// Both.
    Both,
}

impl Access {
    fn reads(self) -> bool {
        self != Self::Write
    }

    fn writes(self) -> bool {
        self != Self::Read
    }
}

/// Memory of this process that can be lent to cards.
#[derive(Debug)]
pub struct Memory {
    mapping: Mapping,
}

impl Memory {
    /// Makes fresh memory, all zeros; `size` in bytes is rounded up to whole pages.
    ///
    /// # Errors
    /// There is not so much.
    pub fn anonymous(size: usize) -> Result<Self> {
        let size = size.checked_next_multiple_of(rustix::param::page_size());
        let mapping = size.ok_or(Errno::NOMEM).and_then(Mapping::anonymous);
        mapping.map(|mapping| Self { mapping }).map_err(Self::failed)
    }

    /// Maps `size` bytes of a file from `offset` on, both multiples of the page size: memory that
    /// is shared with another process. `access` is what cards will do with it, for which the
    /// descriptor must be open; reading is always part of it.
    ///
    /// If its owner makes the file shorter later, touching what is gone raises SIGBUS.
    ///
    /// # Errors
    /// The file is not that large, or cannot be mapped.
    pub fn of_file(file: impl AsFd, offset: u64, size: usize, access: Access) -> Result<Self> {
        let fd = file.as_fd();
        let length = u64::try_from(size).unwrap_or(u64::MAX);
        let stat = rustix::fs::fstat(fd).map_err(Self::failed)?;
        let held = u64::try_from(stat.st_size).unwrap_or_default();
        if offset.checked_add(length).is_none_or(|end| end > held) {
            return Err(Error::OutOfBounds { offset, length, size: held });
        }
        let mapping = Mapping::of_file(fd, offset, size, true, access.writes());
        mapping.map(|mapping| Self { mapping }).map_err(Self::failed)
    }

    fn failed(errno: Errno) -> Error {
        Error::Resource { what: "memory for DMA", source: errno.into() }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.mapping.length()
    }

    /// Reads `width` bytes at `offset` in one access, in this machine's byte order.
    ///
    /// # Errors
    /// The memory ends before, or `offset` is not a multiple of `width`.
    pub fn load(&self, offset: usize, width: Width) -> Result<u64> {
        self.mapping.load(offset, width).ok_or_else(|| self.outside(offset, width.bytes()))
    }

    /// Writes the low bytes of `value` at `offset` in one access, in this machine's byte order.
    ///
    /// # Errors
    /// The memory ends before or cannot be written, or `offset` is not a multiple of `width`.
    pub fn store(&self, offset: usize, width: Width, value: u64) -> Result<()> {
        let stored = self.mapping.store(offset, width, value);
        stored.ok_or_else(|| self.outside(offset, width.bytes()))
    }

    /// Copies from `offset` on into `bytes`. What a card writes meanwhile may be seen in part.
    ///
    /// # Errors
    /// The memory ends before.
    pub fn read_bytes(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        if !self.mapping.contains(offset, bytes.len()) {
            return Err(self.outside(offset, bytes.len()));
        }
        let (head, body) = split(offset, bytes.len());
        let (first, rest) = bytes.split_at_mut(head);
        let (middle, last) = rest.split_at_mut(body);
        for (at, byte) in (offset..).zip(first) {
            *byte = self.byte(at)?;
        }
        for (at, word) in (offset + head..).step_by(8).zip(middle.chunks_exact_mut(8)) {
            word.copy_from_slice(&self.load(at, Width::Quad)?.to_ne_bytes());
        }
        for (at, byte) in (offset + head + body..).zip(last) {
            *byte = self.byte(at)?;
        }
        Ok(())
    }

    fn byte(&self, at: usize) -> Result<u8> {
        Ok(self.load(at, Width::Byte)?.to_le_bytes()[0])
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// The memory ends before or cannot be written.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if !self.mapping.contains(offset, bytes.len()) || !self.mapping.is_writable() {
            return Err(self.outside(offset, bytes.len()));
        }
        let (head, body) = split(offset, bytes.len());
        let (first, rest) = bytes.split_at(head);
        let (middle, last) = rest.split_at(body);
        for (at, byte) in (offset..).zip(first) {
            self.store(at, Width::Byte, u64::from(*byte))?;
        }
        for (at, word) in (offset + head..).step_by(8).zip(middle.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            self.store(at, Width::Quad, word)?;
        }
        for (at, byte) in (offset + head + body..).zip(last) {
            self.store(at, Width::Byte, u64::from(*byte))?;
        }
        Ok(())
    }

    fn outside(&self, offset: usize, length: usize) -> Error {
        let number = |value| u64::try_from(value).unwrap_or(u64::MAX);
        Error::OutOfBounds {
            offset: number(offset),
            length: number(length),
            size: number(self.mapping.length()),
        }
    }
}

/// Splits a range into bytes up to a multiple of eight, whole words, and the rest.
fn split(offset: usize, length: usize) -> (usize, usize) {
    let head = (offset.wrapping_neg() % 8).min(length);
    (head, (length - head) / 8 * 8)
}

/// Addresses that a card can be given, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What the IOMMU lets be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aperture {
    /// The addresses; `None` where the kernel does not say (before Linux 5.4).
    pub ranges: Option<Vec<IovaRange>>,
    /// What addresses and sizes must be multiples of, in bytes.
    pub alignment: u64,
    /// How many mappings more there can be; `None` where the kernel does not say.
    pub mappings_left: Option<u32>,
}

impl Aperture {
    /// Returns the lowest address from `above` on where `size` bytes can be mapped, as far as the
    /// IOMMU is concerned.
    pub fn place(&self, size: u64, above: u64) -> Option<u64> {
        let everything = [IovaRange { first: 0, last: u64::MAX }];
        let ranges = self.ranges.as_deref().unwrap_or(&everything);
        let size = size.checked_next_multiple_of(self.alignment).filter(|size| *size > 0)?;
        ranges.iter().find_map(|range| {
            let start = range.first.max(above).checked_next_multiple_of(self.alignment)?;
            (start.checked_add(size - 1)? <= range.last).then_some(start)
        })
    }
}

impl AddressSpace {
    /// Asks what can be mapped. Each function that is opened can narrow it.
    ///
    /// # Errors
    /// No function was opened yet, or the answer makes no sense.
    pub fn aperture(&self) -> Result<Aperture> {
        let address = self.0.address;
        let aperture = match &self.0.backend {
            Backend::Container { container, .. } => {
                let kernel = Error::kernel(address, GET_INFO);
                let mut answer = container.iommu_info(0).map_err(kernel)?;
                let has_capabilities = u32_at(&answer, offset_of!(vfio_iommu_type1_info, flags))
                    .is_some_and(|flags| flags & VFIO_IOMMU_INFO_CAPS != 0);
                if has_capabilities {
                    let size = u32_at(&answer, offset_of!(vfio_iommu_type1_info, argsz));
                    let size = usize::try_from(size.unwrap_or_default()).unwrap_or(usize::MAX);
                    if size > MOST_BYTES {
                        let what = format!("{size} bytes of capabilities");
                        return Err(Error::answer(address, GET_INFO, what));
                    }
                    answer = container.iommu_info(size).map_err(kernel)?;
                }
                Aperture::parse(&answer)
                    .map_err(|Nonsense(what)| Error::answer(address, GET_INFO, what))?
            }
            Backend::Iommufd { iommufd, ioas } => {
                let kernel = Error::kernel(address, IOVA_RANGES);
                let mut room = ROOM;
                let (ranges, alignment) = loop {
                    match iommufd.iova_ranges(*ioas, room).map_err(kernel)? {
                        IovaRanges::All(ranges, alignment) => break (ranges, alignment),
                        IovaRanges::More(count) => {
                            let more = usize::try_from(count).unwrap_or(usize::MAX);
                            if count > MOST_RANGES || more <= room {
                                let what = format!("{count} ranges");
                                return Err(Error::answer(address, IOVA_RANGES, what));
                            }
                            room = more;
                        }
                    }
                };
                let ranges = ranges
                    .iter()
                    .map(|range| IovaRange { first: range.start, last: range.last })
                    .collect();
                Aperture { ranges: Some(ranges), alignment, mappings_left: None }
            }
        };
        if !aperture.alignment.is_power_of_two() {
            let what = Aperture::misaligned(aperture.alignment);
            return Err(Error::answer(address, IOVA_RANGES, what));
        }
        Ok(aperture)
    }

    /// Lets the functions of this space reach all of `memory` at `iova`.
    ///
    /// # Errors
    /// The address is taken or outside the aperture, or the process may not lock so much memory.
    pub fn map(&self, iova: u64, memory: Arc<Memory>, access: Access) -> Result<DmaMapping> {
        let size = memory.size();
        self.map_part(iova, memory, 0, size, access)
    }

    /// Lets the functions of this space reach `size` bytes of `memory`, from `offset` on, at
    /// `iova`.
    ///
    /// # Errors
    /// As [`AddressSpace::map`], or the memory ends before.
    pub fn map_part(
        &self,
        iova: u64,
        memory: Arc<Memory>,
        offset: usize,
        size: usize,
        access: Access,
    ) -> Result<DmaMapping> {
        let mapping = &memory.mapping;
        if !mapping.contains(offset, size) || (access.writes() && !mapping.is_writable()) {
            return Err(memory.outside(offset, size));
        }
        let (operation, mapped) = match &self.0.backend {
            Backend::Container { container, .. } => {
                let flags = if access.reads() { VFIO_DMA_MAP_FLAG_READ } else { 0 }
                    | if access.writes() { VFIO_DMA_MAP_FLAG_WRITE } else { 0 };
                ("VFIO_IOMMU_MAP_DMA", container.map(mapping, offset, size, iova, flags))
            }
            Backend::Iommufd { iommufd, ioas } => {
                let access = (access.reads(), access.writes());
                ("IOMMU_IOAS_MAP", iommufd.map(*ioas, mapping, offset, size, iova, access))
            }
        };
        let address = self.0.address;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        match mapped {
            Ok(()) => Ok(DmaMapping { space: self.clone(), memory, iova, size, mapped: true }),
            Err(errno) => {
                // Both interfaces answer so where the limit is reached; without a limit it is
                // memory that is short.
                let limit = rustix::process::getrlimit(Resource::Memlock).current;
                Err(match (errno, limit) {
                    (Errno::NOMEM, Some(limit)) => Error::LockedMemory { address, size, limit },
                    _ => Error::kernel(address, operation)(errno),
                })
            }
        }
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        let (operation, unmapped) = match &self.0.backend {
            Backend::Container { container, .. } => {
                ("VFIO_IOMMU_UNMAP_DMA", container.unmap(iova, size))
            }
            Backend::Iommufd { iommufd, ioas } => {
                ("IOMMU_IOAS_UNMAP", iommufd.unmap(*ioas, iova, size))
            }
        };
        match unmapped.map_err(Error::kernel(self.0.address, operation))? {
            bytes if bytes == size => Ok(()),
            bytes => {
                let what = format!("{bytes} bytes unmapped of {size}");
                Err(Error::answer(self.0.address, operation, what))
            }
        }
    }
}

impl Aperture {
    /// Parses an answer to `VFIO_IOMMU_GET_INFO` (`struct vfio_iommu_type1_info` and what follows
    /// it, include/uapi/linux/vfio.h), in this machine's byte order.
    ///
    /// # Errors
    /// It is cut short, its capabilities lead out of it or have no end, or it has no page size.
    pub fn parse(answer: &[u8]) -> std::result::Result<Self, Nonsense> {
        let flags = u32_at(answer, offset_of!(vfio_iommu_type1_info, flags));
        let sizes = u64_at(answer, offset_of!(vfio_iommu_type1_info, iova_pgsizes));
        let (flags, sizes) = flags.zip(sizes).ok_or_else(|| Nonsense::short(answer))?;
        let sizes = if flags & VFIO_IOMMU_INFO_PGSIZES == 0 { 4096 } else { sizes };
        // The lowest bit is the smallest page.
        let alignment = sizes & sizes.wrapping_neg();
        if !alignment.is_power_of_two() {
            return Err(Nonsense(Self::misaligned(alignment)));
        }
        let mut aperture = Self { ranges: None, alignment, mappings_left: None };
        if flags & VFIO_IOMMU_INFO_CAPS != 0 {
            aperture.read_capabilities(answer)?;
        }
        Ok(aperture)
    }

    fn misaligned(alignment: u64) -> String {
        format!("an alignment of {alignment:#x}")
    }

    fn read_capabilities(&mut self, answer: &[u8]) -> Result<(), String> {
        let first = offset_of!(vfio_iommu_type1_info, cap_offset);
        for (id, bytes) in capability::chain(answer, u32_at(answer, first).unwrap_or_default())? {
            match u32::from(id) {
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => {
                    let ranges = capability::pairs(
                        bytes,
                        offset_of!(vfio_iommu_type1_info_cap_iova_range, nr_iovas),
                        offset_of!(vfio_iommu_type1_info_cap_iova_range, iova_ranges),
                    )?;
                    let ranges = ranges.into_iter().map(|[first, last]| IovaRange { first, last });
                    self.ranges = Some(ranges.collect());
                }
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => {
                    self.mappings_left =
                        u32_at(bytes, offset_of!(vfio_iommu_type1_info_dma_avail, avail));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Memory that cards reach at an address of theirs, until this is dropped.
#[derive(Debug)]
pub struct DmaMapping {
    space: AddressSpace,
    memory: Arc<Memory>,
    iova: u64,
    size: u64,
    mapped: bool,
}

impl DmaMapping {
    /// The address that the card uses.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The memory behind it.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Takes the memory away from the cards again.
    ///
    /// Dropping does so too, but cannot say that it failed; memory that stayed mapped then stays
    /// pinned, and within reach of the cards, until the space is gone.
    ///
    /// # Errors
    /// The kernel refuses, or took away another amount.
    pub fn unmap(mut self) -> Result<()> {
        self.mapped = false;
        self.space.unmap(self.iova, self.size)
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        if self.mapped {
            // The kernel holds the pages itself, so nothing of ours is reached by the card even if
            // this fails.
            let _ = self.space.unmap(self.iova, self.size);
        }
    }
}

#[cfg(test)]
mod tests;
