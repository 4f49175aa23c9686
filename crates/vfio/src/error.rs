//! What can go wrong between us and VFIO.

use std::io;
use std::path::PathBuf;

use host::ReadError;
use pci::Address;
use rustix::io::Errno;

use crate::group::Blocker;

/// A card could not be opened or driven through VFIO.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host is a capture: it has no devices to open.
    #[error("{address} belongs to a captured host, which has no devices to open")]
    Captured {
        /// The function.
        address: Address,
    },
    /// The function is in no IOMMU group: there is no IOMMU, it is off, or it leaves this one out.
    #[error("{address} is in no IOMMU group")]
    NoGroup {
        /// The function.
        address: Address,
    },
    /// The function is not bound to a VFIO driver.
    #[error("{address} is not bound to vfio-pci but to {}", driver.as_deref().unwrap_or("no driver"))]
    NotOnVfio {
        /// The function.
        address: Address,
        /// The driver that has it, if any.
        driver: Option<String>,
    },
    /// A device node does not exist.
    #[error("{} does not exist, so {address} cannot be opened", path.display())]
    NodeMissing {
        /// The function.
        address: Address,
        /// The node.
        path: PathBuf,
    },
    /// A device node may not be opened by this user.
    #[error("{} may not be opened by this user, so {address} cannot be opened", path.display())]
    NodeDenied {
        /// The function.
        address: Address,
        /// The node.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has the function, or one of its group, open.
    #[error("another process has {address} open through {}", path.display())]
    Busy {
        /// The function.
        address: Address,
        /// The node whose holder is to be looked for.
        path: PathBuf,
    },
    /// Functions of the group are held by host drivers, so that the kernel gives none of it away.
    #[error("group {group} of {address} is not viable: {}", list(blockers))]
    GroupNotViable {
        /// The function.
        address: Address,
        /// Its IOMMU group.
        group: u32,
        /// The functions that block, with their drivers. Empty if the kernel refuses but sysfs
        /// shows no reason.
        blockers: Vec<Blocker>,
    },
    /// The platform cannot keep the card from forging interrupts, and the administrator has not
    /// allowed that.
    #[error(
        "the kernel refuses {address} because interrupts are not remapped ({} is {})",
        parameter.display(), value.as_deref().unwrap_or("absent")
    )]
    InterruptRemapping {
        /// The function.
        address: Address,
        /// The module parameter that would allow it.
        parameter: PathBuf,
        /// What it is set to.
        value: Option<String>,
    },
    /// Firmware wants memory of its own mapped for the function at all times (RMRR, IVMD).
    #[error(
        "the kernel refuses {address} because firmware reserves memory for it: {}",
        regions.join(", ")
    )]
    ReservedMemory {
        /// The function.
        address: Address,
        /// The lines of `reserved_regions` of its group that say so.
        regions: Vec<String>,
    },
    /// No IOMMU driver that we know answers to the container.
    #[error("VFIO has no type 1 IOMMU driver for {address} (module vfio_iommu_type1)")]
    NoIommuDriver {
        /// The function.
        address: Address,
    },
    /// The memory would exceed what this process may lock.
    #[error(
        "{size} bytes cannot be mapped for {address}: this process may lock {limit} bytes of memory"
    )]
    LockedMemory {
        /// The function.
        address: Address,
        /// Bytes asked for.
        size: u64,
        /// The soft limit (RLIMIT_MEMLOCK), in bytes; what was mapped before counts towards it.
        limit: u64,
    },
    /// A request that the kernel refused for another reason.
    #[error("{operation} failed for {address}")]
    Kernel {
        /// The function.
        address: Address,
        /// The request, as the kernel's header calls it.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Fewer bytes were transferred than asked for.
    #[error(
        "{operation} of {wanted} bytes at {offset:#x} of region {region} of {address} \
         transferred {done}"
    )]
    Short {
        /// The function.
        address: Address,
        /// `read` or `write`.
        operation: &'static str,
        /// The region's index.
        region: u32,
        /// Offset in the region, in bytes.
        offset: u64,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes transferred.
        done: usize,
    },
    /// A read or write of a region failed.
    #[error("{operation} of {wanted} bytes at {offset:#x} of region {region} of {address} failed")]
    Transfer {
        /// The function.
        address: Address,
        /// `read` or `write`.
        operation: &'static str,
        /// The region's index.
        region: u32,
        /// Offset in the region, in bytes.
        offset: u64,
        /// Bytes asked for.
        wanted: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// An access is not inside what it is for, or not aligned to its own width.
    #[error("{length} bytes at {offset:#x} are outside the {size} bytes there, or not aligned")]
    OutOfBounds {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// Size of the region, memory or mapping in bytes.
        size: u64,
    },
    /// A region, or this part of it, cannot be mapped.
    #[error("region {region} of {address} cannot be mapped: {reason}")]
    NotMappable {
        /// The function.
        address: Address,
        /// The region's index.
        region: u32,
        /// Why.
        reason: &'static str,
    },
    /// There is no such region or interrupt.
    #[error("{address} has no {what}")]
    Absent {
        /// The function.
        address: Address,
        /// What was asked for.
        what: String,
    },
    /// The kernel has fewer interrupt vectors left than asked for.
    #[error("{wanted} interrupt vectors were asked for {address} and {available} are available")]
    Vectors {
        /// The function.
        address: Address,
        /// Vectors asked for.
        wanted: u32,
        /// Vectors that there are.
        available: u32,
    },
    /// The function cannot be reset alone.
    #[error("{address} has no reset of its own")]
    NoReset {
        /// The function.
        address: Address,
    },
    /// A bus or slot reset would touch functions that are not ours.
    #[error("a bus reset of {address} would also reset {}", list(others))]
    ResetTouches {
        /// The function.
        address: Address,
        /// The others.
        others: Vec<Address>,
    },
    /// What the kernel answered makes no sense.
    #[error("{operation} answered for {address} with {what}")]
    Answer {
        /// The function.
        address: Address,
        /// The request, as the kernel's header calls it.
        operation: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// Memory or an event descriptor could not be had from the system.
    #[error("{what} could not be made")]
    Resource {
        /// What it was.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A fact about the function could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether another process has the card.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether this user lacks the rights.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::NodeDenied { .. } => true,
            Self::Read(error) => error.is_denied(),
            _ => false,
        }
    }

    pub(crate) fn kernel(
        address: Address,
        operation: &'static str,
    ) -> impl Fn(Errno) -> Self + Copy {
        move |errno| Self::Kernel { address, operation, source: errno.into() }
    }

    pub(crate) fn answer(
        address: Address,
        operation: &'static str,
        what: impl Into<String>,
    ) -> Self {
        Self::Answer { address, operation, what: what.into() }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "for no reason that sysfs shows".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
