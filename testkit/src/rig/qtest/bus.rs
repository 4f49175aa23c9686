//! What firmware does to the buses of a machine: each bus gets a number, each memory BAR an
//! address, each bridge a window for what is behind it.

use std::ops::RangeInclusive;

use pci::Address;
use vfio::Width;

use super::super::{Outcome, said};
use super::client::Qtest;
use super::function::{COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY, Function};

const ALL_ONES: u64 = 0xffff_ffff;

/// Registers of the header (PCI Local Bus 3.0, 6.1 and 6.2.5).
const HEADER_TYPE: u16 = 0x0e;
const HEADER_ABSENT: u64 = 0xff;
const HEADER_MULTIFUNCTION: u64 = 1 << 7;
const HEADER_ENDPOINT: u64 = 0;
const HEADER_BRIDGE: u64 = 1;
const BAR0: u16 = 0x10;
const BAR_IO: u64 = 1;
const BAR_64_BIT: u64 = 1 << 2;
const BAR_FLAGS: u64 = 0xf;

/// Registers of a bridge (PCI-to-PCI Bridge 1.2, 3.2.5).
const BUS_NUMBERS: u16 = 0x18;
const MEMORY_WINDOW: u16 = 0x20;
const WINDOW_STEP: u64 = 1 << 20;

/// Where BARs go: between the memory of a small machine and the chipset's own registers, the
/// lowest of which is the I/O APIC.
const FIRST: u64 = 0xe000_0000;
const END: u64 = 0xfec0_0000;

/// Sets up all buses and returns the functions behind ports and bridges. What else is on the root
/// bus belongs to the machine itself.
pub(super) fn set_up(qtest: &mut Qtest) -> Result<Vec<Function>, String> {
    let mut walk = Walk { qtest, next: FIRST, last_bus: 0, found: Vec::new() };
    walk.qtest.map_config()?;
    walk.walk()?;
    Ok(walk.found)
}

struct Walk<'a> {
    qtest: &'a mut Qtest,
    /// The next free address.
    next: u64,
    last_bus: u8,
    found: Vec<Function>,
}

/// A bus whose functions are being looked for.
struct Bus {
    number: u8,
    /// Device and function numbers that are still to be asked.
    places: RangeInclusive<u8>,
    /// The bridge that it is behind.
    bridge: Option<Bridge>,
}

struct Bridge {
    at: Address,
    /// Where its window begins.
    start: u64,
}

impl Walk<'_> {
    // Depth first, for the buses behind a bridge and their windows must be in one piece.
    fn walk(&mut self) -> Outcome {
        let mut open = vec![Bus { number: 0, places: 0..=0xff, bridge: None }];
        while let Some(bus) = open.last_mut() {
            let Some(place) = bus.places.next() else {
                if let Some(bridge) = open.pop().and_then(|bus| bus.bridge) {
                    self.close(&bridge)?;
                }
                continue;
            };
            let at = Address::new(0, bus.number, place >> 3, place & 7);
            let at = at.ok_or_else(|| format!("there is no place {place:#x} on a bus"))?;
            let header = self.qtest.config(at, HEADER_TYPE, Width::Byte)?;
            let is_alone = header == HEADER_ABSENT || header & HEADER_MULTIFUNCTION == 0;
            if at.function() == 0 && is_alone {
                // The device has no functions 1 to 7.
                bus.places.nth(6);
            }
            match header & !HEADER_MULTIFUNCTION {
                _ if header == HEADER_ABSENT => {}
                HEADER_BRIDGE => {
                    let bus = self.open(at)?;
                    open.push(bus);
                }
                HEADER_ENDPOINT if at.bus() == 0 => {}
                HEADER_ENDPOINT => {
                    let function = self.function(at)?;
                    self.found.push(function);
                }
                other => return Err(format!("{at} has a header of type {other:#x}")),
            }
        }
        Ok(())
    }

    fn function(&mut self, at: Address) -> Result<Function, String> {
        let bars = self.bars(at)?;
        Function::read(self.qtest, at, bars)
    }

    /// Gives each memory BAR an address. I/O BARs are left where they are: nowhere.
    fn bars(&mut self, at: Address) -> Result<[Option<u64>; 6], String> {
        let mut bars = [None; 6];
        let mut index = 0;
        while index < bars.len() {
            let register = BAR0 + 4 * u16::try_from(index).map_err(said)?;
            self.qtest.set_config(at, register, Width::Double, ALL_ONES)?;
            let sized = self.qtest.config(at, register, Width::Double)?;
            let is_wide = sized & (BAR_IO | BAR_64_BIT) == BAR_64_BIT;
            let size = (!(sized & !BAR_FLAGS) & ALL_ONES) + 1;
            if sized & !BAR_FLAGS != 0 && sized & BAR_IO == 0 {
                let place = self.allocate(size)?;
                self.qtest.set_config(at, register, Width::Double, place)?;
                if is_wide {
                    self.qtest.set_config(at, register + 4, Width::Double, 0)?;
                }
                bars[index] = Some(place);
            } else {
                self.qtest.set_config(at, register, Width::Double, 0)?;
            }
            index += if is_wide { 2 } else { 1 };
        }
        Ok(bars)
    }

    fn allocate(&mut self, size: u64) -> Result<u64, String> {
        let place = self.next.next_multiple_of(size);
        self.next = place + size;
        if self.next > END {
            return Err(format!("no room for a BAR of {size:#x} bytes"));
        }
        Ok(place)
    }

    /// Gives the bus behind a bridge its number, and opens the bridge for all numbers from there.
    fn open(&mut self, at: Address) -> Result<Bus, String> {
        let number = self.last_bus.checked_add(1).ok_or("there are too many buses")?;
        self.last_bus = number;
        self.number(at, number, 0xff)?;
        self.next = self.next.next_multiple_of(WINDOW_STEP);
        let bridge = Bridge { at, start: self.next };
        Ok(Bus { number, places: 0..=0xff, bridge: Some(bridge) })
    }

    /// Closes a bridge again for all that is not behind it.
    fn close(&mut self, bridge: &Bridge) -> Outcome {
        let number = self.qtest.config(bridge.at, BUS_NUMBERS + 1, Width::Byte)?;
        let number = u8::try_from(number).map_err(said)?;
        self.number(bridge.at, number, self.last_bus)?;
        self.next = self.next.next_multiple_of(WINDOW_STEP);
        // Bits 31 to 20 of the first and the last address. A window whose last address is below
        // its first one is closed, which is what comes out where nothing is behind the bridge.
        let (first, last) = (bridge.start, self.next - WINDOW_STEP);
        let window = (first >> 16) | last & 0xfff0_0000;
        self.qtest.set_config(bridge.at, MEMORY_WINDOW, Width::Double, window)?;
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
        self.qtest.set_config(bridge.at, COMMAND, Width::Word, command)
    }

    fn number(&mut self, at: Address, secondary: u8, last: u8) -> Outcome {
        let numbers = u64::from(at.bus()) | u64::from(secondary) << 8 | u64::from(last) << 16;
        self.qtest.set_config(at, BUS_NUMBERS, Width::Double, numbers)
    }
}
