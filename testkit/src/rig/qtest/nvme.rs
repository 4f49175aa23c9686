//! An NVMe controller in an inner machine (NVM Express Base Specification 2.0 and NVM Command Set
//! Specification 1.0).

use std::fs::File;
use std::os::unix::fs::FileExt;

use pci::{Address, Function, Ids};
use vfio::Width;

use super::super::{Outcome, Rig, said};
use super::card::{Card, MEMORY, PAGE};

pub(super) const IDS: Ids = Ids { vendor: 0x1b36, device: 0x0010 };

/// Controller properties (base specification, 3.1.3).
const CAPABILITIES: u64 = 0x00;
const VERSION: u64 = 0x08;
const CONFIGURATION: u64 = 0x14;
/// Enabled, the NVM command set, pages of 4 KiB, submission entries of 64 and completion entries
/// of 16 bytes.
const CONFIGURATION_CHOICE: u64 = 1 | 6 << 16 | 4 << 20;
const STATUS: u64 = 0x1c;
const STATUS_READY: u64 = 1;
const ADMIN_ATTRIBUTES: u64 = 0x24;
const ADMIN_SUBMISSION: u64 = 0x28;
const ADMIN_COMPLETION: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;

/// Opcodes (base specification, 5; NVM command set, 3.2).
const CREATE_SUBMISSION: u64 = 0x01;
const CREATE_COMPLETION: u64 = 0x05;
const IDENTIFY: u64 = 0x06;
const IDENTIFY_CONTROLLER: u64 = 1;
const WRITE: u64 = 0x01;
const READ: u64 = 0x02;

/// Entries in each queue; each command waits for the last one.
const ENTRIES: u64 = 16;
const SUBMISSION_ENTRY: u64 = 64;
const COMPLETION_ENTRY: u64 = 16;
const SECTOR: u64 = 512;
const SECTOR_SIZE: usize = 512;
/// The interrupt vector of the queue for data.
const VECTOR: u16 = 1;

/// The sector that is read, and the one that is written.
const READ_SECTOR: u64 = 5;
const WRITTEN_SECTOR: u64 = 9;
const WRITTEN: &[u8] = b"written in an inner machine\n";

/// What the host's own driver says of the disk.
pub(super) struct Seen {
    pub(super) model: String,
    pub(super) serial: String,
    /// The content of the sector that is read.
    pub(super) sector: Vec<u8>,
}

/// The disk of a controller that is on the host's own driver: its directory in sysfs, and the
/// namespace's name.
fn disk(rig: &Rig<'_>, address: Address) -> Result<(String, String), String> {
    let path = format!("{}/nvme", Function::path(address));
    let names = rig.host.names(&path).map_err(said)?;
    let controller = names.first().ok_or("the card has no controller")?;
    Ok((format!("{path}/{controller}"), format!("/dev/{controller}n1")))
}

fn sector(device: &str, number: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; SECTOR_SIZE];
    let file = File::open(device).map_err(|error| format!("{device}: {error}"))?;
    file.read_exact_at(&mut bytes, number * SECTOR).map_err(said)?;
    Ok(bytes)
}

impl Seen {
    pub(super) fn look(rig: &Rig<'_>, address: Address) -> Result<Self, String> {
        let (path, device) = disk(rig, address)?;
        let text = |name| rig.host.text(format!("{path}/{name}")).map_err(said);
        let trimmed = |text: String| text.trim_end().to_owned();
        let sector = sector(&device, READ_SECTOR)?;
        rig.holds("the disk has its pattern", sector.starts_with(b"kireji sector 5\n"))?;
        Ok(Self { model: trimmed(text("model")?), serial: trimmed(text("serial")?), sector })
    }
}

/// Checks that what was written in the machine is there for the host's own driver.
pub(super) fn check_on_host(rig: &Rig<'_>, address: Address) -> Outcome {
    // The driver looks for namespaces after it has bound.
    rig.settles("nvme: the host has its disk again", || {
        Ok(disk(rig, address).is_ok_and(|(_, device)| rig.host.exists(device)))
    })?;
    let (_, device) = disk(rig, address)?;
    let found = sector(&device, WRITTEN_SECTOR)?;
    rig.same("nvme: the host reads what was written", &found[..WRITTEN.len()], WRITTEN)
}

pub(super) fn check(card: &mut Card<'_>, seen: &Seen) -> Outcome {
    let version = card.read(VERSION)?;
    card.rig.holds("nvme: version 1.0 or later", version >= 0x0001_0000)?;
    let capabilities = card.read_wide(CAPABILITIES)?;
    let stride = 4 << (capabilities >> 32 & 0xf);
    card.write(CONFIGURATION, 0)?;
    card.until(STATUS, STATUS_READY, 0)?;
    let mut admin = Queue::new(card, 0, stride, MEMORY)?;
    card.write(ADMIN_ATTRIBUTES, (ENTRIES - 1) << 16 | (ENTRIES - 1))?;
    card.write_wide(ADMIN_SUBMISSION, admin.submission)?;
    card.write_wide(ADMIN_COMPLETION, admin.completion)?;
    card.write(CONFIGURATION, CONFIGURATION_CHOICE)?;
    card.until(STATUS, STATUS_READY, STATUS_READY)?;
    card.rig.ok("nvme: the controller is ready");
    identify(card, &mut admin, seen)?;

    let mut data = Queue::new(card, 1, stride, MEMORY + 2 * PAGE)?;
    let message = card.message(VECTOR)?;
    card.function.msix(card.qtest, VECTOR, message)?;
    let size_and_number = (ENTRIES - 1) << 16 | 1;
    // In one piece, with interrupts.
    let flags = u64::from(VECTOR) << 16 | 0b11;
    admin.run(card, [CREATE_COMPLETION, 0, data.completion, size_and_number, flags, 0])?;
    let flags = 1 << 16 | 1;
    admin.run(card, [CREATE_SUBMISSION, 0, data.submission, size_and_number, flags, 0])?;
    card.rig.ok("nvme: a pair of queues for data");

    let buffer = MEMORY + 4 * PAGE;
    card.qtest.clear(buffer, SECTOR_SIZE)?;
    data.run(card, [READ, 1, buffer, READ_SECTOR, 0, 0])?;
    card.expect_message("nvme: MSI-X tells of the end", message)?;
    let read = card.qtest.read_bytes(buffer, SECTOR_SIZE)?;
    card.rig.same("nvme: a sector is read as the host reads it", &read, &seen.sector)?;

    card.qtest.clear(buffer, SECTOR_SIZE)?;
    card.qtest.write_bytes(buffer, WRITTEN)?;
    data.run(card, [WRITE, 1, buffer, WRITTEN_SECTOR, 0, 0])?;
    card.qtest.clear(buffer, SECTOR_SIZE)?;
    data.run(card, [READ, 1, buffer, WRITTEN_SECTOR, 0, 0])?;
    let read = card.qtest.read_bytes(buffer, WRITTEN.len())?;
    card.rig.same("nvme: a sector is written and read back", read.as_slice(), WRITTEN)?;
    card.write(CONFIGURATION, 0)?;
    card.until(STATUS, STATUS_READY, 0).map(drop)
}

fn identify(card: &mut Card<'_>, admin: &mut Queue, seen: &Seen) -> Outcome {
    let buffer = MEMORY + 4 * PAGE;
    card.qtest.clear(buffer, 4096)?;
    admin.run(card, [IDENTIFY, 0, buffer, IDENTIFY_CONTROLLER, 0, 0])?;
    let controller = card.qtest.read_bytes(buffer, 64)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    card.rig.same("nvme: serial number", text(&controller[4..24]), seen.serial.clone())?;
    card.rig.same("nvme: model", text(&controller[24..64]), seen.model.clone())
}

/// A submission queue and its completion queue.
struct Queue {
    submission: u64,
    completion: u64,
    submission_doorbell: u64,
    completion_doorbell: u64,
    /// Commands so far.
    count: u64,
}

impl Queue {
    /// Makes the queues of this number in two pages of memory.
    fn new(card: &mut Card<'_>, number: u64, stride: u64, memory: u64) -> Result<Self, String> {
        card.qtest.clear(memory, 2 * 4096)?;
        Ok(Self {
            submission: memory,
            completion: memory + PAGE,
            submission_doorbell: DOORBELLS + 2 * number * stride,
            completion_doorbell: DOORBELLS + (2 * number + 1) * stride,
            count: 0,
        })
    }

    /// Runs a command: opcode, namespace, first page of data, and command double words 10 to 12.
    fn run(&mut self, card: &mut Card<'_>, command: [u64; 6]) -> Outcome {
        let [opcode, namespace, data, dw10, dw11, dw12] = command;
        let index = self.count % ENTRIES;
        let entry = self.submission + index * SUBMISSION_ENTRY;
        card.qtest.clear(entry, 64)?;
        for (offset, value) in
            [(0, opcode | self.count << 16), (4, namespace), (40, dw10), (44, dw11), (48, dw12)]
        {
            card.qtest.write(entry + offset, Width::Double, value)?;
        }
        card.qtest.write(entry + 24, Width::Quad, data)?;
        card.write(self.submission_doorbell, (index + 1) % ENTRIES)?;

        // The phase bit of a new entry is one in the first round, then zero, and so on.
        let phase = 1 - self.count / ENTRIES % 2;
        let completion = self.completion + index * COMPLETION_ENTRY;
        let status = card.until_memory(completion + 12, 1 << 16, phase << 16)?;
        self.count += 1;
        card.write(self.completion_doorbell, self.count % ENTRIES)?;
        if status >> 17 != 0 {
            return Err(format!("nvme: command {opcode:#x} ended with {:#x}", status >> 17));
        }
        Ok(())
    }
}
