//! The seam below which the running kernel, or a mock of it, answers.

use std::ffi::c_void;
use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

/// What answers to `open` and `ioctl`. Everything else works on the descriptors they return.
pub(crate) trait Kernel: Debug + Send + Sync {
    /// Opens a device node for reading and writing.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno>;

    /// Makes one request.
    ///
    /// # Safety
    /// `argument` is what `request` takes: an integer, or a pointer to memory that is valid for
    /// what the request reads and writes, pointers inside it included.
    unsafe fn ioctl(
        &self,
        fd: BorrowedFd<'_>,
        request: Opcode,
        argument: *mut c_void,
    ) -> Result<IoctlOutput, Errno>;
}

/// The running kernel.
#[derive(Debug)]
pub(crate) struct Linux;

impl Kernel for Linux {
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    }

    unsafe fn ioctl(
        &self,
        fd: BorrowedFd<'_>,
        request: Opcode,
        argument: *mut c_void,
    ) -> Result<IoctlOutput, Errno> {
        // SAFETY: passed on to the caller.
        unsafe { rustix::ioctl::ioctl(fd, Request { request, argument }) }
    }
}

struct Request {
    request: Opcode,
    argument: *mut c_void,
}

// SAFETY: the caller of `Kernel::ioctl` vouches for the pair of request and argument; the output is
// the bare return value, so nothing is cast.
unsafe impl Ioctl for Request {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.request
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(output)
    }
}
