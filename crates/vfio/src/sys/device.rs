//! One function of a card, as VFIO opens it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::ioctl::Opcode;
use vfio_bindings::bindings::vfio::{
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_info, vfio_irq_info,
    vfio_irq_set, vfio_pci_hot_reset, vfio_region_info,
};

use super::iommufd::Iommufd;
use super::kernel::Kernel;
use super::mapping::Mapping;
use super::request::{Handle, vfio};

const GET_REGION_INFO: Opcode = vfio(8);
const SET_IRQS: Opcode = vfio(10);
const RESET: Opcode = vfio(11);
const GET_PCI_HOT_RESET_INFO: Opcode = vfio(12);
const PCI_HOT_RESET: Opcode = vfio(13);

/// An open function.
#[derive(Debug)]
pub(crate) struct DeviceFile(Handle);

impl DeviceFile {
    /// Wraps what [`super::Group::device`] returned.
    pub(crate) fn new(kernel: &Arc<dyn Kernel>, fd: OwnedFd) -> Self {
        Self(Handle::new(Arc::clone(kernel), fd))
    }

    /// Opens `/dev/vfio/devices/vfioN`; it answers to nothing before [`DeviceFile::bind`].
    pub(crate) fn open(kernel: &Arc<dyn Kernel>, path: &Path) -> Result<Self, Errno> {
        Ok(Self::new(kernel, kernel.open(path)?))
    }

    /// Binds the function to `iommufd`, which opens it for real.
    pub(crate) fn bind(&self, iommufd: &Iommufd) -> Result<(), Errno> {
        let mut bind =
            vfio_device_bind_iommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..Default::default() };
        self.0.call(&mut bind).map(drop)
    }

    /// Attaches the function to an address space of the iommufd that it is bound to.
    pub(crate) fn attach(&self, ioas: u32) -> Result<(), Errno> {
        let mut attach = vfio_device_attach_iommufd_pt { pt_id: ioas, ..Default::default() };
        self.0.call(&mut attach).map(drop)
    }

    pub(crate) fn info(&self) -> Result<vfio_device_info, Errno> {
        let mut info = vfio_device_info::default();
        self.0.call(&mut info)?;
        Ok(info)
    }

    /// What the kernel says of a region: `size` bytes, the structure at least. Where there is more,
    /// that says how much.
    pub(crate) fn region_info(&self, index: u32, size: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; size.max(size_of::<vfio_region_info>())];
        let at = std::mem::offset_of!(vfio_region_info, index);
        bytes[at..at + 4].copy_from_slice(&index.to_ne_bytes());
        // SAFETY: begins with its size, holds no pointer.
        unsafe { self.0.call_bytes(GET_REGION_INFO, &mut bytes) }?;
        Ok(bytes)
    }

    pub(crate) fn irq_info(&self, index: u32) -> Result<vfio_irq_info, Errno> {
        let mut info = vfio_irq_info { index, ..Default::default() };
        self.0.call(&mut info)?;
        Ok(info)
    }

    /// Configures interrupts with what [`irq_set`] built. A positive answer is the number of
    /// vectors that there would have been, and nothing was done.
    pub(crate) fn set_irqs(&self, mut set: Vec<u8>) -> Result<i32, Errno> {
        // SAFETY: begins with its size and holds no pointer; the kernel refuses what is too short
        // for its count.
        unsafe { self.0.call_bytes(SET_IRQS, &mut set) }
    }

    pub(crate) fn reset(&self) -> Result<(), Errno> {
        // SAFETY: takes nothing.
        unsafe { self.0.call_integer(RESET, 0) }.map(drop)
    }

    /// Asks what a bus or slot reset would touch; `bytes` is a `vfio_pci_hot_reset_info` with room
    /// for the answer, and holds the count even where that was too little (`ENOSPC`).
    pub(crate) fn hot_reset_info(&self, bytes: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: begins with its size, holds no pointer.
        unsafe { self.0.call_bytes(GET_PCI_HOT_RESET_INFO, bytes) }.map(drop)
    }

    /// Resets the bus or slot. `groups` proves that all that is on it is ours; with iommufd it is
    /// empty and the kernel knows.
    pub(crate) fn hot_reset(&self, groups: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut bytes = vec![0; size_of::<vfio_pci_hot_reset>()];
        let at = std::mem::offset_of!(vfio_pci_hot_reset, count);
        let count = u32::try_from(groups.len()).map_err(|_| Errno::OVERFLOW)?;
        bytes[at..at + 4].copy_from_slice(&count.to_ne_bytes());
        for group in groups {
            bytes.extend_from_slice(&group.as_raw_fd().to_ne_bytes());
        }
        // SAFETY: begins with its size, holds no pointer.
        unsafe { self.0.call_bytes(PCI_HOT_RESET, &mut bytes) }.map(drop)
    }

    /// Maps `length` bytes of the file at `offset`.
    pub(crate) fn map(&self, offset: u64, length: usize, write: bool) -> Result<Mapping, Errno> {
        Mapping::of_file(self.0.as_fd(), offset, length, true, write)
    }
}

impl AsFd for DeviceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Builds a `struct vfio_irq_set`: the size is filled in when it is sent, and `data` follows.
pub(crate) fn irq_set(flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<vfio_irq_set>() + data.len());
    for field in [0, flags, index, start, count] {
        bytes.extend_from_slice(&field.to_ne_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}
