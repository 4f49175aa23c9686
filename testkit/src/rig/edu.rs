//! QEMU's educational card, driven through VFIO (`docs/specs/edu.rst` of QEMU).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pci::Address;
use vfio::{Access, BAR0, CONFIG, Device, Event, Interrupt, MappedRegion, Memory, Width};

use super::{Outcome, Rig, one, said};

const IDENTIFICATION: usize = 0x00;
const LIVENESS: usize = 0x04;
const FACTORIAL: usize = 0x08;
const STATUS: usize = 0x20;
const STATUS_COMPUTING: u64 = 1;
const INTERRUPT_STATUS: usize = 0x24;
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;
const DMA_START: u64 = 1;
const DMA_TO_MEMORY: u64 = 2;
/// Where the card's own buffer is, for its DMA.
const BUFFER: u64 = 0x40000;
const SIZE: usize = 1 << 20;

/// Inside the 28 bits of address that the card has.
const IOVA: u64 = 0x20_0000;
const PAGE: usize = 4096;
const COMMAND: u64 = 0x04;
const COMMAND_BUS_MASTER: u64 = 1 << 2;
/// The card takes 0.1 s for a transfer; the rig is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an event that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(100);

pub(super) fn works(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    rig.take(functions)?;
    let device = Device::open(&rig.host, address).map_err(said)?;
    let registers = device.map_region(BAR0, 0, SIZE).map_err(said)?;
    let card = Card { rig, device: &device, registers: &registers };
    card.registers()?;
    card.bus_master(true)?;
    card.dma()?;
    card.msi()?;
    card.intx()?;
    card.bus_master(false)
}

struct Card<'a> {
    rig: &'a Rig<'a>,
    device: &'a Device,
    registers: &'a MappedRegion,
}

impl Card<'_> {
    fn read(&self, register: usize) -> Result<u64, String> {
        self.registers.read(register, Width::Double).map_err(said)
    }

    fn write(&self, register: usize, value: u64) -> Outcome {
        self.registers.write(register, Width::Double, value).map_err(said)
    }

    /// Waits until `bit` of a register is clear.
    fn until_clear(&self, register: usize, bit: u64) -> Outcome {
        let started = Instant::now();
        while self.read(register)? & bit != 0 {
            if started.elapsed() > PATIENCE {
                return Err(format!("bit {bit:#x} of register {register:#x} stays set"));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn bus_master(&self, on: bool) -> Outcome {
        let set = || {
            let command = self.device.read(CONFIG, COMMAND, Width::Word)?;
            let command =
                if on { command | COMMAND_BUS_MASTER } else { command & !COMMAND_BUS_MASTER };
            self.device.write(CONFIG, COMMAND, Width::Word, command)?;
            self.device.read(CONFIG, COMMAND, Width::Word)
        };
        let command = set().map_err(said)?;
        self.rig.same("bus mastering follows", command & COMMAND_BUS_MASTER != 0, on)
    }

    fn registers(&self) -> Outcome {
        self.rig.same("identification, mapped", self.read(IDENTIFICATION)?, 0x0100_00ed)?;
        let read = self.device.read(BAR0, 0, Width::Double).map_err(said)?;
        self.rig.same("identification, by read", read, 0x0100_00ed)?;
        self.write(LIVENESS, 0x1234_5678)?;
        self.rig.same("liveness", self.read(LIVENESS)?, 0xedcb_a987)?;
        self.device.write(BAR0, 0x04, Width::Double, 1).map_err(said)?;
        self.rig.same("liveness, by write", self.read(LIVENESS)?, 0xffff_fffe)?;
        self.write(FACTORIAL, 10)?;
        self.until_clear(STATUS, STATUS_COMPUTING)?;
        self.rig.same("factorial of 10", self.read(FACTORIAL)?, 3_628_800)?;
        let beyond = self.device.read(BAR0, 1 << 20, Width::Double);
        self.rig.holds("nothing beyond its end", beyond.is_err())
    }

    fn transfer(&self, source: u64, destination: u64, count: usize, command: u64) -> Outcome {
        let count = u64::try_from(count).map_err(said)?;
        let quad =
            |register, value| self.registers.write(register, Width::Quad, value).map_err(said);
        quad(DMA_SOURCE, source)?;
        quad(DMA_DESTINATION, destination)?;
        quad(DMA_COUNT, count)?;
        quad(DMA_COMMAND, command | DMA_START)?;
        self.until_clear(DMA_COMMAND, DMA_START)
    }

    fn dma(&self) -> Outcome {
        let aperture = self.device.space().aperture().map_err(said)?;
        self.rig.same("place of the memory", aperture.place(8192, IOVA), Some(IOVA))?;
        let memory = Arc::new(Memory::anonymous(2 * PAGE).map_err(said)?);
        let pattern: Vec<u8> =
            (0..).map(|number: u32| number.to_le_bytes()[0] ^ 0x5a).take(1024).collect();
        memory.write_bytes(0, &pattern).map_err(said)?;
        let mapping = self.device.space().map(IOVA, Arc::clone(&memory), Access::Both);
        let mapping = mapping.map_err(said)?;
        let taken = self.device.space().map(IOVA, Arc::clone(&memory), Access::Both);
        self.rig.holds("an address is mapped once", taken.is_err())?;
        let second = IOVA + 4096;
        self.transfer(IOVA, BUFFER, pattern.len(), 0)?;
        self.transfer(BUFFER, second, pattern.len(), DMA_TO_MEMORY)?;
        let mut back = vec![0; pattern.len()];
        memory.read_bytes(PAGE, &mut back).map_err(said)?;
        self.rig.same("DMA both ways", &back, &pattern)?;
        mapping.unmap().map_err(said)?;
        self.rig.ok("the memory was unmapped");
        memory.write_bytes(PAGE, &vec![0; pattern.len()]).map_err(said)?;
        self.transfer(BUFFER, second, pattern.len(), DMA_TO_MEMORY)?;
        memory.read_bytes(PAGE, &mut back).map_err(said)?;
        self.rig.holds("unmapped memory is out of reach", back.iter().all(|byte| *byte == 0))
    }

    fn msi(&self) -> Outcome {
        let event = Event::new().map_err(said)?;
        let kind = Interrupt::Msi;
        self.device.enable_interrupts(kind, 0, &[Some(event.as_fd())]).map_err(said)?;
        self.write(RAISE, 0x10)?;
        self.rig.same("MSI arrives", event.wait(PATIENCE).map_err(said)?, 1)?;
        self.rig.same("the card says why", self.read(INTERRUPT_STATUS)?, 0x10)?;
        self.write(ACKNOWLEDGE, 0x10)?;
        // Without a descriptor nothing arrives, and with one again it does.
        self.device.enable_interrupts(kind, 0, &[None]).map_err(said)?;
        self.write(RAISE, 0x20)?;
        self.write(ACKNOWLEDGE, 0x20)?;
        self.rig.same("a vector is left out", event.wait(SILENCE).map_err(said)?, 0)?;
        self.device.enable_interrupts(kind, 0, &[Some(event.as_fd())]).map_err(said)?;
        self.device.trigger(kind, 0, 1).map_err(said)?;
        self.rig.same("loopback", event.wait(PATIENCE).map_err(said)?, 1)?;
        self.device.disable_interrupts(kind).map_err(said)
    }

    fn intx(&self) -> Outcome {
        let event = Event::new().map_err(said)?;
        let kind = Interrupt::Intx;
        let heard = |limit| event.wait(limit).map_err(said);
        self.device.enable_interrupts(kind, 0, &[Some(event.as_fd())]).map_err(said)?;
        self.write(RAISE, 1)?;
        self.rig.same("INTx arrives", heard(PATIENCE)?, 1)?;
        self.rig.same("it is masked then", heard(SILENCE)?, 0)?;
        self.device.unmask(kind, 0, 1).map_err(said)?;
        self.rig.same("asserted still, it fires again", heard(PATIENCE)?, 1)?;
        self.write(ACKNOWLEDGE, 1)?;
        self.device.unmask(kind, 0, 1).map_err(said)?;
        self.rig.same("acknowledged, it is silent", heard(SILENCE)?, 0)?;
        self.device.mask(kind, 0, 1).map_err(said)?;
        self.write(RAISE, 1)?;
        self.rig.same("masked, it is silent", heard(SILENCE)?, 0)?;
        self.write(ACKNOWLEDGE, 1)?;
        self.device.disable_interrupts(kind).map_err(said)
    }
}
