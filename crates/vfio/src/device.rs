//! One function of a card, open through VFIO.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use pci::Address;
use vfio_bindings::bindings::vfio::{VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET};

use crate::error::{Error, Result};
use crate::region::RegionInfo;
use crate::space::AddressSpace;
use crate::sys::DeviceFile;

/// The most regions that a function may have: the nine of every PCI function, and those peculiar to
/// it, of which none has more than a few.
const MOST_REGIONS: u32 = 256;

/// An open function. It is closed when this and all mappings of its regions are dropped; the
/// kernel then stops its DMA and interrupts, and resets it if it can.
#[derive(Debug)]
pub struct Device {
    address: Address,
    group: u32,
    reset: bool,
    irqs: u32,
    pub(crate) file: DeviceFile,
    pub(crate) regions: Vec<OnceLock<RegionInfo>>,
    // Declared last: the function is closed before its group and container.
    space: AddressSpace,
}

impl Device {
    pub(crate) fn new(
        address: Address,
        group: u32,
        file: DeviceFile,
        space: AddressSpace,
    ) -> Result<Self> {
        const OPERATION: &str = "VFIO_DEVICE_GET_INFO";
        let info = file.info().map_err(Error::kernel(address, OPERATION))?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            let what = format!("flags {:#x}, which are no PCI function's", info.flags);
            return Err(Error::answer(address, OPERATION, what));
        }
        if info.num_regions > MOST_REGIONS {
            let what = format!("{} regions", info.num_regions);
            return Err(Error::answer(address, OPERATION, what));
        }
        Ok(Self {
            address,
            group,
            reset: info.flags & VFIO_DEVICE_FLAGS_RESET != 0,
            irqs: info.num_irqs,
            file,
            regions: (0..info.num_regions).map(|_| OnceLock::new()).collect(),
            space,
        })
    }

    /// Its PCI address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The number of its IOMMU group.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Whether it can be reset alone: the kernel tried when it was opened.
    pub fn has_reset(&self) -> bool {
        self.reset
    }

    /// The number of its regions. Not every index below is one, as the VGA region shows.
    pub fn region_count(&self) -> u32 {
        u32::try_from(self.regions.len()).unwrap_or(MOST_REGIONS)
    }

    /// The number of its interrupt indices.
    pub fn interrupt_count(&self) -> u32 {
        self.irqs
    }

    /// The address space that its DMA goes to.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }
}

/// The descriptor, for who maps regions in another process.
impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
