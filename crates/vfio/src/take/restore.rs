//! Bringing functions back to a former binding.

use host::journal::JournalError;
use host::{ReadError, Sysroot};
use pci::{Address, Function};

use super::lease::Step;
use super::ledger::Ledger;
use super::{Binding, HandOverError, Unwell, VFIO_PCI, WriteFailure, health};

/// A binding could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A write to sysfs failed.
    #[error(transparent)]
    Write(#[from] WriteFailure),
    /// Sysfs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A device node could not be given to a user, or back.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// It is unwell, and stays on vfio-pci.
    #[error(transparent)]
    Unwell(#[from] Unwell),
    /// The former driver did not bind, though the kernel reported no error.
    #[error("{address} did not go back to {wanted}: it is now on {}", got.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The function.
        address: Address,
        /// Its former driver.
        wanted: String,
        /// The driver that it has.
        got: Option<String>,
    },
}

/// What became of a function that was to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It has its former driver and override.
    Back(Address, Binding),
    /// Somebody else has bound it meanwhile; it was left alone.
    Foreign(Address, String),
    /// It is gone from the bus.
    Gone(Address),
    /// It is unwell and stays on vfio-pci.
    Unwell(Unwell),
}

/// The writes that change one function's binding, each journalled.
pub(super) struct Hand<'a, 'w> {
    pub(super) host: &'a Sysroot,
    pub(super) ledger: &'a mut Ledger<'w>,
}

impl Hand<'_, '_> {
    pub(super) fn set_override(
        &mut self,
        address: Address,
        driver: Option<&str>,
    ) -> Result<(), RestoreError> {
        let path = format!("{}/driver_override", Function::path(address));
        // An empty line clears the override (driver_set_override, drivers/base/driver.c).
        let line = format!("{}\n", driver.unwrap_or_default());
        self.ledger.write(&Step::Override(address, driver.map(str::to_owned)), &path, &line)
    }

    pub(super) fn set_resets(
        &mut self,
        address: Address,
        methods: &str,
    ) -> Result<(), RestoreError> {
        let path = format!("{}/reset_method", Function::path(address));
        let step = Step::Resets(address, methods.to_owned());
        self.ledger.write(&step, &path, &format!("{methods}\n"))
    }

    pub(super) fn unbind(&mut self, address: Address, driver: &str) -> Result<(), RestoreError> {
        let path = format!("{}/driver/unbind", Function::path(address));
        let step = Step::Unbind(address, driver.to_owned());
        self.ledger.write(&step, &path, &address.to_string())
    }

    pub(super) fn probe(&mut self, address: Address) -> Result<(), RestoreError> {
        let probe = "/sys/bus/pci/drivers_probe";
        self.ledger.write(&Step::Probe(address), probe, &address.to_string())
    }

    /// Brings a function back to `before`, from whatever it is now.
    ///
    /// It is idempotent, so that it can be run again after a crash at any of its steps.
    pub(super) fn restore(
        &mut self,
        address: Address,
        before: &Binding,
    ) -> Result<Restored, RestoreError> {
        let now = match Binding::read(self.host, address) {
            Ok(now) => now,
            Err(error) if error.is_absent() => return Ok(Restored::Gone(address)),
            Err(error) => return Err(error.into()),
        };
        if now == *before {
            return Ok(Restored::Back(address, now));
        }
        match &now.driver {
            Some(driver) if now.driver != before.driver && driver != VFIO_PCI => {
                return Ok(Restored::Foreign(address, driver.clone()));
            }
            _ => {}
        }
        if now.driver != before.driver {
            let native = before.driver.is_some() && !before.is_vfio();
            if native && let Some(unwell) = health::unwell(self.host, address)? {
                return Ok(Restored::Unwell(unwell));
            }
            if let Some(unwell) = self.rebind(address, &now, before)? {
                return Ok(Restored::Unwell(unwell));
            }
        }
        self.set_override(address, before.driver_override.as_deref())?;
        if let (Some(before), true) = (&before.resets, before.resets != now.resets) {
            self.set_resets(address, before)?;
        }
        Ok(Restored::Back(address, before.clone()))
    }

    /// Lets the former driver have a function, unless that turns out to be unwell.
    fn rebind(
        &mut self,
        address: Address,
        now: &Binding,
        before: &Binding,
    ) -> Result<Option<Unwell>, RestoreError> {
        if let Some(driver) = &before.driver {
            // With the override set to the former driver, no other one can win the probe.
            self.set_override(address, Some(driver))?;
        }
        if let Some(driver) = &now.driver {
            self.unbind(address, driver)?;
        }
        let Some(wanted) = &before.driver else { return Ok(None) };
        if !before.is_vfio()
            && let Some(unwell) = health::unwell_unbound(self.host, address)?
        {
            self.set_override(address, Some(VFIO_PCI))?;
            self.probe_for(address, VFIO_PCI)?;
            return Ok(Some(unwell));
        }
        let bound = self.probe_for(address, wanted);
        if matches!(bound, Err(RestoreError::NotBound { .. })) {
            // Even so, the override must not stay behind.
            self.set_override(address, before.driver_override.as_deref())?;
        }
        bound.map(|()| None)
    }

    /// Lets drivers probe, and looks which one came.
    fn probe_for(&mut self, address: Address, wanted: &str) -> Result<(), RestoreError> {
        self.probe(address)?;
        match Binding::read(self.host, address)?.driver {
            Some(got) if got == wanted => Ok(()),
            got => Err(RestoreError::NotBound { address, wanted: wanted.to_owned(), got }),
        }
    }
}
