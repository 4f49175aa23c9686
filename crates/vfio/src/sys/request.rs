//! Request numbers, and the structures that go with them.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::ioctl::{IoctlOutput, Opcode, opcode};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_info, vfio_group_status, vfio_iommu_type1_dma_map, vfio_irq_info,
};

use super::kernel::Kernel;

/// Returns request `number` of VFIO, counted as include/uapi/linux/vfio.h of the kernel does
/// (`_IO(VFIO_TYPE, VFIO_BASE + number)`); no direction or size is part of it.
pub(super) const fn vfio(number: u8) -> Opcode {
    // At most 20 today, and `VFIO_BASE` is 100.
    opcode::none(VFIO_TYPE, VFIO_BASE.to_le_bytes()[0] + number)
}

/// A structure of fixed size that begins with its own size, as the kernel knows it.
///
/// # Safety
/// The type is `repr(C)` without padding and any bytes are a valid value of it. The kernel, given
/// `REQUEST`, reads and writes nothing but the first `size` bytes of it, where `size` is what
/// [`Sized32::set_size`] stores, and memory behind pointers in it only as documented at the type.
pub(super) unsafe trait Sized32: Sized {
    /// The request that takes this structure.
    const REQUEST: Opcode;

    /// Stores the size of the structure where the kernel looks for it.
    fn set_size(&mut self, size: u32);
}

macro_rules! sized {
    ($($(#[$comment:meta])* $name:ty, $field:ident, $request:expr;)*) => {$(
        $(#[$comment])*
        // SAFETY: the structure of include/uapi/linux that belongs to this request.
        unsafe impl Sized32 for $name {
            const REQUEST: Opcode = $request;

            fn set_size(&mut self, size: u32) {
                self.$field = size;
            }
        }
    )*};
}
pub(super) use sized;

sized! {
    vfio_group_status, argsz, vfio(3);
    vfio_device_info, argsz, vfio(7);
    vfio_irq_info, argsz, vfio(9);
    /// Its `vaddr` is memory that the card may use from then on; the kernel pins it and does not
    /// touch it.
    vfio_iommu_type1_dma_map, argsz, vfio(13);
    /// Its `token_uuid_ptr` is read only where `flags` says so, and here it never does.
    vfio_device_bind_iommufd, argsz, vfio(18);
    vfio_device_attach_iommufd_pt, argsz, vfio(19);
}

/// A descriptor and the kernel that answers to requests on it.
#[derive(Debug)]
pub(super) struct Handle {
    kernel: Arc<dyn Kernel>,
    fd: OwnedFd,
}

impl Handle {
    pub(super) fn new(kernel: Arc<dyn Kernel>, fd: OwnedFd) -> Self {
        Self { kernel, fd }
    }

    /// Makes a request with a structure of fixed size, in and out.
    pub(super) fn call<T: Sized32>(&self, value: &mut T) -> Result<IoctlOutput, Errno> {
        value.set_size(u32::try_from(size_of::<T>()).map_err(|_| Errno::OVERFLOW)?);
        // SAFETY: `Sized32` says that the kernel stays inside the structure, whose size was just
        // stored; it is borrowed for the whole call.
        unsafe { self.ioctl(T::REQUEST, std::ptr::from_mut(value).cast()) }
    }

    /// Makes a request with a structure of variable size, in and out. Its first four bytes, where
    /// the kernel looks for the size, are overwritten with it.
    ///
    /// # Safety
    /// `request` takes a structure that begins with its size in bytes and holds no pointer.
    pub(super) unsafe fn call_bytes(
        &self,
        request: Opcode,
        bytes: &mut [u8],
    ) -> Result<IoctlOutput, Errno> {
        let size = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        bytes.get_mut(..4).ok_or(Errno::INVAL)?.copy_from_slice(&size.to_ne_bytes());
        // SAFETY: the kernel stays inside the size that was just stored (its copies need no
        // alignment); the bytes are borrowed for the whole call.
        unsafe { self.ioctl(request, bytes.as_mut_ptr().cast()) }
    }

    /// Makes a request that takes an integer, or nothing (0).
    ///
    /// # Safety
    /// `request` takes an integer, not a pointer.
    pub(super) unsafe fn call_integer(
        &self,
        request: Opcode,
        value: u32,
    ) -> Result<IoctlOutput, Errno> {
        let value = usize::try_from(value).map_err(|_| Errno::OVERFLOW)?;
        // SAFETY: the argument is no pointer, says the caller.
        unsafe { self.ioctl(request, std::ptr::without_provenance_mut(value)) }
    }

    /// Makes a request that reads from `value`.
    ///
    /// # Safety
    /// `request` reads at most a `T`, and writes nothing.
    pub(super) unsafe fn call_reading<T>(
        &self,
        request: Opcode,
        value: &T,
    ) -> Result<IoctlOutput, Errno> {
        // SAFETY: the kernel only reads, says the caller; `value` is borrowed for the whole call.
        unsafe { self.ioctl(request, std::ptr::from_ref(value).cast_mut().cast()) }
    }

    /// Makes any request.
    ///
    /// # Safety
    /// As [`Kernel::ioctl`].
    pub(super) unsafe fn ioctl(
        &self,
        request: Opcode,
        argument: *mut c_void,
    ) -> Result<IoctlOutput, Errno> {
        // SAFETY: passed on to the caller.
        unsafe { self.kernel.ioctl(self.fd.as_fd(), request, argument) }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
