//! What the firmware tells: its tables of IOMMUs, and Secure Boot.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::acpi::{Dmar, Ivrs, TableError};
use super::why;
use crate::{Address, Host};

/// Where the kernel shows the ACPI tables; everybody may list them, and root read them.
const TABLES: &str = "/sys/firmware/acpi/tables";
const EFI: &str = "/sys/firmware/efi";
/// Secure Boot's variable: four bytes of attributes, then one that is 1 if it is on (UEFI 2.10,
/// 3.3; Documentation/filesystems/efivarfs.rst of the kernel).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Capabilities of the host bridge of Intel's client processors, and the bit which says that VT-d
/// is fused off (as coreboot reads it: CAPID0_A, VTD_DISABLE).
const CAPID0_A: u16 = 0xe4;
const VTD_DISABLE: u32 = 1 << 23;

/// A table of the firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Table<T> {
    /// There is none.
    Absent,
    /// It is there, and cannot be understood.
    Damaged(TableError),
    /// It is there; its content, if it could be read.
    Present(Measured<T>),
}

impl<T> Table<T> {
    /// Whether there is such a table.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Returns the content, if there is a table and it could be read.
    pub fn content(&self) -> Option<&T> {
        match self {
            Self::Present(content) => content.known(),
            Self::Absent | Self::Damaged(_) => None,
        }
    }
}

/// What the firmware tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firmware {
    /// Whether the kernel shows tables at all. Unmeasured where it cannot be looked.
    pub has_tables: Measured<bool>,
    /// Intel's table of IOMMUs.
    pub dmar: Table<Dmar>,
    /// AMD's table of IOMMUs.
    pub ivrs: Table<Ivrs>,
    /// The functions that are IOMMUs (class 0806), which AMD's chips show.
    pub iommu_functions: Vec<Address>,
    /// Whether VT-d is fused off in an Intel processor, as its host bridge tells.
    pub vtd_fused_off: Measured<bool>,
    /// Whether Secure Boot is on; `None` where the host was not started by UEFI.
    pub secure_boot: Measured<Option<bool>>,
}

pub(super) fn read(sysroot: &Sysroot, host: &Host) -> Firmware {
    let names = match sysroot.names(TABLES) {
        Ok(names) => Measured::Known(names),
        Err(error) => Measured::unmeasured(why(&error)),
    };
    let iommus = host.functions().filter(|function| function.class.is_iommu());
    Firmware {
        dmar: table(sysroot, &names, "DMAR", Dmar::parse),
        ivrs: table(sysroot, &names, "IVRS", Ivrs::parse),
        has_tables: names.map(|_| true),
        iommu_functions: iommus.map(|function| function.address).collect(),
        vtd_fused_off: vtd_fused_off(sysroot, host),
        secure_boot: secure_boot(sysroot),
    }
}

fn table<T>(
    sysroot: &Sysroot,
    names: &Measured<Vec<String>>,
    name: &str,
    parse: fn(&[u8]) -> Result<T, TableError>,
) -> Table<T> {
    if !names.known().is_some_and(|names| names.iter().any(|listed| listed == name)) {
        return Table::Absent;
    }
    match sysroot.read(format!("{TABLES}/{name}")) {
        Ok(bytes) => match parse(&bytes) {
            Ok(table) => Table::Present(Measured::Known(table)),
            Err(error) => Table::Damaged(error),
        },
        Err(error) => Table::Present(Measured::unmeasured(why(&error))),
    }
}

fn vtd_fused_off(sysroot: &Sysroot, host: &Host) -> Measured<bool> {
    let bridge = Address::new(0, 0, 0, 0).and_then(|address| host.function(address));
    let Some(bridge) = bridge.filter(|bridge| bridge.ids.vendor == 0x8086) else {
        return Measured::unmeasured("there is no host bridge of Intel's at 0000:00:00.0");
    };
    match bridge.config(sysroot).map(|config| config.and_then(|config| config.u32(CAPID0_A))) {
        Ok(Some(capabilities)) => Measured::Known(capabilities & VTD_DISABLE != 0),
        Ok(None) => {
            let path = crate::Function::path(bridge.address);
            Measured::unmeasured(format!("{path}/config can be read whole by root only"))
        }
        Err(error) => Measured::unmeasured(why(&error)),
    }
}

fn secure_boot(sysroot: &Sysroot) -> Measured<Option<bool>> {
    match sysroot.read(SECURE_BOOT) {
        Ok(bytes) => match bytes[..] {
            [_, _, _, _, value] => Measured::Known(Some(value == 1)),
            _ => Measured::unmeasured(format!("{SECURE_BOOT} does not hold five bytes")),
        },
        Err(error) if error.is_absent() && !sysroot.exists(EFI) => Measured::Known(None),
        // Firmware older than Secure Boot has no such variable; without efivarfs nothing is seen.
        Err(error) if error.is_absent() && sysroot.exists(format!("{EFI}/efivars")) => {
            Measured::Known(Some(false))
        }
        Err(error) => Measured::unmeasured(why(&error)),
    }
}
