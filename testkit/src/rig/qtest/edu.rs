//! QEMU's educational card in an inner machine (`docs/specs/edu.rst` of QEMU).

use pci::Ids;

use super::super::{Outcome, said};
use super::card::{Card, MEMORY, PAGE};

pub(super) const IDS: Ids = Ids { vendor: 0x1234, device: 0x11e8 };

const IDENTIFICATION: u64 = 0x00;
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const STATUS_COMPUTING: u64 = 1;
const INTERRUPT_STATUS: u64 = 0x24;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const DMA_START: u64 = 1;
const DMA_TO_MEMORY: u64 = 2;
const DMA_INTERRUPT: u64 = 4;
/// What the interrupt status says after a transfer that was to tell its end.
const DMA_DONE: u64 = 0x100;
/// Where the card's own buffer is, for its DMA.
const BUFFER: u64 = 0x40000;
/// How many changes of an interrupt line are looked at, at most.
const LOWERING: u32 = 20;

pub(super) fn check(card: &mut Card<'_>) -> Outcome {
    registers(card)?;
    dma(card)?;
    msi(card)?;
    intx(card)
}

fn registers(card: &mut Card<'_>) -> Outcome {
    let identification = card.read(IDENTIFICATION)?;
    card.rig.same("edu: identification", identification, 0x0100_00ed)?;
    card.write(LIVENESS, 0x1234_5678)?;
    let liveness = card.read(LIVENESS)?;
    card.rig.same("edu: liveness", liveness, 0xedcb_a987)?;
    card.write(FACTORIAL, 10)?;
    card.until(STATUS, STATUS_COMPUTING, 0)?;
    let factorial = card.read(FACTORIAL)?;
    card.rig.same("edu: factorial of 10", factorial, 3_628_800)
}

fn transfer(
    card: &mut Card<'_>,
    source: u64,
    destination: u64,
    count: usize,
    command: u64,
) -> Outcome {
    let count = u64::try_from(count).map_err(said)?;
    card.write_wide(DMA_SOURCE, source)?;
    card.write_wide(DMA_DESTINATION, destination)?;
    card.write_wide(DMA_COUNT, count)?;
    card.write_wide(DMA_COMMAND, command | DMA_START)?;
    card.until(DMA_COMMAND, DMA_START, 0).map(drop)
}

fn dma(card: &mut Card<'_>) -> Outcome {
    let pattern: Vec<u8> =
        (0..).map(|number: u32| number.to_le_bytes()[0] ^ 0x5a).take(1024).collect();
    let (here, there) = (MEMORY, MEMORY + PAGE);
    card.qtest.write_bytes(here, &pattern)?;
    card.qtest.clear(there, pattern.len())?;
    transfer(card, here, BUFFER, pattern.len(), 0)?;
    transfer(card, BUFFER, there, pattern.len(), DMA_TO_MEMORY)?;
    let back = card.qtest.read_bytes(there, pattern.len())?;
    card.rig.same("edu: DMA both ways", back, pattern)
}

fn msi(card: &mut Card<'_>) -> Outcome {
    let target = card.message(0)?;
    card.function.msi(card.qtest, Some(target))?;
    card.write(RAISE, 0x10)?;
    card.expect_message("edu: MSI arrives", target)?;
    let status = card.read(INTERRUPT_STATUS)?;
    card.rig.same("edu: the card says why", status, 0x10)?;
    card.write(ACKNOWLEDGE, 0x10)?;
    let status = card.read(INTERRUPT_STATUS)?;
    card.rig.same("edu: it is acknowledged", status, 0)?;
    transfer(card, BUFFER, MEMORY, 4, DMA_TO_MEMORY | DMA_INTERRUPT)?;
    card.expect_message("edu: MSI at the end of a transfer", target)?;
    card.write(ACKNOWLEDGE, DMA_DONE)?;
    card.function.msi(card.qtest, None)?;
    card.expect_silence("edu: no further message", target)
}

fn intx(card: &mut Card<'_>) -> Outcome {
    card.qtest.command("irq_intercept_in ioapic")?;
    card.write(RAISE, 1)?;
    let raised = card.signal()?.ok_or("edu: INTx does not arrive")?;
    card.rig.same("edu: INTx arrives", raised.is_raised, true)?;
    let status = card.read(INTERRUPT_STATUS)?;
    card.rig.same("edu: the card says why", status, 1)?;
    card.write(ACKNOWLEDGE, 1)?;
    let status = card.read(INTERRUPT_STATUS)?;
    card.rig.same("edu: it is acknowledged", status, 0)?;
    // QEMU takes the next access to a register for the end of the interrupt, and the line was
    // still asserted when the status was read: it may be raised once more, and be lowered by
    // another access.
    let mut is_raised = true;
    for _ in 0..LOWERING {
        match card.stray_signal()? {
            Some(signal) if signal.line == raised.line => is_raised = signal.is_raised,
            Some(_) => {}
            None if is_raised => drop(card.read(IDENTIFICATION)?),
            None => break,
        }
    }
    card.rig.same("edu: the line is lowered and stays so", is_raised, false)
}
