//! Whether a function is well enough for a native driver to be let at it.

use host::{ReadError, Sysroot};
use pci::config::{Capability, ConfigSpace};
use pci::{Address, Function};

/// Why no native driver should probe a function: doing so can hang the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwell {
    /// Reads of its configuration space come back as all ones: it fell off the bus.
    #[error("{0} does not answer: its configuration space reads as all ones")]
    AllOnes(Address),
    /// It is in D3 although it was told to be awake.
    #[error("{0} is stuck in the power state D3")]
    StuckInD3(Address),
    /// A reset of it failed.
    #[error("a reset of {0} failed: {1}")]
    ResetFailed(Address, String),
}

/// Returns why a function, asleep or awake, is out of reach of any driver.
///
/// A read of `config` wakes the bridge above, and the function itself only from D3cold, where it
/// has no configuration space to answer with (drivers/pci/pci-sysfs.c, pci_read_config and
/// pci_config_pm_runtime_get). So this is for a function that is about to be woken anyway, not for
/// one that is only looked at.
///
/// # Errors
/// There is no such function, or sysfs cannot be read.
pub fn unwell(host: &Sysroot, address: Address) -> Result<Option<Unwell>, ReadError> {
    Ok(config(host, address)?.is_all_ones().then_some(Unwell::AllOnes(address)))
}

/// Likewise for a function without a driver, which is to be awake: before it unbinds a driver, the
/// kernel wakes the function, and leaves it so (drivers/pci/pci-driver.c, pci_device_remove and
/// pci_pm_runtime_suspend).
///
/// As long as vfio-pci has it, D3 is no evidence of anything: that is where vfio-pci puts what
/// nobody uses, since Linux 5.19 as a runtime suspend and before without a sign of it.
pub(super) fn unwell_unbound(
    host: &Sysroot,
    address: Address,
) -> Result<Option<Unwell>, ReadError> {
    let config = config(host, address)?;
    if config.is_all_ones() {
        return Ok(Some(Unwell::AllOnes(address)));
    }
    // The power state is in the lowest two bits of PMCSR, four bytes into the capability
    // (PCI Bus Power Management Interface 1.2, 3.2.4).
    let power = config.capabilities().find(Capability::POWER);
    let state = power.and_then(|offset| config.u16(offset + 4)).map(|pmcsr| pmcsr & 3);
    Ok((state == Some(3)).then_some(Unwell::StuckInD3(address)))
}

fn config(host: &Sysroot, address: Address) -> Result<ConfigSpace, ReadError> {
    host.read(format!("{}/config", Function::path(address))).map(ConfigSpace::new)
}
