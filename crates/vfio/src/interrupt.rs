//! Interrupts, delivered to event descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::sys::irq_set;

const SET_IRQS: &str = "VFIO_DEVICE_SET_IRQS";

/// The kinds of interrupt of a PCI function. Of the first three, one is in use at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interrupt {
    /// The pin. The kernel masks it when it fires; see [`Device::unmask`].
    Intx,
    /// Message-signalled.
    Msi,
    /// Message-signalled, with a table in a BAR.
    Msix,
    /// The function reported an error that the kernel could not correct (PCI Express).
    Error,
    /// The kernel asks for the function back.
    Request,
}

impl Interrupt {
    /// All kinds, in the order of VFIO's indices.
    pub const ALL: [Self; 5] = [Self::Intx, Self::Msi, Self::Msix, Self::Error, Self::Request];

    /// VFIO's index.
    pub fn index(self) -> u32 {
        match self {
            Self::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }
}

/// What the kernel says of a kind of interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InterruptInfo {
    /// How many vectors there are; 0 if the function has none of this kind.
    pub count: u32,
    /// Whether it can be delivered to event descriptors.
    pub eventfd: bool,
    /// Whether it can be masked.
    pub maskable: bool,
    /// Whether the kernel masks it when it fires.
    pub automasked: bool,
    /// Whether all vectors must be enabled at once.
    pub no_resize: bool,
}

impl Device {
    /// Asks the kernel about a kind of interrupt.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that the function has none of the kind.
    pub fn interrupt(&self, kind: Interrupt) -> Result<InterruptInfo> {
        let info = match self.file.irq_info(kind.index()) {
            // So drivers/vfio/pci answers for errors of what is not PCI Express.
            Err(Errno::INVAL) => Default::default(),
            other => other.map_err(Error::kernel(self.address(), "VFIO_DEVICE_GET_IRQ_INFO"))?,
        };
        Ok(InterruptInfo {
            count: info.count,
            eventfd: info.flags & VFIO_IRQ_INFO_EVENTFD != 0,
            maskable: info.flags & VFIO_IRQ_INFO_MASKABLE != 0,
            automasked: info.flags & VFIO_IRQ_INFO_AUTOMASKED != 0,
            no_resize: info.flags & VFIO_IRQ_INFO_NORESIZE != 0,
        })
    }

    /// Delivers the vectors from `first` on to event descriptors, one each; `None` leaves a vector
    /// without. The first call for a kind enables it with `first` plus that many vectors; later
    /// ones change what was enabled.
    ///
    /// Enabling message-signalled interrupts sets up the function's capability and turns its pin
    /// off. It does not turn bus mastering on, without which no message is sent.
    ///
    /// # Errors
    /// The kernel refuses, or has fewer vectors; nothing is enabled then.
    pub fn enable_interrupts(
        &self,
        kind: Interrupt,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<()> {
        let data: Vec<u8> = events
            .iter()
            .map(|event| event.map_or(-1, |fd| fd.as_raw_fd()))
            .flat_map(i32::to_ne_bytes)
            .collect();
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set_irqs(kind, flags, first, count, &data)
    }

    /// Turns a kind of interrupt off, all its vectors.
    ///
    /// # Errors
    /// The kernel refuses, as it does where the kind was not enabled.
    pub fn disable_interrupts(&self, kind: Interrupt) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set_irqs(kind, flags, 0, 0, &[])
    }

    /// Masks vectors.
    ///
    /// # Errors
    /// The kernel refuses; Linux can mask only the pin.
    pub fn mask(&self, kind: Interrupt, first: u32, count: u32) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
        self.set_irqs(kind, flags, first, count, &[])
    }

    /// Unmasks vectors. A pin that is still asserted fires again at once.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unmask(&self, kind: Interrupt, first: u32, count: u32) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
        self.set_irqs(kind, flags, first, count, &[])
    }

    /// Unmasks the pin whenever `event` is signalled, without us; `None` ends that.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unmask_on(&self, event: Option<BorrowedFd<'_>>) -> Result<()> {
        let fd = event.map_or(-1, |fd| fd.as_raw_fd());
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;
        self.set_irqs(Interrupt::Intx, flags, 0, 1, &fd.to_ne_bytes())
    }

    /// Has the kernel signal the event descriptors of vectors as if they had fired. The card has
    /// no part in it (drivers/vfio/pci/vfio_pci_intrs.c: "enables loopback testing").
    ///
    /// # Errors
    /// The kernel refuses, as it does where the kind was not enabled.
    pub fn trigger(&self, kind: Interrupt, first: u32, count: u32) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        // A count of none would disable the kind.
        if count == 0 {
            return Ok(());
        }
        self.set_irqs(kind, flags, first, count, &[])
    }

    fn set_irqs(
        &self,
        kind: Interrupt,
        flags: u32,
        first: u32,
        count: u32,
        data: &[u8],
    ) -> Result<()> {
        let address = self.address();
        let set = irq_set(flags, kind.index(), first, count, data);
        match self.file.set_irqs(set).map_err(Error::kernel(address, SET_IRQS))? {
            0 => Ok(()),
            // pci_alloc_irq_vectors in drivers/vfio/pci: so many there would have been.
            available => Err(Error::Vectors {
                address,
                wanted: first.saturating_add(count),
                available: u32::try_from(available).unwrap_or_default(),
            }),
        }
    }
}

/// An event descriptor of our own (eventfd(2)): a counter that the kernel raises and that reading
/// sets back to zero.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Makes one.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn new() -> Result<Self> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|errno| Error::Resource { what: "an event descriptor", source: errno.into() })
    }

    /// Waits until the event is signalled, and returns how often it was; 0 once `limit` is over.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&self, limit: Duration) -> Result<u64> {
        let failed =
            |errno: Errno| Error::Resource { what: "a wait for an event", source: errno.into() };
        let deadline = Instant::now().checked_add(limit).ok_or_else(|| failed(Errno::INVAL))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| failed(Errno::INVAL))?;
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&left)) {
                Ok(0) => return Ok(0),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(8) => Ok(u64::from_ne_bytes(count)),
            Ok(_) | Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(failed(errno)),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
