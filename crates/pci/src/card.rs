//! Which functions make up one card.

use std::collections::BTreeSet;

use ::host::Measured;

use crate::config::PortKind;
use crate::{Address, Function, Host};

/// Functions that sit on one piece of hardware and therefore go to a guest together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its functions, bridges of the card's own among them, by address. Never empty.
    pub functions: Vec<Address>,
    /// Name of the slot that it sits in, where the host knows.
    pub slot: Option<String>,
}

impl Card {
    /// The address that names the card: its lowest.
    pub fn address(&self) -> Address {
        self.functions[0]
    }
}

/// Whether a port leads to a physical slot.
enum Slot {
    Yes,
    No,
    Unknown,
}

impl Host {
    /// Returns the card that a function belongs to.
    ///
    /// A card is everything below the nearest root or downstream port that has a physical slot.
    /// Without that evidence it is the functions of one device number; directly below a port,
    /// where device numbers may be part of the function number (ARI, PCI Express Base 6.0, 6.13),
    /// those of the bus. Functions of a root bus and virtual functions are each a card of their
    /// own. Where the evidence cannot be read *and would make a difference*, membership is
    /// unmeasured.
    pub fn card(&self, address: Address) -> Measured<Card> {
        let Some(function) = self.function(address) else {
            return Measured::unmeasured(format!("there is no function {address}"));
        };
        let alone = |slot| Card { functions: vec![address], slot };
        if function.parent.is_none() || function.physical.is_some() {
            return Measured::Known(alone(None));
        }
        let mut possible: Vec<Card> = Vec::new();
        let mut unread = None;
        let mut certain = false;
        for port in self.above(address) {
            let slot = match self.slot(port) {
                Slot::No => continue,
                slot => slot,
            };
            let card = Card {
                functions: self.below(port),
                slot: self.slot_below(port).map(str::to_owned),
            };
            possible.push(card);
            if matches!(slot, Slot::Yes) {
                certain = true;
                break;
            }
            unread.get_or_insert(port);
        }
        if !certain {
            possible.push(Card { functions: self.siblings(function), slot: None });
        }
        let agree = possible.iter().all(|card| card.functions == possible[0].functions);
        match unread {
            Some(port) if !agree => Measured::unmeasured(format!(
                "whether {port} leads to a slot is in its capabilities, which root can read"
            )),
            _ => Measured::Known(possible.swap_remove(0)),
        }
    }

    fn slot(&self, port: Address) -> Slot {
        if self.slot_below(port).is_some() {
            return Slot::Yes;
        }
        match self.express(port) {
            Measured::Known(Some(express)) => match express.kind {
                PortKind::RootPort | PortKind::DownstreamPort if express.slot_implemented => {
                    Slot::Yes
                }
                _ => Slot::No,
            },
            Measured::Known(None) => Slot::No,
            Measured::Unmeasured { .. } => Slot::Unknown,
        }
    }

    /// Everything below a bridge but virtual functions, by address.
    fn below(&self, bridge: Address) -> Vec<Address> {
        let mut found = BTreeSet::new();
        let mut bridges = vec![bridge];
        while let Some(bridge) = bridges.pop() {
            for function in self.children(Some(bridge)).filter(|below| below.physical.is_none()) {
                // A captured tree may have loops.
                if found.insert(function.address) {
                    bridges.push(function.address);
                }
            }
        }
        found.into_iter().collect()
    }

    fn siblings(&self, function: &Function) -> Vec<Address> {
        let whole_bus = matches!(self.is_below_port(function.address), Measured::Known(true));
        let one = function.address;
        let siblings: BTreeSet<_> = self
            .children(function.parent)
            .filter(|other| other.physical.is_none())
            .map(|other| other.address)
            .filter(|other| (other.domain(), other.bus()) == (one.domain(), one.bus()))
            .filter(|other| whole_bus || other.device() == one.device())
            .collect();
        siblings.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use testkit::tree::{Function as Fake, Port, Tree};

    use super::*;

    fn endpoint(address: &str) -> Fake {
        Fake::new(address, 0x8086, 0x10d3)
    }

    fn host(functions: Vec<Fake>) -> Host {
        let mut tree = Tree::new();
        for function in functions {
            tree.add(function);
        }
        tree.slot("7", "0000:05:00");
        Host::read(&tree.sysroot()).unwrap()
    }

    fn card(host: &Host, address: &str) -> String {
        match host.card(address.parse().unwrap()) {
            Measured::Known(card) => {
                let functions: Vec<_> = card.functions.iter().map(Address::to_string).collect();
                format!("{} {:?}", functions.join(" "), card.slot)
            }
            Measured::Unmeasured { unmeasured } => format!("unmeasured: {unmeasured}"),
        }
    }

    #[test]
    fn a_slot_holds_one_card() {
        let host = host(vec![
            endpoint("0000:00:02.0"),
            endpoint("0000:00:02.1"),
            // A slot with a card of two functions.
            Fake::port("0000:00:1c.0", Port::Root, 3).slot(),
            endpoint("0000:03:00.0").below("0000:00:1c.0"),
            endpoint("0000:03:00.1").below("0000:00:1c.0"),
            endpoint("0000:03:10.0").below("0000:00:1c.0").virtual_of("0000:03:00.0"),
            // A slot with a card that has a switch and two chips.
            Fake::port("0000:00:1d.0", Port::Root, 5),
            Fake::port("0000:05:00.0", Port::Upstream, 6).below("0000:00:1d.0"),
            Fake::port("0000:06:00.0", Port::Downstream, 7).below("0000:05:00.0"),
            Fake::port("0000:06:01.0", Port::Downstream, 8).below("0000:05:00.0"),
            endpoint("0000:07:00.0").below("0000:06:00.0"),
            endpoint("0000:08:00.0").below("0000:06:01.0"),
        ]);
        let switch = "0000:05:00.0 0000:06:00.0 0000:06:01.0 0000:07:00.0 0000:08:00.0 Some(\"7\")";
        for (address, expected) in [
            ("00:02.0", "0000:00:02.0 None"),
            ("00:02.1", "0000:00:02.1 None"),
            ("03:00.1", "0000:03:00.0 0000:03:00.1 None"),
            ("03:10.0", "0000:03:10.0 None"),
            ("07:00.0", switch),
            ("08:00.0", switch),
            ("09:00.0", "unmeasured: there is no function 0000:09:00.0"),
        ] {
            assert_eq!(card(&host, address), expected, "{address}");
        }
    }

    #[test]
    fn without_a_slot_a_device_is_a_card() {
        let host = host(vec![
            Fake::port("0000:00:1c.0", Port::Root, 3),
            endpoint("0000:03:00.0").below("0000:00:1c.0"),
            // Directly below a port, device numbers are part of the function number (ARI).
            endpoint("0000:03:01.0").below("0000:00:1c.0"),
            Fake::port("0000:00:1e.0", Port::Conventional, 4),
            endpoint("0000:04:01.0").below("0000:00:1e.0"),
            endpoint("0000:04:01.1").below("0000:00:1e.0"),
            endpoint("0000:04:02.0").below("0000:00:1e.0"),
        ]);
        assert_eq!(card(&host, "03:01.0"), "0000:03:00.0 0000:03:01.0 None");
        assert_eq!(card(&host, "04:01.0"), "0000:04:01.0 0000:04:01.1 None");
        assert_eq!(card(&host, "04:02.0"), "0000:04:02.0 None");
    }

    #[test]
    fn what_an_ordinary_user_cannot_see_matters_only_where_it_decides() {
        let host = host(vec![
            Fake::port("0000:00:1c.0", Port::Root, 3).slot().visible(64),
            endpoint("0000:03:00.0").below("0000:00:1c.0"),
            endpoint("0000:03:01.0").below("0000:00:1c.0"),
            Fake::port("0000:00:1d.0", Port::Root, 4).slot().visible(64),
            endpoint("0000:04:00.0").below("0000:00:1d.0"),
        ]);
        assert!(card(&host, "03:00.0").starts_with("unmeasured: whether 0000:00:1c.0"));
        assert_eq!(card(&host, "04:00.0"), "0000:04:00.0 None");
    }
}
