//! The newer interface: `/dev/iommu` holds IOMMU address spaces, which devices are attached to.
//!
//! `vfio-bindings` has none of these structures; they are laid out as include/uapi/linux/iommufd.h
//! of the kernel does.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::kernel::Kernel;
use super::mapping::Mapping;
use super::request::{Handle, Sized32, sized};

/// `IOMMUFD_TYPE` and `IOMMUFD_CMD_*`.
const fn iommufd(number: u8) -> Opcode {
    opcode::none(b';', number)
}

/// `struct iommu_ioas_alloc`.
#[repr(C)]
#[derive(Debug, Default)]
struct IoasAlloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

/// `struct iommu_ioas_iova_ranges`.
#[repr(C)]
#[derive(Debug, Default)]
struct IoasIovaRanges {
    size: u32,
    ioas_id: u32,
    num_iovas: u32,
    reserved: u32,
    allowed_iovas: u64,
    out_iova_alignment: u64,
}

/// `struct iommu_iova_range`: both ends are inside it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IovaRange {
    pub(crate) start: u64,
    pub(crate) last: u64,
}

/// `struct iommu_ioas_map`.
#[repr(C)]
#[derive(Debug, Default)]
struct IoasMap {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_unmap`.
#[repr(C)]
#[derive(Debug, Default)]
struct IoasUnmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

sized! {
    IoasAlloc, size, iommufd(0x81);
    /// The kernel writes at most `num_iovas` ranges behind `allowed_iovas`.
    IoasIovaRanges, size, iommufd(0x84);
    /// Its `user_va` is memory that the card may use from then on; the kernel pins it and does not
    /// touch it.
    IoasMap, size, iommufd(0x85);
    IoasUnmap, size, iommufd(0x86);
}

/// The mapping goes where the caller says (`IOMMU_IOAS_MAP_FIXED_IOVA`).
const MAP_FIXED_IOVA: u32 = 1 << 0;
/// The card may write (`IOMMU_IOAS_MAP_WRITEABLE`).
const MAP_WRITEABLE: u32 = 1 << 1;
/// The card may read (`IOMMU_IOAS_MAP_READABLE`).
const MAP_READABLE: u32 = 1 << 2;

/// What [`Iommufd::iova_ranges`] learnt.
#[derive(Debug)]
pub(crate) enum IovaRanges {
    /// All the ranges, and what addresses and lengths must be multiples of.
    All(Vec<IovaRange>, u64),
    /// There are this many, more than was room for.
    More(u32),
}

/// An open `/dev/iommu`.
#[derive(Debug)]
pub(crate) struct Iommufd(Handle);

impl Iommufd {
    pub(crate) fn open(kernel: &Arc<dyn Kernel>, path: &Path) -> Result<Self, Errno> {
        Ok(Self(Handle::new(Arc::clone(kernel), kernel.open(path)?)))
    }

    /// Makes an empty address space and returns its id.
    pub(crate) fn allocate(&self) -> Result<u32, Errno> {
        let mut alloc = IoasAlloc::default();
        self.0.call(&mut alloc)?;
        Ok(alloc.out_ioas_id)
    }

    /// Asks which addresses can be mapped, with room for `room` ranges.
    pub(crate) fn iova_ranges(&self, ioas: u32, room: usize) -> Result<IovaRanges, Errno> {
        let mut ranges = vec![IovaRange::default(); room];
        let mut query = IoasIovaRanges {
            ioas_id: ioas,
            num_iovas: u32::try_from(room).map_err(|_| Errno::OVERFLOW)?,
            allowed_iovas: u64::try_from(ranges.as_mut_ptr().expose_provenance())
                .map_err(|_| Errno::OVERFLOW)?,
            ..Default::default()
        };
        match self.0.call(&mut query) {
            Ok(_) => {}
            Err(Errno::MSGSIZE) => return Ok(IovaRanges::More(query.num_iovas)),
            Err(errno) => return Err(errno),
        }
        let count = usize::try_from(query.num_iovas).map_err(|_| Errno::OVERFLOW)?;
        if count > room {
            return Ok(IovaRanges::More(query.num_iovas));
        }
        ranges.truncate(count);
        Ok(IovaRanges::All(ranges, query.out_iova_alignment))
    }

    /// Lets the card reach `length` bytes of `memory`, from `offset` on, at `iova`.
    pub(crate) fn map(
        &self,
        ioas: u32,
        memory: &Mapping,
        offset: usize,
        length: usize,
        iova: u64,
        access: (bool, bool),
    ) -> Result<(), Errno> {
        let (read, write) = access;
        let flags = MAP_FIXED_IOVA
            | if read { MAP_READABLE } else { 0 }
            | if write { MAP_WRITEABLE } else { 0 };
        let mut map = IoasMap {
            flags,
            ioas_id: ioas,
            user_va: memory.address_of(offset, length).ok_or(Errno::INVAL)?,
            length: u64::try_from(length).map_err(|_| Errno::OVERFLOW)?,
            iova,
            ..Default::default()
        };
        self.0.call(&mut map).map(drop)
    }

    /// Takes `length` bytes at `iova` away again and returns how many were taken.
    pub(crate) fn unmap(&self, ioas: u32, iova: u64, length: u64) -> Result<u64, Errno> {
        let mut unmap = IoasUnmap { ioas_id: ioas, iova, length, ..Default::default() };
        self.0.call(&mut unmap)?;
        Ok(unmap.length)
    }
}

impl AsFd for Iommufd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
