//! Regions of a function: its BARs, its ROM, its configuration space.

use std::mem::offset_of;

use rustix::io::Errno;
use serde::Serialize;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info, vfio_region_info_cap_sparse_mmap, vfio_region_info_cap_type,
};

use crate::capability::{self, MOST_BYTES, Nonsense, u32_at, u64_at};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::sys::{Mapping, Width};

const GET_REGION_INFO: &str = "VFIO_DEVICE_GET_REGION_INFO";

/// Index of the region of base address register 0; those of the other five follow.
pub const BAR0: u32 = 0;
/// Index of the expansion ROM.
pub const ROM: u32 = VFIO_PCI_ROM_REGION_INDEX;
/// Index of the configuration space, as the kernel virtualises it.
pub const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Area {
    /// Where it begins, in bytes from the start of the region.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// What the kernel says of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionInfo {
    /// Its index.
    pub index: u32,
    /// Its size in bytes; 0 for a BAR that the function does not have.
    pub size: u64,
    /// Where it begins in the device's file, for those who are handed the descriptor.
    pub offset: u64,
    /// Whether it can be read.
    pub read: bool,
    /// Whether it can be written.
    pub write: bool,
    /// Whether it can be mapped.
    pub map: bool,
    /// The only parts that can be mapped, where the kernel lists them.
    pub sparse: Option<Vec<Area>>,
    /// Whether the BAR holds the MSI-X table and can be mapped all the same, table included.
    pub msix_mappable: bool,
    /// Type and subtype of a region that is peculiar to the device.
    pub kind: Option<(u32, u32)>,
}

impl Device {
    /// Asks the kernel for a region, once; the answer is kept.
    ///
    /// For the ROM, the kernel turns memory decoding on for a moment to see whether it is there.
    ///
    /// # Errors
    /// There is no such region (a VGA region, often), or the answer makes no sense.
    pub fn region(&self, index: u32) -> Result<&RegionInfo> {
        let absent = || Error::Absent { address: self.address(), what: format!("region {index}") };
        let kept = usize::try_from(index).ok().and_then(|index| self.regions.get(index));
        let kept = kept.ok_or_else(absent)?;
        if let Some(info) = kept.get() {
            return Ok(info);
        }
        let info = self.ask_region(index)?.ok_or_else(absent)?;
        Ok(kept.get_or_init(|| info))
    }

    fn ask_region(&self, index: u32) -> Result<Option<RegionInfo>> {
        let kernel = Error::kernel(self.address(), GET_REGION_INFO);
        let nonsense = |what| Error::answer(self.address(), GET_REGION_INFO, what);
        let mut answer = match self.file.region_info(index, 0) {
            // So drivers/vfio/pci answers for the VGA region of what is no VGA card.
            Err(Errno::INVAL) => return Ok(None),
            other => other.map_err(kernel)?,
        };
        let has_capabilities = u32_at(&answer, offset_of!(vfio_region_info, flags))
            .is_some_and(|flags| flags & VFIO_REGION_INFO_FLAG_CAPS != 0);
        if has_capabilities {
            let size = u32_at(&answer, offset_of!(vfio_region_info, argsz)).unwrap_or_default();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > MOST_BYTES {
                return Err(nonsense(format!("{size} bytes of capabilities")));
            }
            answer = self.file.region_info(index, size).map_err(kernel)?;
        }
        let info = RegionInfo::parse(&answer).map_err(|Nonsense(what)| nonsense(what))?;
        Ok(Some(RegionInfo { index, ..info }))
    }

    /// Reads a register: `width` bytes at `offset` of a region, in one access where `offset` is a
    /// multiple of `width` (the kernel splits others). The value is as the card has it: its first
    /// byte is the lowest.
    ///
    /// # Errors
    /// The region ends before, or the kernel refuses or transfers less.
    pub fn read(&self, region: u32, offset: u64, width: Width) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read_bytes(region, offset, &mut bytes[..width.bytes()])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes the low bytes of `value` to a register, as [`Device::read`] reads them.
    ///
    /// # Errors
    /// The region ends before, or the kernel refuses or transfers less.
    pub fn write(&self, region: u32, offset: u64, width: Width, value: u64) -> Result<()> {
        self.write_bytes(region, offset, &value.to_le_bytes()[..width.bytes()])
    }

    /// Fills `bytes` from `offset` of a region.
    ///
    /// # Errors
    /// The region ends before, or the kernel refuses or transfers less.
    pub fn read_bytes(&self, region: u32, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let at = self.place(region, offset, bytes.len())?;
        let wanted = bytes.len();
        let done = rustix::io::pread(&self.file, bytes, at);
        self.transferred("read", region, offset, wanted, done)
    }

    /// Writes all of `bytes` to `offset` of a region.
    ///
    /// # Errors
    /// The region ends before, or the kernel refuses or transfers less.
    pub fn write_bytes(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = self.place(region, offset, bytes.len())?;
        let done = rustix::io::pwrite(&self.file, bytes, at);
        self.transferred("write", region, offset, bytes.len(), done)
    }

    fn place(&self, region: u32, offset: u64, length: usize) -> Result<u64> {
        let info = self.region(region)?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if offset.checked_add(length).is_none_or(|end| end > info.size) {
            return Err(Error::OutOfBounds { offset, length, size: info.size });
        }
        Ok(info.offset + offset)
    }

    fn transferred(
        &self,
        operation: &'static str,
        region: u32,
        offset: u64,
        wanted: usize,
        done: Result<usize, Errno>,
    ) -> Result<()> {
        let address = self.address();
        match done {
            Ok(done) if done == wanted => Ok(()),
            Ok(done) => Err(Error::Short { address, operation, region, offset, wanted, done }),
            Err(errno) => {
                let source = errno.into();
                Err(Error::Transfer { address, operation, region, offset, wanted, source })
            }
        }
    }

    /// Maps `length` bytes from `offset` of a region, both multiples of the page size.
    ///
    /// The mapping outlives a reset. While the function's memory decoding is off (bit 1 of its
    /// command register) or it sleeps, an access raises SIGBUS; bear that in mind before handing
    /// the mapping to code that does not know the card's state.
    ///
    /// # Errors
    /// The kernel does not let this part of the region be mapped.
    pub fn map_region(&self, region: u32, offset: u64, length: usize) -> Result<MappedRegion> {
        let info = self.region(region)?;
        let address = self.address();
        let not = |reason| Error::NotMappable { address, region, reason };
        if !info.map {
            return Err(not(info.why_not_mappable()));
        }
        let size = u64::try_from(length).unwrap_or(u64::MAX);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let end = offset.checked_add(size);
        if size == 0 || !offset.is_multiple_of(page) || !size.is_multiple_of(page) {
            return Err(not("its part does not begin and end at a page"));
        }
        // A BAR smaller than a page has the page to itself, else `map` would be unset.
        if end.is_none_or(|end| end > info.size.next_multiple_of(page)) {
            return Err(Error::OutOfBounds { offset, length: size, size: info.size });
        }
        let end = end.unwrap_or(u64::MAX);
        if let Some(areas) = &info.sparse {
            let inside =
                |area: &Area| offset >= area.offset && end <= area.offset.saturating_add(area.size);
            if !areas.iter().any(inside) {
                return Err(not("its part is outside the areas that the kernel lists"));
            }
        }
        let mapping = self.file.map(info.offset + offset, length, info.write);
        let mapping = mapping.map_err(Error::kernel(address, "mmap"))?;
        Ok(MappedRegion { mapping })
    }
}

impl RegionInfo {
    /// Parses an answer to `VFIO_DEVICE_GET_REGION_INFO` (`struct vfio_region_info` and what
    /// follows it, include/uapi/linux/vfio.h), in this machine's byte order.
    ///
    /// # Errors
    /// It is cut short, its capabilities lead out of it or have no end, or the region lies beyond
    /// the end of any file.
    pub fn parse(answer: &[u8]) -> std::result::Result<Self, Nonsense> {
        let short = || Nonsense::short(answer);
        let number = |at| u32_at(answer, at).ok_or_else(short);
        let flags = number(offset_of!(vfio_region_info, flags))?;
        let size = u64_at(answer, offset_of!(vfio_region_info, size)).ok_or_else(short)?;
        let offset = u64_at(answer, offset_of!(vfio_region_info, offset)).ok_or_else(short)?;
        if offset.checked_add(size).is_none_or(|end| end > i64::MAX.unsigned_abs()) {
            return Err(Nonsense(format!("a region of {size:#x} bytes at {offset:#x}")));
        }
        let mut info = Self {
            index: number(offset_of!(vfio_region_info, index))?,
            size,
            offset,
            read: flags & VFIO_REGION_INFO_FLAG_READ != 0,
            write: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
            map: flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
            sparse: None,
            msix_mappable: false,
            kind: None,
        };
        if flags & VFIO_REGION_INFO_FLAG_CAPS != 0 {
            info.read_capabilities(answer)?;
        }
        Ok(info)
    }

    /// Why the kernel would not let this region be mapped; of use where [`RegionInfo::map`] is not
    /// set.
    pub fn why_not_mappable(&self) -> &'static str {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        match self.size {
            0 => "the function does not have it",
            _ if self.index == CONFIG || self.index == ROM => "the kernel maps only BARs",
            size if size < page => "it shares its page with something else, or is I/O ports",
            _ => "it is I/O ports, or the kernel does not say why",
        }
    }

    fn read_capabilities(&mut self, answer: &[u8]) -> Result<(), String> {
        let first = u32_at(answer, offset_of!(vfio_region_info, cap_offset)).unwrap_or_default();
        for (id, bytes) in capability::chain(answer, first)? {
            match u32::from(id) {
                VFIO_REGION_INFO_CAP_MSIX_MAPPABLE => self.msix_mappable = true,
                VFIO_REGION_INFO_CAP_SPARSE_MMAP => {
                    let areas = capability::pairs(
                        bytes,
                        offset_of!(vfio_region_info_cap_sparse_mmap, nr_areas),
                        offset_of!(vfio_region_info_cap_sparse_mmap, areas),
                    )?;
                    let areas = areas.into_iter().map(|[offset, size]| Area { offset, size });
                    self.sparse = Some(areas.collect());
                }
                VFIO_REGION_INFO_CAP_TYPE => {
                    let kind = u32_at(bytes, offset_of!(vfio_region_info_cap_type, type_));
                    let subtype = u32_at(bytes, offset_of!(vfio_region_info_cap_type, subtype));
                    self.kind = kind.zip(subtype);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A mapped part of a region. It stays mapped until it is dropped, and until then keeps the
/// function open.
#[derive(Debug)]
pub struct MappedRegion {
    mapping: Mapping,
}

impl MappedRegion {
    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.mapping.length()
    }

    /// Reads `width` bytes at `offset` in one access.
    ///
    /// # Errors
    /// The mapping ends before, or `offset` is not a multiple of `width`.
    pub fn read(&self, offset: usize, width: Width) -> Result<u64> {
        let value = self.mapping.load(offset, width).ok_or_else(|| self.outside(offset, width))?;
        Ok(from_card(value, width))
    }

    /// Writes the low bytes of `value` at `offset` in one access.
    ///
    /// # Errors
    /// The mapping ends before or cannot be written, or `offset` is not a multiple of `width`.
    pub fn write(&self, offset: usize, width: Width, value: u64) -> Result<()> {
        let value = from_card(value, width);
        self.mapping.store(offset, width, value).ok_or_else(|| self.outside(offset, width))
    }

    fn outside(&self, offset: usize, width: Width) -> Error {
        let number = |value| u64::try_from(value).unwrap_or(u64::MAX);
        Error::OutOfBounds {
            offset: number(offset),
            length: number(width.bytes()),
            size: number(self.mapping.length()),
        }
    }
}

/// PCI is little-endian. (The same turns a value of ours into the card's.)
fn from_card(value: u64, width: Width) -> u64 {
    if cfg!(target_endian = "big") { value.swap_bytes() >> (64 - 8 * width.bytes()) } else { value }
}

#[cfg(test)]
mod tests;
