//! Whether a described rig can be built.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{Bridge, BridgeKind, Card, Iommu, Rig, Slot};

/// Why a rig cannot be built as described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RigProblem {
    /// A number is out of its range.
    #[error("{key} is {value}, and must be between {least} and {most}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// The least it may be.
        least: u32,
        /// The most it may be.
        most: u32,
    },
    /// A name is not made of lower-case letters, digits and hyphens.
    #[error("{name:?} cannot be a name: lower-case letters, digits, `-` and `_` only")]
    BadName {
        /// The name.
        name: String,
    },
    /// A kernel argument cannot be passed as one.
    #[error("{argument:?} is not one kernel argument")]
    BadArgument {
        /// The argument.
        argument: String,
    },
    /// Two bridges have one name.
    #[error("two bridges are named {name}")]
    TwiceNamed {
        /// The name.
        name: String,
    },
    /// Something is behind a bridge that has not been described before it.
    #[error("{what} is behind {behind}, but no bridge of that name comes before it")]
    NoBridge {
        /// What is to be behind it.
        what: String,
        /// The missing bridge.
        behind: String,
    },
    /// A bridge or card cannot be where it is put.
    #[error("{what} cannot be {place}")]
    WrongPlace {
        /// What is misplaced.
        what: String,
        /// Where it was put.
        place: String,
    },
    /// There is no address where the bus needs one.
    #[error("{what} needs an address {place}")]
    NoAddress {
        /// What needs it.
        what: String,
        /// Where it is.
        place: String,
    },
    /// An address cannot be used on the bus.
    #[error("{what} cannot have the address {slot} {place}: {reason}")]
    BadAddress {
        /// What was given the address.
        what: String,
        /// The address.
        slot: Slot,
        /// Where it is.
        place: String,
        /// Why not.
        reason: &'static str,
    },
}

/// On the root complex of QEMU's q35, 00.0 is the host bridge and 1f the chipset. The AMD IOMMU
/// is a function that takes the first free device number, so 01 is left to it.
const ROOT_DEVICES: RangeInclusive<u8> = 0x02..=0x1e;

pub(super) fn check(rig: &Rig) -> Result<(), RigProblem> {
    in_range("memory-mib", rig.memory_mib, 128..=65536)?;
    in_range("cpus", rig.cpus, 1..=64)?;
    in_range("boot-limit-s", rig.boot_limit_s, 1..=86400)?;
    in_range("time-limit-s", rig.time_limit_s, 1..=86400)?;
    for module in &rig.modules {
        check_name(module)?;
    }
    for argument in &rig.kernel_arguments {
        let one = |c: char| c.is_ascii_graphic();
        if argument.is_empty() || !argument.chars().all(one) {
            return Err(RigProblem::BadArgument { argument: argument.clone() });
        }
    }
    let mut buses = Buses::default();
    for bridge in &rig.bridges {
        buses.add_bridge(bridge)?;
    }
    for card in &rig.cards {
        buses.add_card(card)?;
    }
    if rig.iommu == Iommu::None && !rig.interrupt_remapping {
        let what = "interrupt-remapping = false".to_owned();
        return Err(RigProblem::WrongPlace { what, place: "where there is no IOMMU".to_owned() });
    }
    Ok(())
}

fn in_range(key: &'static str, value: u32, range: RangeInclusive<u32>) -> Result<(), RigProblem> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(RigProblem::OutOfRange { key, value, least: *range.start(), most: *range.end() })
}

fn check_name(name: &str) -> Result<(), RigProblem> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 40 || !name.chars().all(good) {
        return Err(RigProblem::BadName { name: name.to_owned() });
    }
    Ok(())
}

/// The buses so far, with what is on them.
#[derive(Default)]
struct Buses<'a> {
    bridges: BTreeMap<&'a str, BridgeKind>,
    taken: BTreeSet<(&'a str, Slot)>,
}

impl<'a> Buses<'a> {
    fn add_bridge(&mut self, bridge: &'a Bridge) -> Result<(), RigProblem> {
        check_name(&bridge.name)?;
        let what = format!("the bridge {}", bridge.name);
        let above = self.above(bridge.behind.as_deref(), &what)?;
        let fits = match bridge.kind {
            BridgeKind::RootPort => above.is_none(),
            BridgeKind::PcieToPci => above != Some(BridgeKind::PcieToPci),
            BridgeKind::UpstreamPort => {
                matches!(above, Some(BridgeKind::RootPort | BridgeKind::DownstreamPort))
            }
            BridgeKind::DownstreamPort => above == Some(BridgeKind::UpstreamPort),
        };
        let leads_on = above != Some(BridgeKind::UpstreamPort);
        if !fits || leads_on == (bridge.kind == BridgeKind::DownstreamPort) {
            return Err(RigProblem::WrongPlace { what, place: place(bridge.behind.as_deref()) });
        }
        self.take(what, bridge.behind.as_deref(), above, bridge.address)?;
        if self.bridges.insert(&bridge.name, bridge.kind).is_some() {
            return Err(RigProblem::TwiceNamed { name: bridge.name.clone() });
        }
        Ok(())
    }

    fn add_card(&mut self, card: &'a Card) -> Result<(), RigProblem> {
        // QEMU has a few device names with capitals.
        check_name(&card.device.to_ascii_lowercase())?;
        for option in card.options.keys() {
            check_name(option)?;
        }
        let what = format!("the card {}", card.device);
        let above = self.above(card.behind.as_deref(), &what)?;
        if above == Some(BridgeKind::UpstreamPort) {
            return Err(RigProblem::WrongPlace { what, place: place(card.behind.as_deref()) });
        }
        self.take(what, card.behind.as_deref(), above, card.address)
    }

    fn above(&self, behind: Option<&str>, what: &str) -> Result<Option<BridgeKind>, RigProblem> {
        let Some(behind) = behind else { return Ok(None) };
        let missing = || RigProblem::NoBridge { what: what.to_owned(), behind: behind.to_owned() };
        self.bridges.get(behind).copied().map(Some).ok_or_else(missing)
    }

    fn take(
        &mut self,
        what: String,
        behind: Option<&'a str>,
        above: Option<BridgeKind>,
        address: Option<Slot>,
    ) -> Result<(), RigProblem> {
        let place = place(behind);
        // A port leads to one device.
        let one = matches!(above, Some(BridgeKind::RootPort | BridgeKind::DownstreamPort));
        let slot = match address {
            Some(slot) => slot,
            None if one => Slot::default(),
            None => return Err(RigProblem::NoAddress { what, place }),
        };
        let reason = match above {
            None if !ROOT_DEVICES.contains(&slot.device) => {
                "device numbers from 02 to 1e are free there"
            }
            Some(_) if one && slot.device != 0 => "a port leads to device 00 alone",
            Some(BridgeKind::PcieToPci) if slot.device == 0 => "device 00 is the bridge's own",
            _ if !self.taken.insert((behind.unwrap_or_default(), slot)) => "it is taken",
            _ => return Ok(()),
        };
        Err(RigProblem::BadAddress { what, slot, place, reason })
    }
}

fn place(behind: Option<&str>) -> String {
    behind.map_or_else(|| "on the root complex".to_owned(), |name| format!("behind {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::RigError;

    fn problem(rest: &str) -> Option<String> {
        let text = format!("description = \"x\"\niommu = \"intel\"\n{rest}");
        match Rig::parse("mine", &text) {
            Ok(_) => None,
            Err(RigError::Impossible { source, .. }) => Some(source.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_thing_that_cannot_be_built_is_said() {
        for (text, expected) in [
            ("cpus = 0", "cpus is 0, and must be between 1 and 64"),
            ("kernel-arguments = [\"a b\"]", "\"a b\" is not one kernel argument"),
            ("[[card]]\ndevice = \"edu\"", "the card edu needs an address on the root complex"),
            (
                "[[card]]\ndevice = \"edu\"\naddress = \"1f.0\"",
                "the card edu cannot have the address 1f.0 on the root complex: \
                 device numbers from 02 to 1e are free there",
            ),
            (
                "[[card]]\ndevice = \"edu,x\"\naddress = \"04.0\"",
                "\"edu,x\" cannot be a name: lower-case letters, digits, `-` and `_` only",
            ),
            (
                "[[card]]\ndevice = \"edu\"\nbehind = \"p\"",
                "the card edu is behind p, but no bridge of that name comes before it",
            ),
            (
                "[[bridge]]\nname = \"d\"\nkind = \"downstream-port\"\naddress = \"04.0\"",
                "the bridge d cannot be on the root complex",
            ),
            (
                "[[bridge]]\nname = \"p\"\nkind = \"root-port\"\naddress = \"04.0\"\n\
                 [[card]]\ndevice = \"edu\"\nbehind = \"p\"\n\
                 [[card]]\ndevice = \"edu\"\nbehind = \"p\"",
                "the card edu cannot have the address 00.0 behind p: it is taken",
            ),
        ] {
            assert_eq!(problem(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_switch_can_be_built() {
        let text = "\
[[bridge]]\nname = \"p\"\nkind = \"root-port\"\naddress = \"04.0\"\n\
[[bridge]]\nname = \"u\"\nkind = \"upstream-port\"\nbehind = \"p\"\n\
[[bridge]]\nname = \"d0\"\nkind = \"downstream-port\"\nbehind = \"u\"\naddress = \"00.0\"\n\
[[bridge]]\nname = \"d1\"\nkind = \"downstream-port\"\nbehind = \"u\"\naddress = \"01.0\"\n\
[[card]]\ndevice = \"nvme\"\nbehind = \"d0\"\n\
[[card]]\ndevice = \"e1000e\"\nbehind = \"d1\"\n";
        assert_eq!(problem(text), None);
    }
}
