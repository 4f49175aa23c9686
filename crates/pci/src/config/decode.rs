//! What single capabilities say, as far as it matters to whoever gives a card away or writes a
//! driver for it. `tests/lspci.rs` holds it to `lspci -vvv`.

use serde::Serialize;

use super::express::{ExpressDetail, express};
use super::{Acs, Capability, ConfigSpace, ExtendedCapability};

/// Most registers that one resizable BAR capability can have: one for each BAR.
const MOST_BARS: u16 = 6;

/// What one capability says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Detail {
    /// Power management.
    Power(Power),
    /// Message-signalled interrupts.
    Msi(Msi),
    /// Message-signalled interrupts with a table in a BAR.
    MsiX(MsiX),
    /// PCI Express.
    Express(ExpressDetail),
    /// A vendor's own, of so many bytes.
    VendorSpecific {
        /// Length with its header, in bytes.
        length: u8,
    },
    /// Resets of conventional functions.
    AdvancedFeatures {
        /// Whether the function can be reset alone.
        function_reset: bool,
    },
    /// Access control services.
    Acs(Acs),
    /// Advanced error reporting.
    Aer(Aer),
    /// Single-root I/O virtualisation.
    SrIov(SrIov),
    /// BARs whose size can be chosen.
    ResizableBar {
        /// The BARs.
        bars: Vec<ResizableBar>,
    },
}

/// Power management (PCI Bus Power Management Interface 1.2, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Power {
    /// Version of the layout.
    pub version: u8,
    /// Whether it has the state D1.
    pub d1: bool,
    /// Whether it has the state D2.
    pub d2: bool,
    /// The states from which it can ask to be woken: bits 0 to 4 for D0, D1, D2, D3hot, D3cold.
    pub wakes_from: u8,
    /// The state it is in: 0 to 3.
    pub state: u8,
    /// Whether it keeps its state when it goes from D3hot to D0.
    pub no_soft_reset: bool,
}

/// Message-signalled interrupts (PCI Local Bus 3.0, 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Msi {
    /// Whether they are switched on.
    pub enabled: bool,
    /// How many it can send.
    pub vectors: u8,
    /// How many it may send.
    pub vectors_enabled: u8,
    /// Whether single ones can be masked.
    pub maskable: bool,
    /// Whether its address has 64 bits.
    pub is_64_bit: bool,
}

/// Message-signalled interrupts with a table (PCI Local Bus 3.0, 6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MsiX {
    /// Whether they are switched on.
    pub enabled: bool,
    /// Whether all are masked.
    pub masked: bool,
    /// How many it has.
    pub vectors: u16,
    /// The BAR that the table is in.
    pub table_bar: u8,
    /// Where in the BAR the table begins, in bytes.
    pub table_offset: u32,
    /// The BAR that the pending bits are in.
    pub pending_bar: u8,
    /// Where in the BAR the pending bits begin, in bytes.
    pub pending_offset: u32,
}

/// Advanced error reporting (PCI Express Base 6.0, 7.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Aer {
    /// Errors that were seen and cannot be corrected.
    pub uncorrectable: u32,
    /// Those of them that are not reported.
    pub uncorrectable_mask: u32,
    /// Those of them that are fatal.
    pub uncorrectable_severity: u32,
    /// Errors that were seen and corrected.
    pub correctable: u32,
    /// Those of them that are not reported.
    pub correctable_mask: u32,
}

impl Aer {
    /// The uncorrectable errors by their bit, as lspci names them.
    pub const UNCORRECTABLE: [(u8, &str); 12] = [
        (4, "DLP"),
        (5, "SDES"),
        (12, "TLP"),
        (13, "FCP"),
        (14, "CmpltTO"),
        (15, "CmpltAbrt"),
        (16, "UnxCmplt"),
        (17, "RxOF"),
        (18, "MalfTLP"),
        (19, "ECRC"),
        (20, "UnsupReq"),
        (21, "ACSViol"),
    ];
    /// The corrected errors by their bit, likewise.
    pub const CORRECTABLE: [(u8, &str); 6] = [
        (0, "RxErr"),
        (6, "BadTLP"),
        (7, "BadDLLP"),
        (8, "Rollover"),
        (12, "Timeout"),
        (13, "AdvNonFatalErr"),
    ];
}

/// Single-root I/O virtualisation (PCI Express Base 6.0, 9.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SrIov {
    /// Whether virtual functions are switched on.
    pub enabled: bool,
    /// How many there are at first.
    pub initial: u16,
    /// How many there can be.
    pub total: u16,
    /// How many there are.
    pub number: u16,
    /// From the physical function's requester id to the first virtual one's.
    pub offset: u16,
    /// From one virtual function's requester id to the next one's.
    pub stride: u16,
    /// Device id of the virtual functions.
    pub device: u16,
}

/// A BAR whose size can be chosen (PCI Express Base 6.0, 7.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResizableBar {
    /// Its number.
    pub bar: u8,
    /// Its size as it is, in bytes.
    pub size: u64,
    /// The sizes that it can have: bit n for 1 MiB shifted left by n, up to bit 27.
    pub sizes: u32,
}

impl ConfigSpace {
    /// Decodes a capability of the first list; `None` for kinds that are not decoded, or where
    /// bytes are missing.
    pub fn detail(&self, capability: Capability) -> Option<Detail> {
        let at = capability.offset;
        match capability.id {
            Capability::POWER => self.power(at).map(Detail::Power),
            Capability::MSI => self.msi(at).map(Detail::Msi),
            Capability::MSI_X => self.msi_x(at).map(Detail::MsiX),
            Capability::EXPRESS => express(self, at).map(Detail::Express),
            0x09 => Some(Detail::VendorSpecific { length: self.u8(at + 2)? }),
            Capability::ADVANCED_FEATURES => {
                Some(Detail::AdvancedFeatures { function_reset: self.u8(at + 3)? >> 1 & 1 == 1 })
            }
            _ => None,
        }
    }

    /// Decodes an extended capability, likewise.
    pub fn extended_detail(&self, capability: ExtendedCapability) -> Option<Detail> {
        let at = capability.offset;
        match capability.id {
            0x0001 => self.aer(at).map(Detail::Aer),
            ExtendedCapability::ACS => {
                let acs = Acs { supported: self.u16(at + 4)?, enabled: self.u16(at + 6)? };
                Some(Detail::Acs(acs))
            }
            ExtendedCapability::SR_IOV => self.sr_iov(at).map(Detail::SrIov),
            0x0015 => self.resizable(at).map(|bars| Detail::ResizableBar { bars }),
            _ => None,
        }
    }

    fn power(&self, at: u16) -> Option<Power> {
        let (capabilities, control) = (self.u16(at + 2)?, self.u16(at + 4)?);
        Some(Power {
            version: low(capabilities, 0x7),
            d1: bit(capabilities, 9),
            d2: bit(capabilities, 10),
            wakes_from: low(capabilities >> 11, 0x1f),
            state: low(control, 0x3),
            no_soft_reset: bit(control, 3),
        })
    }

    fn msi(&self, at: u16) -> Option<Msi> {
        let control = self.u16(at + 2)?;
        Some(Msi {
            enabled: bit(control, 0),
            vectors: 1 << low(control >> 1, 0x7),
            vectors_enabled: 1 << low(control >> 4, 0x7),
            is_64_bit: bit(control, 7),
            maskable: bit(control, 8),
        })
    }

    fn msi_x(&self, at: u16) -> Option<MsiX> {
        let (control, table, pending) = (self.u16(at + 2)?, self.u32(at + 4)?, self.u32(at + 8)?);
        let bar = |register: u32| register.to_le_bytes()[0] & 7;
        Some(MsiX {
            enabled: bit(control, 15),
            masked: bit(control, 14),
            vectors: (control & 0x7ff) + 1,
            table_bar: bar(table),
            table_offset: table & !7,
            pending_bar: bar(pending),
            pending_offset: pending & !7,
        })
    }

    fn aer(&self, at: u16) -> Option<Aer> {
        Some(Aer {
            uncorrectable: self.u32(at + 0x04)?,
            uncorrectable_mask: self.u32(at + 0x08)?,
            uncorrectable_severity: self.u32(at + 0x0c)?,
            correctable: self.u32(at + 0x10)?,
            correctable_mask: self.u32(at + 0x14)?,
        })
    }

    fn sr_iov(&self, at: u16) -> Option<SrIov> {
        Some(SrIov {
            enabled: bit(self.u16(at + 0x08)?, 0),
            initial: self.u16(at + 0x0c)?,
            total: self.u16(at + 0x0e)?,
            number: self.u16(at + 0x10)?,
            offset: self.u16(at + 0x14)?,
            stride: self.u16(at + 0x16)?,
            device: self.u16(at + 0x1a)?,
        })
    }

    fn resizable(&self, at: u16) -> Option<Vec<ResizableBar>> {
        // The first control register says how many there are.
        let count = self.u32(at + 8)? >> 5 & 7;
        let count = u16::try_from(count).unwrap_or_default().min(MOST_BARS);
        (0..count)
            .map(|number| {
                let (sizes, control) =
                    (self.u32(at + 4 + 8 * number)?, self.u32(at + 8 + 8 * number)?);
                let [bar, exponent, ..] = control.to_le_bytes();
                Some(ResizableBar {
                    bar: bar & 7,
                    size: 1u64.checked_shl(20 + u32::from(exponent & 0x3f)).unwrap_or_default(),
                    sizes: sizes >> 4,
                })
            })
            .collect()
    }
}

/// Whether a bit of a register is set.
pub(super) fn bit(register: u16, number: u8) -> bool {
    register >> number & 1 == 1
}

/// The lowest bits of a register, at most eight.
pub(super) fn low(register: u16, mask: u8) -> u8 {
    register.to_le_bytes()[0] & mask
}
