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
    /// A card is everything whose nearest root or downstream port with a physical slot is the same:
    /// what sits in a slot on a card is a card of its own. Without that evidence it is the functions of one device number; directly below a port,
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
        let mut way = BTreeSet::new();
        for port in self.above(address) {
            let slot = self.slot(port);
            if matches!(slot, Slot::No) {
                way.insert(port);
                continue;
            }
            // Were another port between nearer, that would be the case before.
            let functions = match self.in_slot(port, &way) {
                Ok(functions) => functions,
                Err(unread) => return unmeasured_slot(unread),
            };
            possible.push(Card { functions, slot: self.slot_below(port).map(str::to_owned) });
            way.insert(port);
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
            Some(port) if !agree => unmeasured_slot(port),
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

    /// What sits in the slot that a port leads to, by address: everything below it but virtual
    /// functions and what sits in further slots. The ports of `way` are known to lead to none.
    ///
    /// # Errors
    /// The address of a port of which it is not known, and would make a difference.
    fn in_slot(&self, port: Address, way: &BTreeSet<Address>) -> Result<Vec<Address>, Address> {
        let mut found = BTreeSet::new();
        let mut bridges = vec![port];
        while let Some(bridge) = bridges.pop() {
            for function in self.children(Some(bridge)).filter(|below| below.physical.is_none()) {
                let address = function.address;
                // A captured tree may have loops.
                if !found.insert(address) {
                    continue;
                }
                match self.slot(address) {
                    _ if way.contains(&address) => bridges.push(address),
                    Slot::No => bridges.push(address),
                    Slot::Yes => {}
                    Slot::Unknown => {
                        let mut below = self.children(Some(address));
                        if below.any(|below| below.physical.is_none()) {
                            return Err(address);
                        }
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
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

fn unmeasured_slot(port: Address) -> Measured<Card> {
    Measured::unmeasured(format!(
        "whether {port} leads to a slot is in its capabilities, which root can read"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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

    #[test]
    fn what_sits_in_a_slot_on_a_card_is_a_card_of_its_own() {
        let switch = |second: Fake| {
            host(vec![
                Fake::port("0000:00:1c.0", Port::Root, 3).slot(),
                Fake::port("0000:03:00.0", Port::Upstream, 4).below("0000:00:1c.0"),
                Fake::port("0000:04:00.0", Port::Downstream, 6).below("0000:03:00.0"),
                second.below("0000:03:00.0"),
                endpoint("0000:06:00.0").below("0000:04:00.0"),
                endpoint("0000:07:00.0").below("0000:04:01.0"),
            ])
        };
        let nested = switch(Fake::port("0000:04:01.0", Port::Downstream, 7).slot());
        let outer = "0000:03:00.0 0000:04:00.0 0000:04:01.0 0000:06:00.0 None";
        assert_eq!(card(&nested, "07:00.0"), "0000:07:00.0 None");
        for address in ["03:00.0", "04:00.0", "04:01.0", "06:00.0"] {
            assert_eq!(card(&nested, address), outer, "{address}");
        }
        let unread = switch(Fake::port("0000:04:01.0", Port::Downstream, 7).slot().visible(64));
        for address in ["03:00.0", "04:01.0", "06:00.0", "07:00.0"] {
            let found = card(&unread, address);
            assert!(found.starts_with("unmeasured: whether 0000:04:01.0"), "{address}: {found}");
        }
    }

    /// One function of a synthetic host.
    #[derive(Clone, Debug)]
    struct Shape {
        /// Below which of the bridges before it, or on the root bus.
        above: prop::sample::Index,
        kind: u8,
        second_function: bool,
        slot: bool,
        readable: bool,
    }

    fn shapes() -> impl Strategy<Value = Vec<Shape>> {
        let shape = (any::<prop::sample::Index>(), 0..6_u8, any::<[bool; 3]>()).prop_map(
            |(above, kind, [second_function, slot, readable])| Shape {
                above,
                kind,
                second_function,
                slot,
                readable,
            },
        );
        prop::collection::vec(shape, 1..14)
    }

    fn build(shapes: &[Shape]) -> Host {
        // Of each bridge its address, its secondary bus, and how many devices that bus has.
        let mut bridges: Vec<(Option<String>, u8, u8)> = vec![(None, 0, 0)];
        let mut functions = Vec::new();
        for shape in shapes {
            let at = shape.above.index(bridges.len());
            let (parent, bus, used) = bridges[at].clone();
            let same_device = shape.second_function && used > 0;
            let (device, function) =
                if same_device { (used - 1, functions.len() % 7 + 1) } else { (used, 0) };
            let address = format!("0000:{bus:02x}:{device:02x}.{function}");
            if functions.iter().any(|(taken, _)| *taken == address) {
                continue;
            }
            bridges[at].2 = device + 1;
            let secondary = u8::try_from(bridges.len()).unwrap();
            let port = |kind| Fake::port(&address, kind, secondary);
            let made = match shape.kind {
                0 => port(Port::Root),
                1 => port(Port::Upstream),
                2 => port(Port::Downstream),
                3 => port(Port::Conventional),
                _ => endpoint(&address),
            };
            if shape.kind < 4 {
                bridges.push((Some(address.clone()), secondary, 0));
            }
            let made = if shape.slot && shape.kind < 3 { made.slot() } else { made };
            let made = if shape.readable { made } else { made.visible(64) };
            let made = match parent {
                Some(parent) => made.below(&parent),
                None => made,
            };
            functions.push((address, made));
        }
        host(functions.into_iter().map(|(_, function)| function).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_function_of_a_card_has_the_same_card(shapes in shapes()) {
            let host = build(&shapes);
            for function in host.functions() {
                let one = function.address;
                let Measured::Known(card) = host.card(one) else { continue };
                prop_assert!(card.functions.contains(&one), "{one} is not of its own card");
                for other in &card.functions {
                    prop_assert_eq!(
                        host.card(*other), Measured::Known(card.clone()), "{} from {}", other, one
                    );
                }
            }
        }
    }
}
