//! Memory that is shared with a card or with another process.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The width of one access, so that no other can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Double,
    /// Eight bytes.
    Quad,
}

impl Width {
    /// All widths, narrowest first.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Word, Self::Double, Self::Quad];

    /// The width in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Double => 4,
            Self::Quad => 8,
        }
    }
}

/// Pages that someone else may change at any time.
///
/// No reference into them is ever made; each access is one volatile load or store.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    write: bool,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread.
unsafe impl Send for Mapping {}
// SAFETY: the memory is changed by others anyhow; all accesses through `&self` are volatile, of the
// natural width and aligned, so that each is a single instruction, and no references exist.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps fresh memory, all zeros.
    pub(crate) fn anonymous(length: usize) -> Result<Self, Errno> {
        // SAFETY: no address is given, so no existing mapping is touched.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::FAULT)?, length, write: true })
    }

    /// Maps `length` bytes of a file from `offset` on, shared.
    pub(crate) fn of_file(
        fd: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        read: bool,
        write: bool,
    ) -> Result<Self, Errno> {
        let mut protection = ProtFlags::empty();
        protection.set(ProtFlags::READ, read);
        protection.set(ProtFlags::WRITE, write);
        // SAFETY: no address is given, so no existing mapping is touched.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset)
        }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::FAULT)?, length, write })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.write
    }

    /// Returns the address of `offset`, if `length` bytes from there are inside.
    pub(crate) fn address_of(&self, offset: usize, length: usize) -> Option<u64> {
        self.contains(offset, length).then_some(())?;
        u64::try_from(self.start.as_ptr().expose_provenance().checked_add(offset)?).ok()
    }

    pub(crate) fn contains(&self, offset: usize, length: usize) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// Loads one value; `None` outside the mapping, or where `offset` is not a multiple of `width`.
    pub(crate) fn load(&self, offset: usize, width: Width) -> Option<u64> {
        let at = self.at(offset, width)?;
        // SAFETY: `at` is inside the mapping and aligned for `width`; any bytes are valid integers.
        Some(unsafe {
            match width {
                Width::Byte => u64::from(at.read_volatile()),
                Width::Word => u64::from(at.cast::<u16>().read_volatile()),
                Width::Double => u64::from(at.cast::<u32>().read_volatile()),
                Width::Quad => at.cast::<u64>().read_volatile(),
            }
        })
    }

    /// Stores the low bytes of `value`; `None` outside the mapping, where it cannot be written, or
    /// where `offset` is not a multiple of `width`.
    pub(crate) fn store(&self, offset: usize, width: Width, value: u64) -> Option<()> {
        let at = self.write.then(|| self.at(offset, width))??;
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        // SAFETY: `at` is inside the mapping, which can be written, and aligned for `width`.
        unsafe {
            match width {
                Width::Byte => at.write_volatile(b0),
                Width::Word => at.cast::<u16>().write_volatile(u16::from_le_bytes([b0, b1])),
                Width::Double => {
                    at.cast::<u32>().write_volatile(u32::from_le_bytes([b0, b1, b2, b3]))
                }
                Width::Quad => at.cast::<u64>().write_volatile(value),
            }
        }
        Some(())
    }

    // The start is page-aligned, so an aligned offset is an aligned address.
    fn at(&self, offset: usize, width: Width) -> Option<*mut u8> {
        let fits = self.contains(offset, width.bytes()) && offset.is_multiple_of(width.bytes());
        // SAFETY: inside the mapping, just checked.
        fits.then(|| unsafe { self.start.as_ptr().add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours since it was mapped, and nobody holds a reference into it. It can fail only
        // for a range that is no mapping.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_width_stores_only_its_bytes() {
        let mapping = Mapping::anonymous(4096).unwrap();
        mapping.store(8, Width::Quad, u64::MAX).unwrap();
        for (width, offset, expected) in [
            (Width::Byte, 8, 0xffff_ffff_ffff_ff22),
            (Width::Word, 12, 0xffff_1122_ffff_ff22),
            (Width::Double, 8, 0xffff_1122_eeff_1122),
            (Width::Quad, 8, 0xaabb_ccdd_eeff_1122),
        ] {
            mapping.store(offset, width, 0xaabb_ccdd_eeff_1122).unwrap();
            assert_eq!(mapping.load(8, Width::Quad), Some(expected), "{width:?}");
        }
    }

    #[test]
    fn nothing_is_reached_outside_or_unaligned() {
        let mapping = Mapping::anonymous(4096).unwrap();
        for width in Width::ALL {
            let last = 4096 - width.bytes();
            assert_eq!(mapping.load(last, width), Some(0));
            assert_eq!(mapping.load(last + width.bytes(), width), None);
            assert_eq!(mapping.load(usize::MAX, width), None);
            assert_eq!(mapping.store(last + width.bytes(), width, 1), None);
            if width != Width::Byte {
                assert_eq!(mapping.load(last - 1, width), None);
            }
        }
        assert_eq!(mapping.address_of(4095, 2), None);
        assert_eq!(mapping.address_of(usize::MAX, 1), None);
    }

    #[test]
    fn what_was_mapped_for_reading_is_not_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&file);
        let mapping = Mapping::of_file(fd, 0, 4096, true, false).unwrap();
        assert_eq!(mapping.store(0, Width::Byte, 1), None);
    }
}
