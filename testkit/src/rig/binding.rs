//! Moving functions between drivers, with nothing of the tool's own care.

use std::fs;

use pci::{Address, Function};

use super::{Rig, said};

impl Rig<'_> {
    /// Moves a function to vfio-pci and returns the driver that then has it.
    pub(super) fn bind(&self, address: Address) -> Result<Option<String>, String> {
        let path = Function::path(address);
        write(&format!("{path}/driver_override"), "vfio-pci\n")?;
        if self.driver(address)?.is_some() {
            write(&format!("{path}/driver/unbind"), &address.to_string())?;
        }
        // This may fail with the probe, or report success although nothing was bound.
        let _ = write("/sys/bus/pci/drivers_probe", &address.to_string());
        self.driver(address)
    }

    /// Moves functions to vfio-pci; it is an error if one does not get there.
    pub(super) fn take(&self, functions: &[Address]) -> Result<(), String> {
        for address in functions {
            let driver = self.bind(*address)?;
            self.same(&format!("{address} is on vfio-pci"), driver, Some("vfio-pci".to_owned()))?;
        }
        Ok(())
    }

    /// The driver that has a function.
    pub(super) fn driver(&self, address: Address) -> Result<Option<String>, String> {
        Ok(Function::read(&self.host, address).map_err(said)?.driver)
    }
}

fn write(path: &str, value: &str) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("{path}: {error}"))
}
