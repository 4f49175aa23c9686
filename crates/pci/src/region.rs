//! Memory and I/O regions of a function: its base address registers and its expansion ROM.

use host::{ReadError, Sysroot};
use serde::{Serialize, Serializer};

use crate::{Address, Function};

/// Resource flags (include/linux/ioport.h of the kernel).
const IO: u64 = 0x100;
const MEMORY: u64 = 0x200;
const PREFETCHABLE: u64 = 0x2000;
const MEMORY_64: u64 = 0x10_0000;
/// The `resource` attribute lists six base address registers, then the ROM
/// (include/linux/pci.h, PCI_ROM_RESOURCE).
const ROM: u8 = 6;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    /// I/O ports.
    Io,
    /// Memory with a 32-bit register.
    Memory32,
    /// Memory with a 64-bit register.
    Memory64,
    /// The expansion ROM.
    Rom,
}

/// One region of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Number of the base address register; 6 for the ROM.
    pub index: u8,
    /// What it is.
    pub kind: RegionKind,
    /// Whether reads have no side effects.
    pub prefetchable: bool,
    /// Host-physical address; zero where the firmware and kernel assigned none.
    #[serde(serialize_with = "address_as_hex")]
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Region {
    /// Reads the regions of a function from its `resource` attribute, which wakes nothing.
    ///
    /// # Errors
    /// The attribute cannot be read.
    pub fn read_all(host: &Sysroot, address: Address) -> Result<Vec<Self>, ReadError> {
        let text = host.text(format!("{}/resource", Function::path(address)))?;
        Ok(parse(&text))
    }

    /// Whether `address` of the host lies in this region.
    pub fn contains(&self, address: u64) -> bool {
        self.start != 0 && address.checked_sub(self.start).is_some_and(|at| at < self.size)
    }
}

fn parse(text: &str) -> Vec<Region> {
    let lines = text.lines().take(usize::from(ROM) + 1);
    (0..).zip(lines).filter_map(|(index, line)| region(index, line)).collect()
}

fn region(index: u8, line: &str) -> Option<Region> {
    let mut numbers = line
        .split_whitespace()
        .map(|word| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok());
    let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let kind = match flags {
        _ if index == ROM => RegionKind::Rom,
        _ if flags & IO != 0 => RegionKind::Io,
        _ if flags & MEMORY_64 != 0 => RegionKind::Memory64,
        _ if flags & MEMORY != 0 => RegionKind::Memory32,
        _ => return None,
    };
    let size = end.checked_sub(start)?.checked_add(1)?;
    (flags & (IO | MEMORY) != 0).then_some(Region {
        index,
        kind,
        prefetchable: flags & PREFETCHABLE != 0,
        start,
        size,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn address_as_hex<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        // QEMU's e1000e and a function with a 64-bit prefetchable region.
        let regions = parse(
            "0x00000000febc0000 0x00000000febdffff 0x0000000000040200\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x000000000000c000 0x000000000000c01f 0x0000000000040101\n\
             0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x00000000fe000000 0x00000000fe03ffff 0x0000000000046200\n\
             0x00000000fd000000 0x00000000fd0fffff 0x0000000000000200\n",
        );
        let brief: Vec<_> =
            regions.iter().map(|r| (r.index, r.kind, r.prefetchable, r.size)).collect();
        assert_eq!(
            brief,
            [
                (0, RegionKind::Memory32, false, 0x20000),
                (2, RegionKind::Io, false, 32),
                (3, RegionKind::Memory64, true, 0x1000_0000),
                (6, RegionKind::Rom, true, 0x40000),
            ]
        );
        assert!(regions[0].contains(0xfebd_ffff) && !regions[0].contains(0xfebe_0000));
    }

    #[test]
    fn garbage_is_no_region() {
        assert!(parse("x y z\n\n0x5 0x1 0x200\n0x0 0xffffffffffffffff 0x200").is_empty());
    }
}
