//! The DMA remapping table of Intel's VT-d (Intel Virtualization Technology for Directed I/O,
//! revision 4.1, chapter 8; include/acpi/actbl1.h of the kernel).

use serde::Serialize;

use super::{HEADER, TableError, table, u8_at, u16_at, u64_at};
use crate::{Address, Function, Host};

/// The remapping structures follow the header, host address width, flags and ten reserved bytes.
const ENTRIES: usize = HEADER + 12;
const FLAGS: usize = HEADER + 1;
/// Flags of the table (8.1).
const INTERRUPT_REMAPPING: u8 = 1 << 0;
const X2APIC_OPT_OUT: u8 = 1 << 1;
const PLATFORM_OPT_IN: u8 = 1 << 2;
/// Types of structures (8.2).
const DRHD: u16 = 0;
const RMRR: u16 = 1;
/// Flag of a remapping unit: all of the segment that no other unit names (8.3).
const INCLUDE_ALL: u8 = 1 << 0;

/// What the firmware says of Intel IOMMUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dmar {
    /// Whether the platform supports interrupt remapping.
    pub interrupt_remapping: bool,
    /// Whether the firmware asks not to use x2APIC, which interrupt remapping would allow.
    pub x2apic_opt_out: bool,
    /// Whether the firmware asks for protection from DMA at boot.
    pub platform_opt_in: bool,
    /// The remapping units.
    pub units: Vec<DmarUnit>,
    /// Memory that devices use behind the system's back.
    pub reserved: Vec<ReservedMemory>,
}

/// One remapping unit, called DRHD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DmarUnit {
    /// The PCI segment, which Linux calls domain.
    pub segment: u16,
    /// Host-physical address of its registers.
    pub base: u64,
    /// Whether it covers all of the segment that no other unit names.
    pub include_all: bool,
    /// What it names.
    pub scopes: Vec<DmarScope>,
}

/// Memory that stays mapped one to one for some devices, called RMRR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReservedMemory {
    /// The PCI segment of the devices.
    pub segment: u16,
    /// First byte.
    pub base: u64,
    /// Last byte.
    pub end: u64,
    /// The devices.
    pub scopes: Vec<DmarScope>,
}

/// What a device scope names (8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeKind {
    /// A PCI endpoint.
    Endpoint,
    /// A bridge, with all below it.
    Hierarchy,
    /// An I/O APIC, an event timer or a device of the ACPI name space.
    Other,
}

/// One device of a scope: a bus, and the way from it through bridges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DmarScope {
    /// What it names.
    pub kind: ScopeKind,
    /// The bus on which the way begins.
    pub bus: u8,
    /// Device and function at each step.
    pub path: Vec<(u8, u8)>,
}

impl Dmar {
    /// Parses a table.
    ///
    /// # Errors
    /// The bytes are no whole, well-formed table.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let bytes = table(bytes, b"DMAR")?;
        let flags = u8_at(bytes, FLAGS).ok_or(TableError::CutOff(bytes.len()))?;
        let mut dmar = Self {
            interrupt_remapping: flags & INTERRUPT_REMAPPING != 0,
            x2apic_opt_out: flags & X2APIC_OPT_OUT != 0,
            platform_opt_in: flags & PLATFORM_OPT_IN != 0,
            ..Self::default()
        };
        let mut at = ENTRIES;
        while at < bytes.len() {
            let wrong = TableError::EntryLength(at);
            let kind = u16_at(bytes, at).ok_or(wrong)?;
            let length = usize::from(u16_at(bytes, at + 2).ok_or(wrong)?);
            if length < 4 {
                return Err(wrong);
            }
            let entry = bytes.get(at..at + length).ok_or(wrong)?;
            match kind {
                DRHD => dmar.units.push(unit(entry).ok_or(wrong)?),
                RMRR => dmar.reserved.push(reserved(entry).ok_or(wrong)?),
                _ => {}
            }
            at += length;
        }
        Ok(dmar)
    }

    /// Whether some unit covers a function: by naming it or a bridge above it, or because the
    /// unit takes all that is left of the segment.
    pub fn covers(&self, host: &Host, function: &Function) -> bool {
        self.units.iter().any(|unit| {
            u32::from(unit.segment) == function.address.domain()
                && (unit.include_all || unit.scopes.iter().any(|scope| scope.names(host, function)))
        })
    }

    /// Returns the memory that the firmware keeps mapped for a function.
    pub fn reserved_for<'a>(
        &'a self,
        host: &'a Host,
        function: &'a Function,
    ) -> impl Iterator<Item = &'a ReservedMemory> {
        self.reserved.iter().filter(move |reserved| {
            u32::from(reserved.segment) == function.address.domain()
                && reserved.scopes.iter().any(|scope| scope.names(host, function))
        })
    }
}

impl DmarScope {
    /// Returns the function that the scope leads to, by the buses that the bridges lead to now.
    fn target(&self, host: &Host, domain: u32) -> Option<Address> {
        let (last, bridges) = self.path.split_last()?;
        let mut bus = self.bus;
        for (device, function) in bridges {
            let bridge = Address::new(domain, bus, *device, *function)?;
            bus = host.children(Some(bridge)).next()?.address.bus();
        }
        Address::new(domain, bus, last.0, last.1)
    }

    fn names(&self, host: &Host, function: &Function) -> bool {
        let Some(target) = self.target(host, function.address.domain()) else { return false };
        match self.kind {
            ScopeKind::Endpoint => target == function.address,
            ScopeKind::Hierarchy => {
                target == function.address || host.above(function.address).any(|up| up == target)
            }
            ScopeKind::Other => false,
        }
    }
}

fn unit(entry: &[u8]) -> Option<DmarUnit> {
    Some(DmarUnit {
        include_all: u8_at(entry, 4)? & INCLUDE_ALL != 0,
        segment: u16_at(entry, 6)?,
        base: u64_at(entry, 8)?,
        scopes: scopes(entry.get(16..)?)?,
    })
}

fn reserved(entry: &[u8]) -> Option<ReservedMemory> {
    Some(ReservedMemory {
        segment: u16_at(entry, 6)?,
        base: u64_at(entry, 8)?,
        end: u64_at(entry, 16)?,
        scopes: scopes(entry.get(24..)?)?,
    })
}

/// Device scopes: type, length, two bytes of flags, enumeration id, start bus, then pairs of
/// device and function (8.3.1).
fn scopes(mut rest: &[u8]) -> Option<Vec<DmarScope>> {
    let mut scopes = Vec::new();
    while let [kind, length, _, _, _, bus, ..] = *rest {
        let length = usize::from(length);
        let path = rest.get(6..length)?;
        scopes.push(DmarScope {
            kind: match kind {
                1 => ScopeKind::Endpoint,
                2 => ScopeKind::Hierarchy,
                _ => ScopeKind::Other,
            },
            bus,
            path: path.chunks_exact(2).map(|step| (step[0], step[1])).collect(),
        });
        rest = rest.get(length..)?;
    }
    rest.is_empty().then_some(scopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::acpi;
    use testkit::tree::{Function as Fake, Port, Tree};

    use super::*;

    #[test]
    fn reads_units_and_reserved_memory() {
        let bytes = acpi::dmar(
            acpi::DMAR_INTERRUPT_REMAPPING,
            &[
                acpi::drhd(0, 0xfed9_0000, false, &[acpi::scope(1, 0, &[(2, 0)])]),
                acpi::drhd(0, 0xfed9_1000, true, &[]),
                acpi::rmrr(0, 0x7a00_0000, 0x7aff_ffff, &[acpi::scope(1, 0, &[(0x14, 0)])]),
                // A structure of a later revision.
                vec![6, 0, 4, 0],
            ],
        );
        let dmar = Dmar::parse(&bytes).unwrap();
        assert!(dmar.interrupt_remapping && !dmar.x2apic_opt_out);
        assert_eq!(dmar.units.len(), 2);
        assert!(dmar.units[1].include_all);
        assert_eq!(dmar.units[0].scopes[0].path, [(2, 0)]);
        assert_eq!((dmar.reserved[0].base, dmar.reserved[0].end), (0x7a00_0000, 0x7aff_ffff));
    }

    #[test]
    fn damaged_tables_are_told() {
        let whole = acpi::dmar(0, &[acpi::drhd(0, 0xfed9_0000, true, &[])]);
        assert_eq!(Dmar::parse(b"IVRS"), Err(TableError::Signature));
        assert_eq!(Dmar::parse(&whole[..whole.len() - 1]), Err(TableError::CutOff(63)));
        let mut short = whole.clone();
        short[ENTRIES + 2] = 3;
        assert_eq!(Dmar::parse(&short), Err(TableError::EntryLength(ENTRIES)));
        let mut long = whole;
        long[ENTRIES + 2] = 200;
        assert_eq!(Dmar::parse(&long), Err(TableError::EntryLength(ENTRIES)));
    }

    #[test]
    fn a_scope_follows_the_bridges() {
        let mut tree = Tree::new();
        tree.add(Fake::new("0000:00:02.0", 0x8086, 0x3e92));
        tree.add(Fake::port("0000:00:1c.0", Port::Root, 3));
        tree.add(Fake::new("0000:03:00.0", 0x8086, 0x10d3).below("0000:00:1c.0"));
        let host = Host::read(&tree.sysroot()).unwrap();
        let by_path = acpi::drhd(
            0,
            1,
            false,
            &[acpi::scope(1, 0, &[(0x1c, 0), (0, 0)]), vec![3, 6, 0, 0, 2, 0]],
        );
        let by_bridge = acpi::drhd(0, 1, false, &[acpi::scope(2, 0, &[(0x1c, 0)])]);
        let elsewhere = acpi::drhd(1, 1, true, &[]);
        let function = |text: &str| host.function(text.parse().unwrap()).unwrap();
        for (unit, covered) in [(by_path, true), (by_bridge, true), (elsewhere, false)] {
            let dmar = Dmar::parse(&acpi::dmar(0, &[unit])).unwrap();
            assert_eq!(dmar.covers(&host, function("03:00.0")), covered);
            assert!(!dmar.covers(&host, function("00:02.0")));
        }
    }

    proptest! {
        #[test]
        fn any_entries_are_read_within_bounds(mut bytes: Vec<u8>, flags: u8) {
            bytes.truncate(2000);
            let table = acpi::dmar(flags, &[bytes]);
            if let Ok(dmar) = Dmar::parse(&table) {
                prop_assert!(dmar.units.len() + dmar.reserved.len() <= table.len() / 4);
            }
        }

        #[test]
        fn what_is_written_is_read(
            units in proptest::collection::vec((any::<u16>(), any::<u64>(), any::<bool>()), 0..8)
        ) {
            let entries: Vec<_> =
                units.iter().map(|(segment, base, all)| acpi::drhd(*segment, *base, *all, &[])).collect();
            let dmar = Dmar::parse(&acpi::dmar(0, &entries)).unwrap();
            let read: Vec<_> =
                dmar.units.iter().map(|unit| (unit.segment, unit.base, unit.include_all)).collect();
            prop_assert_eq!(read, units);
        }
    }
}
