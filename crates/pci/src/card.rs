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
        self.functions()
            .filter(|function| function.physical.is_none())
            .filter(|function| self.above(function.address).any(|above| above == bridge))
            .map(|function| function.address)
            .collect()
    }

    fn siblings(&self, function: &Function) -> Vec<Address> {
        let whole_bus = matches!(self.is_below_port(function.address), Measured::Known(true));
        let one = function.address;
        let siblings: BTreeSet<_> = self
            .functions()
            .filter(|other| other.physical.is_none() && other.parent == function.parent)
            .map(|other| other.address)
            .filter(|other| (other.domain(), other.bus()) == (one.domain(), one.bus()))
            .filter(|other| whole_bus || other.device() == one.device())
            .collect();
        siblings.into_iter().collect()
    }
}
