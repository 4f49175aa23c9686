//! PCI addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of one PCI function: domain, bus, device and function.
///
/// It is written `dddd:bb:dd.f`, all but the function in hexadecimal, as Linux writes it. The
/// domain has more than four digits behind a VMD controller (`drivers/pci/controller/vmd.c` starts
/// at 0x10000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    domain: u32,
    bus: u8,
    devfn: u8,
}

impl Address {
    /// Returns an address, if `device` is at most 31 and `function` at most 7.
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { domain, bus, devfn: device << 3 | function })
    }

    /// Returns the address that `name` is, if it is written exactly as the kernel writes one.
    ///
    /// What sysfs names must be read so: `00:02:0.0` is a serial port (drivers/tty/serial/
    /// serial_base_bus.c), though a person who writes it may mean an address.
    pub fn of_sysfs(name: &str) -> Option<Self> {
        let address: Self = name.parse().ok()?;
        (address.to_string() == name).then_some(address)
    }

    /// The PCI domain, also called segment.
    pub fn domain(self) -> u32 {
        self.domain
    }

    /// The bus number in its domain.
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The device number on its bus, at most 31.
    pub fn device(self) -> u8 {
        self.devfn >> 3
    }

    /// The function number in its device, at most 7.
    pub fn function(self) -> u8 {
        self.devfn & 7
    }

    /// Returns the same device's function number `function`, if that is at most 7.
    pub fn with_function(self, function: u8) -> Option<Self> {
        Self::new(self.domain, self.bus, self.device(), function)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, .. } = self;
        let text = format!("{domain:04x}:{bus:02x}:{:02x}.{}", self.device(), self.function());
        f.pad(&text)
    }
}

/// What a user may write for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The address; function 0 where none was written.
    pub address: Address,
    /// Whether a function was written.
    pub has_function: bool,
}

/// Text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a PCI address such as 29:00.0 or 0000:29:00")]
pub struct ParseAddressError {
    text: String,
}

impl FromStr for Address {
    type Err = ParseAddressError;

    /// Parses `dddd:bb:dd.f`; the domain may be left out and is then 0000.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text.parse()? {
            Named { address, has_function: true } => Ok(address),
            Named { .. } => Err(ParseAddressError { text: text.to_owned() }),
        }
    }
}

impl FromStr for Named {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        parse(text).ok_or_else(|| ParseAddressError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Named> {
    let (front, function) = match text.split_once('.') {
        Some((front, function)) => (front, Some(function)),
        None => (text, None),
    };
    let mut parts = front.rsplit(':');
    let device = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
    if parts.next().is_some() {
        return None;
    }
    let number = function.map_or(Some(0), |function| hex(function, 1))?;
    let address = Address::new(
        domain,
        u8::try_from(bus).ok()?,
        u8::try_from(device).ok()?,
        u8::try_from(number).ok()?,
    )?;
    Some(Named { address, has_function: function.is_some() })
}

// `from_str_radix` alone would take a sign.
fn hex(digits: &str, most: usize) -> Option<u32> {
    let fits = !digits.is_empty() && digits.len() <= most;
    (fits && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(digits, 16).ok())?
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, expected, has_function) in [
            ("0000:29:00.0", "0000:29:00.0", true),
            ("29:00.1", "0000:29:00.1", true),
            ("29:00", "0000:29:00.0", false),
            ("10000:e1:1f.7", "10000:e1:1f.7", true),
            ("0:2:3", "0000:02:03.0", false),
        ] {
            let named: Named = text.parse().unwrap();
            assert_eq!(
                (named.address.to_string().as_str(), named.has_function),
                (expected, has_function)
            );
        }
    }

    #[test]
    fn sysfs_is_read_to_the_letter() {
        assert!(Address::of_sysfs("0000:29:00.0").is_some());
        assert!(Address::of_sysfs("10000:e1:00.0").is_some());
        for name in ["00:02:0.0", "29:00.0", "0000:2B:00.0", "00:02:0", "pci0000:00"] {
            assert_eq!(Address::of_sysfs(name), None, "{name}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            ":",
            "29",
            "29:00.",
            "29:00.8",
            "29:20.0",
            "100:00.0:0",
            "1:2:3:4.0",
            "29:00.0.0",
            "+9:00.0",
            "29:-1.0",
            "gg:00.0",
            "123456789:00:00.0",
            "29:00.00",
        ] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
        assert!("29:00".parse::<Address>().is_err());
    }
}
