//! The PCI Express capability beyond topology (PCI Express Base 6.0, 7.5.3).

use serde::Serialize;

use super::ConfigSpace;
use super::decode::{bit, low};

/// What the PCI Express capability says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExpressDetail {
    /// Version of the layout.
    pub version: u8,
    /// What it is in the tree, as the register has it.
    pub kind: u8,
    /// Whether the port leads to a slot.
    pub slot: bool,
    /// The largest payload that it can take, in bytes.
    pub max_payload: u16,
    /// The largest payload that it may send, in bytes.
    pub payload: u16,
    /// Whether it can be reset alone.
    pub function_reset: bool,
    /// Its link; integrated endpoints have none.
    pub link: Option<Link>,
}

/// A link of PCI Express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The highest speed that it can have, as the register has it: 1 for 2.5 GT/s and so on.
    pub max_speed: u8,
    /// The most lanes that it can have.
    pub max_width: u8,
    /// Its speed now.
    pub speed: u8,
    /// Its lanes now.
    pub width: u8,
    /// Number of the port.
    pub port: u8,
}

impl Link {
    /// Returns a speed in words; `None` for one of a later specification.
    pub fn speed_name(speed: u8) -> Option<&'static str> {
        Some(match speed {
            1 => "2.5GT/s",
            2 => "5GT/s",
            3 => "8GT/s",
            4 => "16GT/s",
            5 => "32GT/s",
            6 => "64GT/s",
            _ => return None,
        })
    }
}

pub(super) fn express(config: &ConfigSpace, at: u16) -> Option<ExpressDetail> {
    let flags = config.u16(at + 2)?;
    let (capabilities, control) = (config.u32(at + 4)?, config.u16(at + 8)?);
    let kind = low(flags >> 4, 0xf);
    // 128 shifted left; the values above 5 are reserved.
    let payload = |code: u8| 128u16 << code.min(8);
    Some(ExpressDetail {
        version: low(flags, 0xf),
        kind,
        slot: bit(flags, 8),
        max_payload: payload(capabilities.to_le_bytes()[0] & 7),
        payload: payload(low(control >> 5, 7)),
        function_reset: capabilities >> 28 & 1 == 1,
        // Integrated endpoints and event collectors have no link.
        link: if matches!(kind, 9 | 10) { None } else { link(config, at) },
    })
}

fn link(config: &ConfigSpace, at: u16) -> Option<Link> {
    let (capabilities, status) = (config.u32(at + 0x0c)?, config.u16(at + 0x12)?);
    let [lowest, second, _, port] = capabilities.to_le_bytes();
    Some(Link {
        max_speed: lowest & 0xf,
        max_width: low(u16::from_le_bytes([lowest, second]) >> 4, 0x3f),
        speed: low(status, 0xf),
        width: low(status >> 4, 0x3f),
        port,
    })
}
