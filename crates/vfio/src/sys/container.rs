//! The legacy interface: `/dev/vfio/vfio`, a container of groups that share one IOMMU address
//! space, and `/dev/vfio/N`, a group.

use std::ffi::CString;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::ioctl::Opcode;
use vfio_bindings::bindings::vfio::{
    VFIO_GROUP_FLAGS_VIABLE, vfio_group_status, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info,
};

use super::kernel::Kernel;
use super::mapping::Mapping;
use super::request::{Handle, vfio};

const GET_API_VERSION: Opcode = vfio(0);
const CHECK_EXTENSION: Opcode = vfio(1);
const SET_IOMMU: Opcode = vfio(2);
const SET_CONTAINER: Opcode = vfio(4);
const GET_DEVICE_FD: Opcode = vfio(6);
const IOMMU_GET_INFO: Opcode = vfio(12);
const UNMAP_DMA: Opcode = vfio(14);

/// An open `/dev/vfio/vfio`.
#[derive(Debug)]
pub(crate) struct Container(Handle);

impl Container {
    pub(crate) fn open(kernel: &Arc<dyn Kernel>, path: &Path) -> Result<Self, Errno> {
        Ok(Self(Handle::new(Arc::clone(kernel), kernel.open(path)?)))
    }

    /// The version of the interface; 0 is the only one there ever was.
    pub(crate) fn version(&self) -> Result<i32, Errno> {
        // SAFETY: takes nothing.
        unsafe { self.0.call_integer(GET_API_VERSION, 0) }
    }

    /// Whether the kernel can do `extension` (`VFIO_TYPE1v2_IOMMU` and so on).
    pub(crate) fn has(&self, extension: u32) -> Result<bool, Errno> {
        // SAFETY: takes an integer.
        unsafe { self.0.call_integer(CHECK_EXTENSION, extension) }.map(|answer| answer > 0)
    }

    /// Chooses the IOMMU driver; at least one group must be in the container.
    pub(crate) fn set_iommu(&self, kind: u32) -> Result<(), Errno> {
        // SAFETY: takes an integer.
        unsafe { self.0.call_integer(SET_IOMMU, kind) }.map(drop)
    }

    /// What the IOMMU driver says of itself: `size` bytes, the structure at least. Where there is
    /// more, that says how much.
    pub(crate) fn iommu_info(&self, size: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; size.max(size_of::<vfio_iommu_type1_info>())];
        // SAFETY: begins with its size, holds no pointer.
        unsafe { self.0.call_bytes(IOMMU_GET_INFO, &mut bytes) }?;
        Ok(bytes)
    }

    /// Lets the card reach `length` bytes of `memory`, from `offset` on, at `iova`.
    pub(crate) fn map(
        &self,
        memory: &Mapping,
        offset: usize,
        length: usize,
        iova: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let mut map = vfio_iommu_type1_dma_map {
            flags,
            vaddr: memory.address_of(offset, length).ok_or(Errno::INVAL)?,
            iova,
            size: u64::try_from(length).map_err(|_| Errno::OVERFLOW)?,
            ..Default::default()
        };
        self.0.call(&mut map).map(drop)
    }

    /// Takes `size` bytes at `iova` away again and returns how many were taken.
    pub(crate) fn unmap(&self, iova: u64, size: u64) -> Result<u64, Errno> {
        // The binding ends in a flexible array, so the bytes are laid out here.
        const IOVA: usize = offset_of!(vfio_iommu_type1_dma_unmap, iova);
        const SIZE: usize = offset_of!(vfio_iommu_type1_dma_unmap, size);
        let mut bytes = [0; size_of::<vfio_iommu_type1_dma_unmap>()];
        bytes[IOVA..IOVA + 8].copy_from_slice(&iova.to_ne_bytes());
        bytes[SIZE..SIZE + 8].copy_from_slice(&size.to_ne_bytes());
        // SAFETY: begins with its size; without flags, nothing follows that would hold a pointer.
        unsafe { self.0.call_bytes(UNMAP_DMA, &mut bytes) }?;
        let mut unmapped = [0; 8];
        unmapped.copy_from_slice(&bytes[SIZE..SIZE + 8]);
        Ok(u64::from_ne_bytes(unmapped))
    }
}

/// An open `/dev/vfio/N`.
#[derive(Debug)]
pub(crate) struct Group(Handle);

impl Group {
    pub(crate) fn open(kernel: &Arc<dyn Kernel>, path: &Path) -> Result<Self, Errno> {
        Ok(Self(Handle::new(Arc::clone(kernel), kernel.open(path)?)))
    }

    /// Whether no function of the group is held by a host driver.
    pub(crate) fn is_viable(&self) -> Result<bool, Errno> {
        let mut status = vfio_group_status::default();
        self.0.call(&mut status)?;
        Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
    }

    pub(crate) fn set_container(&self, container: &Container) -> Result<(), Errno> {
        let fd: RawFd = container.0.as_fd().as_raw_fd();
        // SAFETY: reads one descriptor number.
        unsafe { self.0.call_reading(SET_CONTAINER, &fd) }.map(drop)
    }

    /// Opens the function of the group that is called `name`.
    pub(crate) fn device(&self, name: &str) -> Result<OwnedFd, Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        // SAFETY: reads a string that ends in NUL, and writes nothing.
        let fd = unsafe { self.0.ioctl(GET_DEVICE_FD, name.as_ptr().cast_mut().cast()) }?;
        if fd < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: the kernel has just opened this descriptor for us; nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
