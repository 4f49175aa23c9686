//! A card in the machine, and what is done with any card.

use std::thread::sleep;
use std::time::{Duration, Instant};

use vfio::Width;

use super::super::{Outcome, Rig};
use super::client::{Qtest, Signal};
use super::function::{Function, MessageTarget};

/// Memory for the buffers of checks. The machine does not use it, and it is in reach of a card
/// with 28 address lines.
pub(super) const MEMORY: u64 = 0x10_0000;
pub(super) const PAGE: u64 = 0x1000;
/// Where the messages of interrupts are sent.
const MESSAGES: u64 = 0x20_0000;
/// How long a card may take for anything; the rig is slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long something that must not happen is waited for.
const SILENCE: Duration = Duration::from_millis(200);

pub(super) struct Card<'a> {
    pub(super) rig: &'a Rig<'a>,
    pub(super) qtest: &'a mut Qtest,
    pub(super) function: &'a Function,
    /// Where its registers are: its first BAR.
    registers: u64,
}

impl<'a> Card<'a> {
    pub(super) fn new(
        rig: &'a Rig<'a>,
        qtest: &'a mut Qtest,
        function: &'a Function,
    ) -> Result<Self, String> {
        let registers = function.bar(0)?;
        function.enable(qtest)?;
        Ok(Self { rig, qtest, function, registers })
    }

    /// Reads a register of 32 bits.
    pub(super) fn read(&mut self, register: u64) -> Result<u64, String> {
        self.qtest.read(self.registers + register, Width::Double)
    }

    /// Writes a register of 32 bits.
    pub(super) fn write(&mut self, register: u64, value: u64) -> Outcome {
        self.qtest.write(self.registers + register, Width::Double, value)
    }

    /// Reads a register of 64 bits.
    pub(super) fn read_wide(&mut self, register: u64) -> Result<u64, String> {
        self.qtest.read(self.registers + register, Width::Quad)
    }

    /// Writes a register of 64 bits.
    pub(super) fn write_wide(&mut self, register: u64, value: u64) -> Outcome {
        self.qtest.write(self.registers + register, Width::Quad, value)
    }

    /// Waits until the bits `mask` of a register are `value`, and returns the register.
    pub(super) fn until(&mut self, register: u64, mask: u64, value: u64) -> Result<u64, String> {
        self.until_memory(self.registers + register, mask, value)
    }

    /// Waits until the bits `mask` of a double word are `value`, and returns it.
    pub(super) fn until_memory(
        &mut self,
        address: u64,
        mask: u64,
        value: u64,
    ) -> Result<u64, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.qtest.read(address, Width::Double)?;
            if now & mask == value {
                return Ok(now);
            }
            if Instant::now() > deadline {
                let wanted = format!("{value:#x} in {mask:#x}");
                return Err(format!("{address:#x} stays {now:#x}, wanted {wanted}"));
            }
        }
    }

    /// A place for the messages of an interrupt vector, with data that tells it from others.
    pub(super) fn message(&mut self, vector: u16) -> Result<MessageTarget, String> {
        let address = MESSAGES + 4 * u64::from(vector);
        self.qtest.write(address, Width::Double, 0)?;
        Ok(MessageTarget { address, data: 0x4b00 + vector })
    }

    /// Checks that a message comes, and takes it away.
    pub(super) fn expect_message(&mut self, what: &str, target: MessageTarget) -> Outcome {
        let expected = u64::from(target.data);
        self.until_memory(target.address, !0, expected)
            .map_err(|error| format!("{what}: {error}"))?;
        self.rig.ok(what);
        self.qtest.write(target.address, Width::Double, 0)
    }

    /// Takes away what was on its way already.
    pub(super) fn forget_messages(&mut self, target: MessageTarget) -> Outcome {
        sleep(SILENCE);
        self.qtest.write(target.address, Width::Double, 0)
    }

    /// Checks that no message comes.
    pub(super) fn expect_silence(&mut self, what: &str, target: MessageTarget) -> Outcome {
        sleep(SILENCE);
        self.rig.same(what, self.qtest.read(target.address, Width::Double)?, 0)
    }

    /// Waits for a change of an interrupt line.
    pub(super) fn signal(&mut self) -> Result<Option<Signal>, String> {
        self.qtest.signal(PATIENCE)
    }

    /// Returns a change of an interrupt line that came already or comes shortly.
    pub(super) fn stray_signal(&mut self) -> Result<Option<Signal>, String> {
        self.qtest.signal(SILENCE)
    }
}
