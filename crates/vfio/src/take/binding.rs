//! Who drives a function, and who may.

use host::{Measured, ReadError, Sysroot};
use pci::{Address, Function};
use serde::{Deserialize, Serialize};

use crate::driver::is_vfio;

/// The kernel's driver that hands a function to user space.
pub const VFIO_PCI: &str = "vfio-pci";

/// A function's driver and driver override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The only driver that may bind it, if one is set.
    #[serde(rename = "override")]
    pub driver_override: Option<String>,
    /// The ways in which the kernel may reset it, where it says (`reset_method`).
    #[serde(default)]
    pub resets: Option<String>,
    /// Whether its driver gives it to VFIO.
    #[serde(default = "unrecorded")]
    pub vfio: Measured<bool>,
}

fn unrecorded() -> Measured<bool> {
    Measured::unmeasured("it was not recorded")
}

impl Binding {
    /// Reads the binding of a function.
    ///
    /// # Errors
    /// There is no such function, or sysfs cannot be read.
    pub fn read(host: &Sysroot, address: Address) -> Result<Self, ReadError> {
        let path = Function::path(address);
        let set = host.text(format!("{path}/driver_override"))?;
        let driver = host.link_name(format!("{path}/driver"))?;
        let vfio = match &driver {
            Some(driver) => is_vfio(host, address, driver)?,
            None => Measured::Known(false),
        };
        Ok(Self {
            driver,
            vfio,
            // An unset override reads as the C library's null string
            // (drivers/pci/pci-sysfs.c, driver_override_show).
            driver_override: Some(set).filter(|set| !set.is_empty() && set != "(null)"),
            resets: host.optional_text(format!("{path}/reset_method"))?,
        })
    }

    /// Whether vfio-pci, or another driver that gives it to VFIO, provably has the function.
    pub fn is_vfio(&self) -> bool {
        self.vfio.known() == Some(&true)
    }
}
