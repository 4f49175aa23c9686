//! Echo requests and replies (ICMP, RFC 792).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

/// How many requests are sent, and how long each may take to be answered.
pub(super) const REQUESTS: u16 = 3;
const ANSWER: Duration = Duration::from_secs(3);

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
/// What marks our requests.
const IDENTIFIER: u16 = 0x6b69;
const DATA: [u8; 56] = [0x5a; 56];

/// Sends requests one after the other and returns how many were answered.
pub(super) fn ask(peer: Ipv4Addr) -> Result<u32, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMP),
    )?;
    let to = SocketAddrV4::new(peer, 0);
    let mut answered = 0;
    for sequence in 1..=REQUESTS {
        rustix::net::sendto(&socket, &request(sequence), SendFlags::empty(), &to)?;
        let deadline = Instant::now() + ANSWER;
        let mut packet = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
            match rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()) {
                Ok((length, _)) if is_reply(&packet[..length], peer, sequence) => {
                    answered += 1;
                    break;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(answered)
}

fn request(sequence: u16) -> Vec<u8> {
    let mut message = vec![REQUEST, 0, 0, 0];
    message.extend(IDENTIFIER.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(DATA);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Whether an IP packet is the answer to our request, data and all.
fn is_reply(packet: &[u8], peer: Ipv4Addr, sequence: u16) -> bool {
    let message = || {
        let length = usize::from(packet.first()? & 0x0f) * 4;
        let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        (Ipv4Addr::from(from) == peer).then(|| packet.get(length..))?
    };
    let Some(message) = message() else { return false };
    message.first() == Some(&REPLY)
        && message.get(4..6) == Some(&IDENTIFIER.to_be_bytes())
        && message.get(6..8) == Some(&sequence.to_be_bytes())
        && message.get(8..) == Some(&DATA)
        && checksum(message) == 0
}

/// The checksum of the Internet protocols (RFC 1071); zero over a message that has its own.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        rest => u16::from_be_bytes([rest[0], 0]),
    });
    let sum = words.fold(0_u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut message = request(2);
        message[0] = REPLY;
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45; 1];
        packet.resize(12, 0);
        packet.extend([10, 0, 2, 2, 10, 0, 2, 15]);
        [packet, message].concat()
    }

    #[test]
    fn only_the_answer_to_the_request_counts() {
        let peer = Ipv4Addr::new(10, 0, 2, 2);
        assert!(is_reply(&packet(), peer, 2));
        assert!(!is_reply(&packet(), peer, 1));
        assert!(!is_reply(&packet(), Ipv4Addr::new(10, 0, 2, 3), 2));
        for at in [20, 23, 24, 26, 30, 83] {
            let mut changed = packet();
            changed[at] ^= 1;
            assert!(!is_reply(&changed, peer, 2), "{at}");
        }
        for end in 0..packet().len() {
            assert!(!is_reply(&packet()[..end], peer, 2), "{end}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of RFC 1071, 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&request(1)), 0);
        assert_eq!(checksum(&[0x01]), !0x0100);
    }
}
