//! The IOMMUs that the kernel uses, and whether it remaps interrupts.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::{optional, why};

/// Where the kernel shows the IOMMUs that it uses
/// (Documentation/ABI/testing/sysfs-class-iommu of the kernel).
const UNITS: &str = "/sys/class/iommu";
const INTERRUPTS: &str = "/proc/interrupts";
/// What is read of the interrupts at most, in bytes: a column for each of hundreds of processors.
const LIMIT: u64 = 32 << 20;
const UNSAFE_INTERRUPTS: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";

/// What the kernel does with IOMMUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Iommu {
    /// The IOMMUs in use: `dmar0`, `ivhd0` and so on.
    pub units: Measured<Vec<String>>,
    /// What the interrupts tell of their remapping.
    pub interrupts: Measured<Interrupts>,
    /// Whether VFIO was told to do without it; `None` where its module is not loaded.
    pub unsafe_interrupts: Measured<Option<bool>>,
}

/// What the names of interrupt chips tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "interrupts", content = "chip")]
pub enum Interrupts {
    /// They are remapped: a chip is named so.
    Remapped(String),
    /// None is remapped; one of the chips.
    Direct(String),
}

impl Iommu {
    /// Whether the kernel uses an IOMMU.
    pub fn is_used(&self) -> Option<bool> {
        self.units.known().map(|units| !units.is_empty())
    }
}

pub(super) fn read(sysroot: &Sysroot) -> Iommu {
    let units = match sysroot.names(UNITS) {
        // Kernels without IOMMU support have no such class.
        Err(error) if error.is_absent() && sysroot.exists("/sys/class") => {
            Measured::Known(Vec::new())
        }
        Err(error) => Measured::unmeasured(why(&error)),
        Ok(names) => Measured::Known(names),
    };
    let set = optional(sysroot, UNSAFE_INTERRUPTS);
    Iommu {
        units,
        interrupts: interrupts(sysroot),
        unsafe_interrupts: set.map(|text| text.map(|text| matches!(text.as_str(), "Y" | "1"))),
    }
}

fn interrupts(sysroot: &Sysroot) -> Measured<Interrupts> {
    let bytes = match sysroot.read_limited(INTERRUPTS, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => return Measured::unmeasured(why(&error)),
    };
    match chips(&String::from_utf8_lossy(&bytes)) {
        Some(found) => Measured::Known(found),
        None => Measured::unmeasured(format!("{INTERRUPTS} shows no interrupt of the kind")),
    }
}

/// Remapping domains have names that begin with `IR-` (drivers/iommu/intel/irq_remapping.c,
/// drivers/iommu/amd/iommu.c); the others are those of arch/x86/kernel/apic/{io_apic,msi}.c.
fn chips(text: &str) -> Option<Interrupts> {
    let mut direct = None;
    for word in text.lines().flat_map(str::split_whitespace) {
        let plain = word.strip_prefix("IR-").unwrap_or(word);
        let is_chip = plain.starts_with("PCI-MSI") || plain.starts_with("IO-APIC");
        if is_chip {
            let name = word.chars().filter(char::is_ascii_graphic).take(40).collect();
            if plain.len() < word.len() {
                return Some(Interrupts::Remapped(name));
            }
            direct.get_or_insert(name);
        }
    }
    direct.map(Interrupts::Direct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remapping_is_in_the_names_of_chips() {
        for (text, expected) in [
            (
                " CPU0\n 1: 9 IR-IO-APIC 1-edge i8042\n 27: 0 IR-PCI-MSI-0000:00:1f.2 0-edge ahci",
                Some(Interrupts::Remapped("IR-IO-APIC".to_owned())),
            ),
            (
                "  9:  0  IO-APIC  9-fasteoi acpi\n 24: 5 DMAR-MSI 0-edge dmar0\n",
                Some(Interrupts::Direct("IO-APIC".to_owned())),
            ),
            ("  1:  0  GICv3  27 Level arch_timer\n", None),
            ("\u{fffd}", None),
        ] {
            assert_eq!(chips(text), expected, "{text}");
        }
    }
}
