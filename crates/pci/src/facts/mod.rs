//! What decides whether a host can give a card away, as plain data.
//!
//! Everything here is a fact that was read; what follows from it is decided in
//! [`doctor`](crate::doctor). What an ordinary user may not read is unmeasured, with the reason.

mod access;
pub mod acpi;
mod device;
mod devices;
mod firmware;
mod groups;
mod iommu;
mod kernel;
mod processor;

use ::host::{Measured, ReadError, Sysroot};
use serde::Serialize;

use crate::Host;

pub use access::{Access, DeviceRules, Limit, Node};
pub use device::{FunctionFacts, LinkFacts, Power, SrIovRole};
pub use devices::Devices;
pub use firmware::{Firmware, Table};
pub use groups::{Group, ReservedRegion};
pub use iommu::{Interrupts, Iommu};
pub use kernel::{Kernel, KernelConfig, ModuleState, Release};
pub use processor::{Processor, Virtualisation};

/// What decides for the host as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// The processor.
    pub processor: Measured<Processor>,
    /// What the firmware tells.
    pub firmware: Firmware,
    /// The kernel, and the others that are installed.
    pub kernel: Kernel,
    /// IOMMUs, groups and interrupt remapping.
    pub iommu: Iommu,
    /// What this process may use.
    pub access: Access,
}

impl Facts {
    /// Reads the facts of a host. What cannot be read is unmeasured.
    pub fn read(sysroot: &Sysroot, host: &Host) -> Self {
        Self {
            processor: processor::read(sysroot),
            firmware: firmware::read(sysroot, host),
            kernel: kernel::read(sysroot),
            iommu: iommu::read(sysroot),
            access: access::read(sysroot),
        }
    }
}

/// Says why a file was not read.
fn why(error: &ReadError) -> String {
    let path = error.path.display();
    if error.is_denied() {
        format!("{path} can be read by root only")
    } else if error.is_absent() {
        format!("there is no {path}")
    } else {
        format!("{path} cannot be read: {}", error.source)
    }
}

/// A file's text, or why there is none.
fn text(sysroot: &Sysroot, path: &str) -> Measured<String> {
    match sysroot.text(path) {
        Ok(text) => Measured::Known(text),
        Err(error) => Measured::unmeasured(why(&error)),
    }
}

/// A file's text, `None` where it is absent, or why it cannot be read.
fn optional(sysroot: &Sysroot, path: &str) -> Measured<Option<String>> {
    match sysroot.optional_text(path) {
        Ok(text) => Measured::Known(text),
        Err(error) => Measured::unmeasured(why(&error)),
    }
}
