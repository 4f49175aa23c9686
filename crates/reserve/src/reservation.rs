//! The list of reserved functions, as it stands in `/etc/kireji` and in each initramfs.
//!
//! A line for each function: the first function of its card, its own address, vendor, device,
//! subsystem vendor, subsystem device, class, and the bridges above it. The ids are as sysfs has
//! them without `0x`, so that a shell can compare them. A line `trial ID` makes all of it hold only
//! in a boot with `kireji.trial=ID`.

use std::fmt::Write;

use host::{Measured, ReadError, Sysroot};
use pci::{Address, Host, Ids};
use serde::Serialize;

/// Where the list is, on the host and in each initramfs.
pub const PATH: &str = "/etc/kireji/reservations";

const HEAD: &str = "\
# Functions that vfio-pci has from boot on. Changed by `kireji reserve` and `kireji undo`; what is
# changed by hand here takes effect with the next initramfs.
# card address vendor device subsystem-vendor subsystem-device class bridges
";
/// How many functions a list may have.
const MOST: usize = 4096;

/// Which function it is, wherever it sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Vendor and device.
    #[serde(serialize_with = "as_text")]
    pub ids: Ids,
    /// The subsystem's; zeros where there are none.
    #[serde(serialize_with = "as_text")]
    pub subsystem: Ids,
    /// Class code.
    pub class: pci::Class,
}

fn as_text<S: serde::Serializer>(ids: &Ids, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ids)
}

impl Identity {
    /// The identity of a function that is there.
    pub fn of(function: &pci::Function) -> Self {
        let none = Ids { vendor: 0, device: 0 };
        Self {
            ids: function.ids,
            subsystem: function.subsystem.unwrap_or(none),
            class: function.class,
        }
    }
}

/// One reserved function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The first function of its card.
    pub card: Address,
    /// Its own address.
    pub address: Address,
    /// What must be there.
    pub identity: Identity,
    /// The bridges above it, the nearest last: how to find it where addresses have moved.
    pub bridges: Vec<Address>,
}

/// What is so now at the address of a reserved function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum Standing {
    /// The function itself.
    There {
        /// Who drives it.
        driver: Option<String>,
    },
    /// Another one or none; but the function, or one just like it, is elsewhere.
    Moved {
        /// Where.
        to: Address,
    },
    /// Another one.
    Foreign {
        /// Its ids.
        #[serde(serialize_with = "as_text")]
        ids: Ids,
    },
    /// None.
    Absent,
}

impl Reserved {
    /// Says what is so at its address; `others` are reserved too, and stand for themselves.
    pub fn standing(&self, host: &Host, others: &Reservations) -> Standing {
        let there = host.function(self.address);
        if let Some(function) = there.filter(|there| Identity::of(there) == self.identity) {
            return Standing::There { driver: function.driver.clone() };
        }
        let is_free = |function: &&pci::Function| {
            Identity::of(function) == self.identity
                && !others.functions.iter().any(|other| other.address == function.address)
        };
        let mut alike: Vec<_> = host.functions().filter(is_free).collect();
        // Of twins, the one below the same bridges is meant.
        if alike.len() > 1 {
            alike.retain(|function| {
                let mut bridges: Vec<_> = host.above(function.address).collect();
                bridges.reverse();
                bridges == self.bridges
            });
        }
        match (&alike[..], there) {
            ([only], _) => Standing::Moved { to: only.address },
            (_, Some(other)) => Standing::Foreign { ids: other.ids },
            (_, None) => Standing::Absent,
        }
    }
}

/// The list of reserved functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reservations {
    /// The trial that the list holds for.
    pub trial: Option<String>,
    /// The functions, by address.
    pub functions: Vec<Reserved>,
}

/// The list of reservations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReservationError {
    /// It cannot be read.
    #[error("the reservations cannot be read")]
    Read(#[from] ReadError),
    /// A line is not one of ours.
    #[error("line {line} of {PATH} is no reservation")]
    Line {
        /// The line, from 1.
        line: usize,
    },
}

impl Reservations {
    /// Reads the list of a host; an empty one where there is none.
    ///
    /// # Errors
    /// It cannot be read, or has a line that is none.
    pub fn read(host: &Sysroot) -> Result<Self, ReservationError> {
        match host.optional_text(PATH)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// A line is no reservation.
    pub fn parse(text: &str) -> Result<Self, ReservationError> {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            let words: Vec<_> = line.split_whitespace().collect();
            let wrong = ReservationError::Line { line: index + 1 };
            match &words[..] {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["trial", id] if list.trial.is_none() => list.trial = Some((*id).to_owned()),
                [card, address, fields @ ..] if list.functions.len() < MOST => {
                    let reserved = reserved(card, address, fields).ok_or(wrong)?;
                    list.functions.push(reserved);
                }
                _ => return Err(wrong),
            }
        }
        Ok(list)
    }

    /// Returns the list as it is written; `None` where nothing is reserved, and no file is needed.
    pub fn text(&self) -> Option<String> {
        if self.functions.is_empty() {
            return None;
        }
        let mut text = HEAD.to_owned();
        if let Some(trial) = &self.trial {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "trial {trial}");
        }
        for Reserved { card, address, identity: Identity { ids, subsystem, class }, bridges } in
            &self.functions
        {
            let bridges: Vec<_> = bridges.iter().map(Address::to_string).collect();
            let bridges = if bridges.is_empty() { "-".to_owned() } else { bridges.join("/") };
            let _ = writeln!(
                text,
                "{card} {address} {:04x} {:04x} {:04x} {:04x} {class} {bridges}",
                ids.vendor, ids.device, subsystem.vendor, subsystem.device,
            );
        }
        Some(text)
    }

    /// Returns the list with these functions of a host reserved too. Each is of a card that is
    /// known. A reservation whose function has moved to one of them follows it.
    ///
    /// # Errors
    /// Why the card of one is not known.
    pub fn with(&self, host: &Host, functions: &[Address]) -> Result<Self, String> {
        let mut list = self.clone();
        let has_moved_to_one = |reserved: &Reserved| match reserved.standing(host, self) {
            Standing::Moved { to } => functions.contains(&to),
            _ => false,
        };
        let is_replaced = |reserved: &Reserved| {
            functions.contains(&reserved.address) || has_moved_to_one(reserved)
        };
        list.functions.retain(|reserved| !is_replaced(reserved));
        for function in functions.iter().filter_map(|address| host.function(*address)) {
            let address = function.address;
            let card = match host.card(address) {
                Measured::Known(card) => card.functions.first().copied().unwrap_or(address),
                Measured::Unmeasured { unmeasured } => return Err(unmeasured),
            };
            let mut bridges: Vec<_> = host.above(address).collect();
            bridges.reverse();
            let identity = Identity::of(function);
            list.functions.push(Reserved { card, address, identity, bridges });
        }
        list.functions.sort_by_key(|reserved| reserved.address);
        Ok(list)
    }

    /// Returns the list without these functions.
    pub fn without(&self, functions: &[Address]) -> Self {
        let mut list = self.clone();
        list.functions.retain(|reserved| !functions.contains(&reserved.address));
        list
    }
}

fn reserved(card: &str, address: &str, fields: &[&str]) -> Option<Reserved> {
    let [vendor, device, subvendor, subdevice, class, bridges] = fields else { return None };
    let full = |text: &str| Address::of_sysfs(text);
    let digits = |text: &str, count: usize| {
        let fine = text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if fine { u32::from_str_radix(text, 16).ok() } else { None }
    };
    let id = |text| digits(text, 4).and_then(|number| u16::try_from(number).ok());
    let bridges = match *bridges {
        "-" => Some(Vec::new()),
        path => path.split('/').map(full).collect(),
    };
    Some(Reserved {
        card: full(card)?,
        address: full(address)?,
        identity: Identity {
            ids: Ids { vendor: id(vendor)?, device: id(device)? },
            subsystem: Ids { vendor: id(subvendor)?, device: id(subdevice)? },
            class: pci::Class(digits(class, 6)?),
        },
        bridges: bridges?,
    })
}

#[cfg(test)]
mod tests {
    use testkit::tree::{Function, Port, Tree};

    use super::*;

    fn host() -> (Tree, Host) {
        let mut tree = Tree::new();
        tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot());
        let below = |address, device| {
            Function::new(address, 0x8086, device).below("0000:00:1c.0").subsystem(0x1043, 0x85b0)
        };
        tree.add(below("0000:01:00.0", 0x10d3));
        tree.add(below("0000:01:00.1", 0x10d4).class(0x04_0300));
        tree.add(Function::new("0000:00:05.0", 0x1b36, 5));
        let host = Host::read(&tree.sysroot()).unwrap();
        (tree, host)
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_list_is_written_and_read_again() {
        let (tree, host) = host();
        let mut list = Reservations::default()
            .with(&host, &addresses(&["01:00.1", "01:00.0", "00:05.0"]))
            .unwrap();
        list.trial = Some("7".into());
        let text = list.text().unwrap();
        insta::assert_snapshot!(text.strip_prefix(HEAD).unwrap(), @r"
        trial 7
        0000:00:05.0 0000:00:05.0 1b36 0005 0000 0000 ff0000 -
        0000:01:00.0 0000:01:00.0 8086 10d3 1043 85b0 ff0000 0000:00:1c.0
        0000:01:00.0 0000:01:00.1 8086 10d4 1043 85b0 040300 0000:00:1c.0
        ");
        assert_eq!(Reservations::parse(&text).unwrap(), list);
        tree.write(PATH, &text);
        assert_eq!(Reservations::read(&tree.sysroot()).unwrap(), list);
        let again = list.with(&host, &addresses(&["01:00.0"])).unwrap();
        assert_eq!(again, list);
        let less = list.without(&addresses(&["01:00.0", "01:00.1"]));
        assert_eq!(less.functions.len(), 1);
        assert_eq!(less.without(&addresses(&["00:05.0"])).text(), None);
    }

    #[test]
    fn a_reservation_follows_its_card() {
        let (_tree, host) = host();
        let list = Reservations::default().with(&host, &addresses(&["01:00.0"])).unwrap();
        let driver = None;
        assert_eq!(list.functions[0].standing(&host, &list), Standing::There { driver });

        let mut tree = Tree::new();
        tree.add(Function::port("0000:00:1c.4", Port::Root, 2).slot());
        let card = |address| Function::new(address, 0x8086, 0x10d3).subsystem(0x1043, 0x85b0);
        tree.add(card("0000:02:00.0").below("0000:00:1c.4"));
        let moved = Host::read(&tree.sysroot()).unwrap();
        let to = "02:00.0".parse().unwrap();
        assert_eq!(list.functions[0].standing(&moved, &list), Standing::Moved { to });
        let pointed = list.with(&moved, &[to]).unwrap();
        assert_eq!(pointed.functions.len(), 1);
        assert_eq!(pointed.functions[0].address, to);

        // A second one just like it: which of them moved is not known.
        tree.add(card("0000:00:06.0"));
        tree.add(Function::new("0000:01:00.0", 0x10de, 1));
        let twins = Host::read(&tree.sysroot()).unwrap();
        let ids = Ids { vendor: 0x10de, device: 1 };
        assert_eq!(list.functions[0].standing(&twins, &list), Standing::Foreign { ids });
        assert_eq!(list.with(&twins, &[to]).unwrap().functions.len(), 2);
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (text, line) in [
            ("\n# x\nhello\n", 3),
            ("0000:01:00.0 0000:01:00.0 8086 10d3 1043 85b0 020000", 1),
            ("0000:01:00.0 0000:01:00.0 8086 10d3 1043 85b0 +20000 -", 1),
            ("trial 1\ntrial 2\n", 2),
        ] {
            let error = Reservations::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("line {line} of {PATH} is no reservation"));
        }
    }
}
