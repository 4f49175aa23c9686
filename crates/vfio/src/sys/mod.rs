//! The system calls: the only unsafe code of the project.
//!
//! Each file descriptor that VFIO or iommufd hands out is a type of its own ([`Container`],
//! [`Group`], [`DeviceFile`], [`Iommufd`]) whose methods are exactly the requests that the kernel
//! takes on it, and all of them are safe. What makes them safe is said once for each request type,
//! in [`request`]. Below them is one seam, [`Kernel`], so that tests see the very bytes that the
//! kernel would.
//!
//! Errors are the bare numbers; what they mean is known to the modules above.

#![expect(unsafe_code, reason = "ioctl and mmap; nothing else of the project needs it")]

mod container;
mod device;
mod iommufd;
mod kernel;
mod mapping;
#[cfg(test)]
pub(crate) mod mock;
mod request;

pub(crate) use container::{Container, Group};
pub(crate) use device::{DeviceFile, irq_set};
pub(crate) use iommufd::{Iommufd, IovaRanges};
pub(crate) use kernel::{Kernel, Linux};
pub(crate) use mapping::Mapping;
pub use mapping::Width;
