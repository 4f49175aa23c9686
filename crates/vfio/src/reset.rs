//! Resets: of one function, and of all that is on its bus or slot.

use std::mem::offset_of;

use pci::Address;
use rustix::io::Errno;
use serde::Serialize;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_DEVID_NOT_OWNED, VFIO_PCI_HOT_RESET_FLAG_DEV_ID, vfio_pci_dependent_device,
    vfio_pci_hot_reset_info,
};

use crate::capability::{u16_at, u32_at};
use crate::device::Device;
use crate::error::{Error, Result};

const HOT_RESET_INFO: &str = "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO";
const HOT_RESET: &str = "VFIO_DEVICE_PCI_HOT_RESET";
/// The most functions that a reset may touch: a bus full, twice over.
const MOST: u32 = 512;

/// A function that a bus or slot reset touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dependent {
    /// Its address. The kernel gives 16 bits of the domain.
    pub address: Address,
    /// Its IOMMU group; `None` with iommufd.
    pub group: Option<u32>,
    /// Whether it belongs to this address space, as far as the kernel says: always told with
    /// iommufd, never with groups.
    pub owned: Option<bool>,
}

impl Device {
    /// Resets the function, and nothing else.
    ///
    /// # Errors
    /// It has no reset of its own, or the reset failed.
    pub fn reset(&self) -> Result<()> {
        if !self.has_reset() {
            return Err(Error::NoReset { address: self.address() });
        }
        self.file.reset().map_err(Error::kernel(self.address(), "VFIO_DEVICE_RESET"))
    }

    /// Lists what a bus or slot reset would touch, this function included; `None` where there is
    /// no such reset, as on a root bus.
    ///
    /// # Errors
    /// The kernel refuses, or the answer makes no sense.
    pub fn bus_reset_scope(&self) -> Result<Option<Vec<Dependent>>> {
        let address = self.address();
        let mut room = 8;
        loop {
            let size = size_of::<vfio_pci_hot_reset_info>()
                + usize::try_from(room).unwrap_or_default()
                    * size_of::<vfio_pci_dependent_device>();
            let mut bytes = vec![0; size];
            let answer = self.file.hot_reset_info(&mut bytes);
            let count = u32_at(&bytes, offset_of!(vfio_pci_hot_reset_info, count));
            let count = count.unwrap_or_default();
            match answer {
                Ok(()) if count <= room => return self.dependents(&bytes, count).map(Some),
                Ok(()) | Err(Errno::NOSPC) if count > room && count <= MOST => room = count,
                Err(Errno::NODEV) => return Ok(None),
                Ok(()) | Err(Errno::NOSPC) => {
                    let what = format!("{count} functions where {room} had room");
                    return Err(Error::answer(address, HOT_RESET_INFO, what));
                }
                Err(errno) => return Err(Error::kernel(address, HOT_RESET_INFO)(errno)),
            }
        }
    }

    fn dependents(&self, bytes: &[u8], count: u32) -> Result<Vec<Dependent>> {
        let flags = u32_at(bytes, offset_of!(vfio_pci_hot_reset_info, flags)).unwrap_or_default();
        let has_ids = flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0;
        let entries = bytes.get(size_of::<vfio_pci_hot_reset_info>()..).unwrap_or_default();
        let entries = entries.chunks_exact(size_of::<vfio_pci_dependent_device>());
        let count = usize::try_from(count).unwrap_or_default();
        entries
            .take(count)
            .map(|entry| {
                dependent(entry, has_ids).ok_or_else(|| {
                    let what = "a function that is no PCI address";
                    Error::answer(self.address(), HOT_RESET_INFO, what)
                })
            })
            .collect()
    }

    /// Resets the bus or slot that the function is on, **with everything on it**; only if all that
    /// belongs to this address space.
    ///
    /// # Errors
    /// There is no such reset, it would touch functions that are not ours, or it failed.
    pub fn bus_reset(&self) -> Result<()> {
        let address = self.address();
        let Some(scope) = self.bus_reset_scope()? else {
            return Err(Error::NoReset { address });
        };
        let not_owned: Vec<Address> =
            scope.iter().filter(|d| d.owned == Some(false)).map(|d| d.address).collect();
        if !not_owned.is_empty() {
            return Err(Error::ResetTouches { address, others: not_owned });
        }
        let mut groups: Vec<u32> = scope.iter().filter_map(|d| d.group).collect();
        groups.sort_unstable();
        groups.dedup();
        match self.space().with_groups(&groups, |fds| self.file.hot_reset(fds)) {
            Ok(done) => done.map_err(Error::kernel(address, HOT_RESET)),
            Err(missing) => {
                let foreign = |d: &&Dependent| d.group.is_some_and(|g| missing.contains(&g));
                let others = scope.iter().filter(foreign).map(|d| d.address).collect();
                Err(Error::ResetTouches { address, others })
            }
        }
    }
}

/// Reads a `struct vfio_pci_dependent_device`.
fn dependent(entry: &[u8], has_ids: bool) -> Option<Dependent> {
    let id = u32_at(entry, 0)?;
    let segment = u16_at(entry, offset_of!(vfio_pci_dependent_device, segment))?;
    let bus = *entry.get(offset_of!(vfio_pci_dependent_device, bus))?;
    let devfn = *entry.get(offset_of!(vfio_pci_dependent_device, devfn))?;
    let address = Address::new(u32::from(segment), bus, devfn >> 3, devfn & 7)?;
    let not_owned = id.cast_signed() == VFIO_PCI_DEVID_NOT_OWNED;
    Some(Dependent {
        address,
        group: (!has_ids).then_some(id),
        owned: has_ids.then_some(!not_owned),
    })
}

#[cfg(test)]
mod tests;
