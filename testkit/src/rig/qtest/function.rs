//! A PCI function as the guest sees it.

use pci::config::{Capability, ConfigSpace};
use pci::{Address, Ids};
use vfio::Width;

use super::super::Outcome;
use super::client::Qtest;

/// Configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u64 = 1 << 31;

/// The register of the host bridge that says where configuration spaces are in memory, its enable
/// bit, and the place that QEMU's firmware chooses (Intel Q35 datasheet, 5.1.16, PCIEXBAR).
const SPACES_REGISTER: u64 = 0x60;
const SPACES_ENABLE: u64 = 1;
const SPACES: u64 = 0xb000_0000;

pub(super) const COMMAND: u16 = 0x04;
pub(super) const COMMAND_MEMORY: u64 = 1 << 1;
pub(super) const COMMAND_BUS_MASTER: u64 = 1 << 2;

/// The MSI capability (PCI Local Bus 3.0, 6.8.1).
const MSI_CONTROL: u16 = 0x02;
const MSI_ENABLE: u64 = 1;
const MSI_64_BIT: u64 = 1 << 7;
const MSI_ADDRESS: u16 = 0x04;
const MSI_DATA: u16 = 0x08;
const MSI_DATA_64_BIT: u16 = 0x0c;

/// The MSI-X capability (PCI Local Bus 3.0, 6.8.2).
const MSIX_CONTROL: u16 = 0x02;
const MSIX_ENABLE: u64 = 1 << 15;
const MSIX_TABLE: u16 = 0x04;
const MSIX_TABLE_BAR: u64 = 0x7;
const MSIX_ENTRY: u64 = 16;

impl Qtest {
    /// Puts all configuration spaces into memory (PCI Express Base 6.0, 7.2.2).
    pub(super) fn map_config(&mut self) -> Outcome {
        for (register, value) in [(4, 0), (0, SPACES | SPACES_ENABLE)] {
            let register = CONFIG_ENABLE | SPACES_REGISTER | register;
            self.set_port(CONFIG_ADDRESS, register)?;
            self.set_port(CONFIG_DATA, value)?;
        }
        Ok(())
    }

    /// Reads configuration space.
    pub(super) fn config(&mut self, at: Address, offset: u16, width: Width) -> Result<u64, String> {
        self.read(place(at) + u64::from(offset), width)
    }

    /// Writes configuration space.
    pub(super) fn set_config(
        &mut self,
        at: Address,
        offset: u16,
        width: Width,
        value: u64,
    ) -> Outcome {
        self.write(place(at) + u64::from(offset), width, value)
    }
}

/// Where a function's configuration space is in memory.
fn place(at: Address) -> u64 {
    let number = u64::from(at.bus()) << 8 | u64::from(at.device()) << 3 | u64::from(at.function());
    SPACES + (number << 12)
}

/// Where a message-signalled interrupt writes, and what.
///
/// The machine has no interrupt controller that would show what it received. A message is a write
/// to memory like any other, so it is sent to plain memory and read there.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageTarget {
    pub(super) address: u64,
    pub(super) data: u16,
}

/// A function with an address in each of its memory BARs.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) at: Address,
    /// Its configuration space.
    pub(super) config: ConfigSpace,
    /// Where each BAR is in physical memory, if it is there.
    bars: [Option<u64>; 6],
}

impl Function {
    /// Reads a function whose BARs have been given these addresses.
    pub(super) fn read(
        qtest: &mut Qtest,
        at: Address,
        bars: [Option<u64>; 6],
    ) -> Result<Self, String> {
        let bytes = qtest.read_bytes(place(at), ConfigSpace::MAX)?;
        Ok(Self { at, config: ConfigSpace::new(bytes), bars })
    }

    /// Whether it has these ids.
    pub(super) fn is(&self, ids: Ids) -> bool {
        (self.config.vendor(), self.config.device()) == (Some(ids.vendor), Some(ids.device))
    }

    /// Returns where a BAR is.
    pub(super) fn bar(&self, index: u8) -> Result<u64, String> {
        let bar = self.bars.get(usize::from(index)).copied().flatten();
        bar.ok_or_else(|| format!("{} has no memory BAR {index}", self.at))
    }

    /// Lets the function answer at its BARs and write to memory.
    pub(super) fn enable(&self, qtest: &mut Qtest) -> Outcome {
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
        qtest.set_config(self.at, COMMAND, Width::Word, command)
    }

    fn capability(&self, id: u8) -> Result<u16, String> {
        let found = self.config.capabilities().find(id);
        found.ok_or_else(|| format!("{} has no capability {id:#04x}", self.at))
    }

    /// Lets the function send its one MSI message to `target`, or none.
    pub(super) fn msi(&self, qtest: &mut Qtest, target: Option<MessageTarget>) -> Outcome {
        let base = self.capability(Capability::MSI)?;
        let control = qtest.config(self.at, base + MSI_CONTROL, Width::Word)?;
        let Some(target) = target else {
            let control = control & !MSI_ENABLE;
            return qtest.set_config(self.at, base + MSI_CONTROL, Width::Word, control);
        };
        let (low, high) = (target.address & 0xffff_ffff, target.address >> 32);
        qtest.set_config(self.at, base + MSI_ADDRESS, Width::Double, low)?;
        let data = if control & MSI_64_BIT == 0 {
            MSI_DATA
        } else {
            qtest.set_config(self.at, base + MSI_ADDRESS + 4, Width::Double, high)?;
            MSI_DATA_64_BIT
        };
        qtest.set_config(self.at, base + data, Width::Word, target.data.into())?;
        qtest.set_config(self.at, base + MSI_CONTROL, Width::Word, control | MSI_ENABLE)
    }

    /// Lets one MSI-X vector send to `target`; the others stay masked.
    pub(super) fn msix(&self, qtest: &mut Qtest, vector: u16, target: MessageTarget) -> Outcome {
        let base = self.capability(Capability::MSI_X)?;
        let table = qtest.config(self.at, base + MSIX_TABLE, Width::Double)?;
        let bar = u8::try_from(table & MSIX_TABLE_BAR).unwrap_or_default();
        let entry = self.bar(bar)? + (table & !MSIX_TABLE_BAR) + u64::from(vector) * MSIX_ENTRY;
        let control = qtest.config(self.at, base + MSIX_CONTROL, Width::Word)?;
        qtest.set_config(self.at, base + MSIX_CONTROL, Width::Word, control | MSIX_ENABLE)?;
        for (offset, value) in [
            (0, target.address & 0xffff_ffff),
            (4, target.address >> 32),
            (8, target.data.into()),
            // Bit 0 is the vector's mask.
            (12, 0),
        ] {
            qtest.write(entry + offset, Width::Double, value)?;
        }
        Ok(())
    }
}
