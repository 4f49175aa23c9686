//! Whether a function is well enough for a native driver to be let at it.

use host::{ReadError, Sysroot};
use pci::config::Capability;
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

/// Returns what is wrong with a function as far as sysfs can tell, without waking it.
///
/// # Errors
/// There is no such function, or sysfs cannot be read.
pub fn unwell(host: &Sysroot, address: Address) -> Result<Option<Unwell>, ReadError> {
    let path = Function::path(address);
    let status = host.optional_text(format!("{path}/power/runtime_status"))?;
    if status.as_deref() == Some("error") {
        return Ok(Some(Unwell::StuckInD3(address)));
    }
    let config = match Function::read(host, address)?.config(host)? {
        Some(config) => config,
        // It sleeps in good order.
        None => return Ok(None),
    };
    if config.is_all_ones() {
        return Ok(Some(Unwell::AllOnes(address)));
    }
    // The power state is in the lowest two bits of PMCSR, four bytes into the capability
    // (PCI Bus Power Management Interface 1.2, 3.2.4).
    let power = config.capabilities().find(Capability::POWER);
    let state = power.and_then(|offset| config.u16(offset + 4)).map(|pmcsr| pmcsr & 3);
    let awake = status.as_deref() == Some("active");
    Ok((awake && state == Some(3)).then_some(Unwell::StuckInD3(address)))
}
