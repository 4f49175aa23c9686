//! IOMMU address spaces, and the opening of functions into them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use host::{Measured, ReadError, Sysroot};
use pci::{Address, Function};
use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU};

use crate::device::Device;
use crate::driver::is_vfio;
use crate::error::{Error, Result};
use crate::group::{self, Choice, Interface};
use crate::sys::{Container, DeviceFile, Group, Iommufd, Kernel, Linux};

/// What the administrator sets to do without interrupt remapping, one for each interface.
const ALLOW_GROUP: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
const ALLOW_IOMMUFD: &str = "/sys/module/iommufd/parameters/allow_unsafe_interrupts";

/// An IOMMU address space: what the functions that are opened into it can reach by DMA.
///
/// A function can be opened by one process only, and so can its group; functions of one group
/// must therefore share a space. Clones name the same space, which lives until the last clone,
/// device and DMA mapping of it is gone.
#[derive(Clone, Debug)]
pub struct AddressSpace(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// The function that the space was made for, which errors about the whole space name.
    pub(crate) address: Address,
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) backend: Backend,
}

#[derive(Debug)]
pub(crate) enum Backend {
    Container { container: Container, groups: Mutex<Groups> },
    Iommufd { iommufd: Iommufd, ioas: u32 },
}

/// The groups in a container. The IOMMU driver is chosen when the first is added.
pub(crate) type Groups = BTreeMap<u32, Group>;

impl AddressSpace {
    /// Makes an empty address space for `address`, and other functions, to be opened into.
    ///
    /// # Errors
    /// The host is a capture, or the nodes of the interface cannot be opened.
    pub fn new(host: &Sysroot, address: Address, interface: Interface) -> Result<Self> {
        if !host.is_live() {
            return Err(Error::Captured { address });
        }
        Self::with_kernel(Arc::new(Linux), address, interface)
    }

    pub(crate) fn with_kernel(
        kernel: Arc<dyn Kernel>,
        address: Address,
        interface: Interface,
    ) -> Result<Self> {
        let backend = match interface {
            Interface::Group => {
                let container =
                    open_node(address, group::CONTAINER, |path| Container::open(&kernel, path))?;
                let operation = "VFIO_GET_API_VERSION";
                match container.version().map_err(Error::kernel(address, operation))? {
                    0 => {}
                    other => {
                        let what = format!("version {other}, where 0 is the only one known");
                        return Err(Error::answer(address, operation, what));
                    }
                }
                Backend::Container { container, groups: Mutex::default() }
            }
            Interface::Iommufd => {
                let iommufd =
                    open_node(address, group::IOMMU, |path| Iommufd::open(&kernel, path))?;
                let ioas =
                    iommufd.allocate().map_err(Error::kernel(address, "IOMMU_IOAS_ALLOC"))?;
                Backend::Iommufd { iommufd, ioas }
            }
        };
        Ok(Self(Arc::new(Inner { address, kernel, backend })))
    }

    /// The interface that functions are opened through.
    pub fn interface(&self) -> Interface {
        match self.0.backend {
            Backend::Container { .. } => Interface::Group,
            Backend::Iommufd { .. } => Interface::Iommufd,
        }
    }

    /// Opens a function into this space. The kernel resets it then if it can, and leaves bus
    /// mastering off.
    ///
    /// # Errors
    /// Whatever keeps the function from being opened, each reason as a variant of its own.
    pub fn open(&self, host: &Sysroot, address: Address) -> Result<Device> {
        let function = Function::read(host, address)?;
        // First, as without a group no driver of VFIO takes the function.
        let group = function.group.ok_or(Error::NoGroup { address })?;
        let gives = match &function.driver {
            Some(driver) => is_vfio(host, address, driver)?,
            None => Measured::Known(false),
        };
        match function.driver {
            // Where it is not known, the kernel has the word.
            _ if gives.known() != Some(&false) => {}
            driver => return Err(Error::NotOnVfio { address, driver }),
        }
        let file = match &self.0.backend {
            Backend::Container { container, groups } => {
                let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
                let opening = Opening { kernel: &self.0.kernel, host, address, group };
                let fd = opening.by_group(container, &mut groups)?;
                DeviceFile::new(&self.0.kernel, fd)
            }
            Backend::Iommufd { iommufd, ioas } => {
                let opening = Opening { kernel: &self.0.kernel, host, address, group };
                opening.by_iommufd(iommufd, *ioas)?
            }
        };
        Device::new(address, group, file, self.clone())
    }

    /// Returns the descriptors of the groups `numbers`, or those numbers that are not in here.
    pub(crate) fn with_groups<T>(
        &self,
        numbers: &[u32],
        with: impl FnOnce(&[std::os::fd::BorrowedFd<'_>]) -> T,
    ) -> Result<T, Vec<u32>> {
        let Backend::Container { groups, .. } = &self.0.backend else { return Ok(with(&[])) };
        let groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<u32> =
            numbers.iter().copied().filter(|number| !groups.contains_key(number)).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let fds: Vec<_> =
            numbers.iter().filter_map(|number| groups.get(number)).map(AsFd::as_fd).collect();
        Ok(with(&fds))
    }
}

impl Device {
    /// Opens one function into an address space of its own, through what the host has.
    ///
    /// # Errors
    /// As [`AddressSpace::new`] and [`AddressSpace::open`].
    pub fn open(host: &Sysroot, address: Address) -> Result<Self> {
        let choice = Choice::of_host(host, address)?;
        AddressSpace::new(host, address, choice.interface)?.open(host, address)
    }
}

fn open_node<T>(
    address: Address,
    path: impl AsRef<Path>,
    open: impl FnOnce(&Path) -> Result<T, Errno>,
) -> Result<T> {
    let path = path.as_ref();
    open(path).map_err(|errno| match errno {
        Errno::NOENT => Error::NodeMissing { address, path: path.to_owned() },
        Errno::BUSY => Error::Busy { address, path: path.to_owned() },
        Errno::ACCESS | Errno::PERM => {
            Error::NodeDenied { address, path: path.to_owned(), source: errno.into() }
        }
        other => Error::Kernel { address, operation: "open", source: other.into() },
    })
}

/// Asks VFIO whether a group can be given away: no host driver has a function of it. The group of
/// `address` is opened for that, and none of its functions.
///
/// # Errors
/// The host is a capture, or the group's node cannot be opened: it is not there, it is denied, or
/// whoever has it open keeps it busy.
pub fn is_group_viable(host: &Sysroot, address: Address, group: u32) -> Result<bool> {
    if !host.is_live() {
        return Err(Error::Captured { address });
    }
    viable(&(Arc::new(Linux) as Arc<dyn Kernel>), address, group)
}

fn viable(kernel: &Arc<dyn Kernel>, address: Address, group: u32) -> Result<bool> {
    let group = open_node(address, group::group_node(group), |path| Group::open(kernel, path))?;
    group.is_viable().map_err(Error::kernel(address, "VFIO_GROUP_GET_STATUS"))
}

/// One attempt to open a function.
struct Opening<'a> {
    kernel: &'a Arc<dyn Kernel>,
    host: &'a Sysroot,
    address: Address,
    group: u32,
}

impl Opening<'_> {
    fn by_group(&self, container: &Container, groups: &mut Groups) -> Result<OwnedFd> {
        if let Some(group) = groups.get(&self.group) {
            return self.device_of(group);
        }
        let path = group::group_node(self.group);
        let group = open_node(self.address, path, |path| Group::open(self.kernel, path))?;
        let viable = group.is_viable().map_err(self.kernel("VFIO_GROUP_GET_STATUS"))?;
        if !viable {
            let blockers = group::blockers(self.host, self.group)?;
            return Err(Error::GroupNotViable {
                address: self.address,
                group: self.group,
                blockers,
            });
        }
        group
            .set_container(container)
            .map_err(|errno| self.refused(errno, "VFIO_GROUP_SET_CONTAINER", ALLOW_GROUP))?;
        if groups.is_empty() {
            self.choose_iommu(container)?;
        }
        let fd = self.device_of(&group)?;
        groups.insert(self.group, group);
        Ok(fd)
    }

    fn choose_iommu(&self, container: &Container) -> Result<()> {
        // Version 2 refuses to unmap half a mapping; both do all that is needed here.
        for kind in [VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU] {
            if container.has(kind).map_err(self.kernel("VFIO_CHECK_EXTENSION"))? {
                let set = container.set_iommu(kind);
                return set.map_err(|errno| self.refused(errno, "VFIO_SET_IOMMU", ALLOW_GROUP));
            }
        }
        Err(Error::NoIommuDriver { address: self.address })
    }

    fn device_of(&self, group: &Group) -> Result<OwnedFd> {
        let address = self.address;
        group.device(&address.to_string()).map_err(|errno| match errno {
            // The kernel has no function of that name in the group: it has just been unbound.
            Errno::NODEV => Error::NotOnVfio { address, driver: None },
            other => Error::kernel(address, "VFIO_GROUP_GET_DEVICE_FD")(other),
        })
    }

    fn by_iommufd(&self, iommufd: &Iommufd, ioas: u32) -> Result<DeviceFile> {
        let address = self.address;
        let Some(path) = group::device_node(self.host, address)? else {
            let path = Path::new("/dev/vfio/devices").to_owned();
            return Err(Error::NodeMissing { address, path });
        };
        let file = open_node(address, &path, |path| DeviceFile::open(self.kernel, path))?;
        match file.bind(iommufd) {
            Ok(()) => {}
            Err(errno) => {
                return Err(match self.refused(errno, "VFIO_DEVICE_BIND_IOMMUFD", ALLOW_IOMMUFD) {
                    // Our request is well formed, so this says that the function is open already
                    // (drivers/vfio/vfio_main.c, vfio_df_open).
                    Error::Kernel { .. } if errno == Errno::INVAL => Error::Busy { address, path },
                    other => other,
                });
            }
        }
        file.attach(ioas)
            .map_err(|errno| self.refused(errno, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", ALLOW_IOMMUFD))?;
        Ok(file)
    }

    /// Finds the cause behind a refusal to attach the group to an IOMMU.
    fn refused(&self, errno: Errno, operation: &'static str, parameter: &str) -> Error {
        let cause = self.cause(errno, parameter).transpose();
        cause.unwrap_or_else(|| Ok(self.kernel(operation)(errno))).unwrap_or_else(Error::from)
    }

    fn cause(&self, errno: Errno, parameter: &str) -> Result<Option<Error>, ReadError> {
        let Self { host, address, group, .. } = *self;
        // EPERM from the Intel driver, EINVAL from the IOMMU core since Linux 6.6.
        if matches!(errno, Errno::PERM | Errno::INVAL) {
            let regions = group::reserved_memory(host, group)?;
            if !regions.is_empty() {
                return Ok(Some(Error::ReservedMemory { address, regions }));
            }
        }
        Ok(match errno {
            Errno::PERM => {
                let value = host.optional_text(parameter)?;
                // With it set, something else was refused.
                (value.as_deref() != Some("Y")).then(|| Error::InterruptRemapping {
                    address,
                    parameter: parameter.into(),
                    value,
                })
            }
            // Somebody else has the group, or a host driver has a function of it.
            Errno::BUSY => Some(match group::blockers(host, group)? {
                blockers if blockers.is_empty() => {
                    Error::Busy { address, path: group::group_node(group) }
                }
                blockers => Error::GroupNotViable { address, group, blockers },
            }),
            _ => None,
        })
    }

    fn kernel(&self, operation: &'static str) -> impl Fn(Errno) -> Error + Copy {
        Error::kernel(self.address, operation)
    }
}

#[cfg(test)]
mod tests;
