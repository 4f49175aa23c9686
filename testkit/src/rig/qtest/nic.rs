//! An e1000e in an inner machine (Intel 82574 datasheet, chapters 7 and 10).

use pci::{Address, Function, Ids};

use super::super::{Outcome, Rig, said};
use super::card::{Card, MEMORY, PAGE};

pub(super) const IDS: Ids = Ids { vendor: 0x8086, device: 0x10d3 };

const STATUS: u64 = 0x0008;
const STATUS_LINK_UP: u64 = 1 << 1;
const MDIC: u64 = 0x0020;
const MDIC_READ: u64 = 2 << 26;
const MDIC_PHY: u64 = 1 << 21;
const MDIC_READY: u64 = 1 << 28;
const MDIC_DATA: u64 = 0xffff;
const PHY_STATUS: u64 = 1;
const PHY_STATUS_LINK: u64 = 1 << 2;
const PHY_ID: u64 = 2;
/// The upper half of the identifier of Marvell's PHYs, which the 82574's is.
const PHY_ID_MARVELL: u64 = 0x0141;
const CAUSE: u64 = 0x00c0;
const CAUSE_SET: u64 = 0x00c8;
const MASK_SET: u64 = 0x00d0;
const MASK_CLEAR: u64 = 0x00d8;
const CAUSE_RECEIVED: u64 = 1 << 20;
const CAUSE_OTHER: u64 = 1 << 24;
const VECTORS: u64 = 0x00e4;
/// Receive queue 0 has vector 0, other causes have vector 2, and both are valid.
const VECTOR_RECEIVED: u16 = 0;
const VECTOR_OTHER: u16 = 2;
const VECTORS_CHOICE: u64 = 1 << 3 | 2 << 16 | 1 << 19;
const RECEIVE_CONTROL: u64 = 0x0100;
const TRANSMIT_CONTROL: u64 = 0x0400;
const CONTROL_ENABLE: u64 = 1 << 1;
/// The registers of queue 0: base, length, head and tail of its ring.
const RECEIVE_RING: u64 = 0x2800;
const TRANSMIT_RING: u64 = 0x3800;
const RING_LENGTH: u64 = 0x08;
const RING_HEAD: u64 = 0x10;
const RING_TAIL: u64 = 0x18;
const MAC_LOW: u64 = 0x5400;
const MAC_HIGH: u64 = 0x5404;

const DESCRIPTOR: u64 = 16;
/// The smallest ring, in descriptors.
const RING: u64 = 8;
const TRANSMIT_END_OF_PACKET: u64 = 1 << 24;
const TRANSMIT_ADD_CHECKSUM: u64 = 1 << 25;
const TRANSMIT_REPORT: u64 = 1 << 27;
/// The first bit of a descriptor's status: the card is done with it.
const DONE: u64 = 1 << 32;

/// The address of the gateway that the rig's network has, and that of a guest there
/// (`-netdev user` of QEMU).
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
const GUEST: [u8; 4] = [10, 0, 2, 15];

/// What the host's own driver says of the card.
pub(super) struct Seen {
    pub(super) mac: [u8; 6],
}

impl Seen {
    pub(super) fn look(rig: &Rig<'_>, address: Address) -> Result<Self, String> {
        let net = format!("{}/net", Function::path(address));
        let names = rig.host.names(&net).map_err(said)?;
        let name = names.first().ok_or("the card has no network interface")?;
        let text = rig.host.text(format!("{net}/{name}/address")).map_err(said)?;
        let bytes = text.split(':').map(|digits| u8::from_str_radix(digits, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(said)?;
        let mac = bytes.try_into().map_err(|_| format!("{text:?} is no hardware address"))?;
        Ok(Self { mac })
    }
}

pub(super) fn check(card: &mut Card<'_>, seen: &Seen) -> Outcome {
    let (low, high) = (card.read(MAC_LOW)?, card.read(MAC_HIGH)?);
    let mac = [&low.to_le_bytes()[..4], &high.to_le_bytes()[..2]].concat();
    card.rig.same("e1000e: hardware address", mac.as_slice(), &seen.mac)?;
    let id = phy(card, PHY_ID)?;
    card.rig.same("e1000e: the PHY's identifier", id, PHY_ID_MARVELL)?;
    card.until(STATUS, STATUS_LINK_UP, STATUS_LINK_UP)?;
    let status = phy(card, PHY_STATUS)?;
    card.rig.holds("e1000e: MAC and PHY see a link", status & PHY_STATUS_LINK != 0)?;
    interrupt(card)?;
    network(card, seen.mac)
}

fn phy(card: &mut Card<'_>, register: u64) -> Result<u64, String> {
    card.write(MDIC, MDIC_READ | MDIC_PHY | register << 16)?;
    Ok(card.until(MDIC, MDIC_READY, MDIC_READY)? & MDIC_DATA)
}

fn interrupt(card: &mut Card<'_>) -> Outcome {
    let target = card.message(VECTOR_OTHER)?;
    card.function.msix(card.qtest, VECTOR_OTHER, target)?;
    card.write(VECTORS, VECTORS_CHOICE)?;
    card.write(MASK_SET, CAUSE_OTHER)?;
    card.write(CAUSE_SET, CAUSE_OTHER)?;
    card.expect_message("e1000e: MSI-X arrives", target)?;
    card.write(MASK_CLEAR, CAUSE_OTHER)?;
    // The link may have changed meanwhile, which is told by the same vector.
    card.forget_messages(target)?;
    card.write(CAUSE_SET, CAUSE_OTHER)?;
    card.expect_silence("e1000e: masked, it is silent", target)?;
    // The register is cleared by writing ones.
    card.write(CAUSE, CAUSE_OTHER)
}

/// Asks the gateway for its hardware address and gets an answer (ARP, RFC 826): packets cross
/// both levels, by DMA in both directions, and an interrupt tells it.
fn network(card: &mut Card<'_>, mac: [u8; 6]) -> Outcome {
    let (transmit, receive) = (MEMORY, MEMORY + PAGE);
    let (question, answer) = (MEMORY + 2 * PAGE, MEMORY + 3 * PAGE);
    let target = card.message(VECTOR_RECEIVED)?;
    card.function.msix(card.qtest, VECTOR_RECEIVED, target)?;
    card.write(MASK_SET, CAUSE_RECEIVED)?;

    ring(card, RECEIVE_RING, receive)?;
    for index in 0..RING {
        let descriptor = receive + index * DESCRIPTOR;
        card.qtest.write(descriptor, vfio::Width::Quad, answer + index * PAGE)?;
    }
    card.write(RECEIVE_RING + RING_TAIL, RING - 1)?;
    card.write(RECEIVE_CONTROL, CONTROL_ENABLE)?;

    let packet = arp_request(mac);
    card.qtest.write_bytes(question, &packet)?;
    ring(card, TRANSMIT_RING, transmit)?;
    card.qtest.write(transmit, vfio::Width::Quad, question)?;
    let length = u64::try_from(packet.len()).map_err(said)?;
    let command = TRANSMIT_END_OF_PACKET | TRANSMIT_ADD_CHECKSUM | TRANSMIT_REPORT;
    card.qtest.write(transmit + 8, vfio::Width::Quad, command | length)?;
    card.write(TRANSMIT_CONTROL, CONTROL_ENABLE)?;
    card.write(TRANSMIT_RING + RING_TAIL, 1)?;

    card.expect_message("e1000e: an interrupt tells of a packet", target)?;
    let sent = card.qtest.read(transmit + 8, vfio::Width::Quad)?;
    card.rig.holds("e1000e: the question is sent", sent & DONE != 0)?;
    let received = card.qtest.read(receive + 8, vfio::Width::Quad)?;
    card.rig.holds("e1000e: a packet is received", received & DONE != 0)?;
    let packet = card.qtest.read_bytes(answer, 42)?;
    card.write(RECEIVE_CONTROL, 0)?;
    card.rig.same("e1000e: the gateway answers to us", &packet[..6], &mac[..])?;
    card.rig.same(
        "e1000e: it is an ARP reply",
        &packet[12..22],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
    )?;
    card.rig.same("e1000e: it is the gateway's", &packet[28..32], &GATEWAY[..])
}

fn ring(card: &mut Card<'_>, registers: u64, memory: u64) -> Outcome {
    card.qtest.clear(memory, 4096)?;
    card.write(registers, memory)?;
    card.write(registers + 4, 0)?;
    card.write(registers + RING_LENGTH, RING * DESCRIPTOR)?;
    card.write(registers + RING_HEAD, 0)?;
    card.write(registers + RING_TAIL, 0)
}

fn arp_request(mac: [u8; 6]) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend(mac);
    // ARP, for Ethernet and IPv4, a question.
    packet.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    packet.extend(mac);
    packet.extend(GUEST);
    packet.extend([0; 6]);
    packet.extend(GATEWAY);
    packet.resize(60, 0);
    packet
}
