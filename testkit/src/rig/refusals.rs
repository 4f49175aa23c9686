//! What VFIO refuses, and that the reason is named.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use pci::Address;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;
use vfio::{Access, Device, Error, Memory};

use super::{Outcome, Rig, one, said};

/// `nobody`, as most systems have it.
const NOBODY: u32 = 65534;

impl Rig<'_> {
    /// Checks that opening is refused for the reason that `expected` knows.
    fn refused(&self, address: Address, what: &str, expected: fn(&Error) -> bool) -> Outcome {
        match Device::open(&self.host, address) {
            Ok(_) => Err(format!("{what}: {address} was opened")),
            Err(error) if expected(&error) => {
                self.ok(format!("{what}: {}", said(error)));
                Ok(())
            }
            Err(error) => Err(format!("{what}: refused because {}", said(error))),
        }
    }
}

/// Of two functions of one group, only the first is taken: the other one's driver blocks it.
pub(super) fn shared_group(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [first, second] = functions else { return Err("this takes two functions".to_owned()) };
    let driver = rig.driver(*second)?.ok_or("the second function has no driver")?;
    rig.take(&[*first])?;
    match Device::open(&rig.host, *first) {
        Err(Error::GroupNotViable { blockers, .. }) => {
            let found: Vec<_> =
                blockers.iter().map(|b| (b.device.clone(), b.driver.clone())).collect();
            rig.same("the other function blocks", found, vec![(second.to_string(), driver)])?;
        }
        Err(error) => return Err(format!("refused because {}", said(error))),
        Ok(_) => return Err("it was opened".to_owned()),
    }
    rig.take(&[*second])?;
    let device = Device::open(&rig.host, *first).map_err(said)?;
    rig.ok("with the other one taken it opens");
    device.space().open(&rig.host, *second).map_err(said)?;
    rig.ok("the other opens into the same space");
    rig.refused(*second, "but not into another", Error::is_busy)
}

/// A second opener is told that the function is busy.
pub(super) fn busy(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    rig.take(functions)?;
    let first = Device::open(&rig.host, address).map_err(said)?;
    rig.refused(address, "open twice", Error::is_busy)?;
    drop(first);
    Device::open(&rig.host, address).map_err(said)?;
    rig.ok("closed, it opens");
    Ok(())
}

/// Without an IOMMU the kernel does not let vfio-pci bind.
pub(super) fn no_iommu(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    rig.same("vfio-pci does not bind", rig.bind(address)?, None)?;
    rig.refused(address, "no group", |error| matches!(error, Error::NoGroup { .. }))
}

/// Without interrupt remapping the IOMMU driver refuses the group.
pub(super) fn no_remapping(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    rig.take(functions)?;
    rig.refused(address, "no interrupt remapping", |error| {
        matches!(error, Error::InterruptRemapping { value: Some(value), .. } if value == "N")
    })
}

/// More memory than the process may lock is refused, with the limit.
pub(super) fn locked_memory(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    const LIMIT: u64 = 64 << 10;
    let address = one(functions)?;
    rig.take(functions)?;
    let device = Device::open(&rig.host, address).map_err(said)?;
    let mut capabilities = rustix::thread::capabilities(None).map_err(said)?;
    capabilities.effective.remove(CapabilitySet::IPC_LOCK);
    rustix::thread::set_capabilities(None, capabilities).map_err(said)?;
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    rustix::process::setrlimit(Resource::Memlock, limit).map_err(said)?;
    let map = |size| {
        let memory = Arc::new(Memory::anonymous(size)?);
        device.space().map(1 << 20, memory, Access::Both)
    };
    map(4096).and_then(vfio::DmaMapping::unmap).map_err(said)?;
    rig.ok("a page is within the limit");
    match map(1 << 20) {
        Err(error @ Error::LockedMemory { limit: LIMIT, size: 0x10_0000, .. }) => {
            rig.ok(said(error));
            Ok(())
        }
        Err(error) => Err(format!("refused because {}", said(error))),
        Ok(_) => Err("it was mapped".to_owned()),
    }
}

/// Another user may not open the group.
pub(super) fn denied(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    if !rustix::process::geteuid().is_root() {
        return rig.refused(address, "denied", Error::is_denied);
    }
    rig.take(functions)?;
    let program = std::env::current_exe().map_err(said)?;
    let mut command = Command::new(program);
    command.args(["denied", &address.to_string()]).uid(NOBODY).gid(NOBODY);
    let status = command.status().map_err(said)?;
    rig.holds("the other user was denied", status.success())
}

/// A function that is not on vfio-pci is not opened, and who has it is named.
pub(super) fn not_on_vfio(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    rig.refused(address, "not on vfio-pci", |error| matches!(error, Error::NotOnVfio { .. }))
}
