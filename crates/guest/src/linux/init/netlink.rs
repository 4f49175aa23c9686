//! Interfaces, addresses and routes, by messages to the kernel (rtnetlink(7)).

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

// Numbers of linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h and linux/if.h.
const ERROR: u16 = 2;
const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
const CREATE_OR_REPLACE: u16 = 0x400 | 0x100;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const INET: u8 = 2;
const UP: u32 = 0x1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const OUTPUT: u16 = 4;
const MAIN_TABLE: u8 = 254;
const STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;

const HEADER: usize = 16;

/// How long the kernel may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A socket to the kernel's network configuration.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, Errno> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings an interface up or down.
    pub(super) fn set_up(&mut self, interface: u32, up: bool) -> Result<(), Errno> {
        let mut body = vec![0; 4];
        body.extend(interface.to_ne_bytes());
        body.extend((if up { UP } else { 0 }).to_ne_bytes());
        body.extend(UP.to_ne_bytes());
        self.ask(NEW_LINK, 0, &body)
    }

    /// Gives an interface an address.
    pub(super) fn add_address(
        &mut self,
        interface: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), Errno> {
        self.ask(NEW_ADDRESS, CREATE_OR_REPLACE, &address_body(interface, address, prefix))
    }

    /// Takes an interface's address away.
    pub(super) fn delete_address(
        &mut self,
        interface: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), Errno> {
        self.ask(DELETE_ADDRESS, 0, &address_body(interface, address, prefix))
    }

    /// Makes an interface the way to everywhere, without a gateway: how one without an address can
    /// broadcast. The kernel forgets it when the interface goes down.
    pub(super) fn add_route(&mut self, interface: u32) -> Result<(), Errno> {
        let mut body = vec![INET, 0, 0, 0, MAIN_TABLE, STATIC, SCOPE_LINK, UNICAST, 0, 0, 0, 0];
        attribute(&mut body, OUTPUT, interface.to_ne_bytes());
        self.ask(NEW_ROUTE, CREATE_OR_REPLACE, &body)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = message(kind, REQUEST_AND_ACK | flags, self.sequence, body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0; 8 << 10];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            if let Some(result) = acknowledgement(&answer[..length], self.sequence) {
                return result;
            }
        }
    }
}

fn address_body(interface: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![INET, prefix, 0, 0];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, LOCAL, address.octets());
    attribute(&mut body, ADDRESS, address.octets());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    const LENGTH: u16 = 8;
    body.extend(LENGTH.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    // Bodies are made above and hold a few dozen bytes.
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// The kernel's answer to a message, if this is it: an error number, zero for none.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<Result<(), Errno>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let of = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
    if kind != ERROR || of != sequence {
        return None;
    }
    let code = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    Some(match code {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code.wrapping_neg())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_for_its_question_only() {
        let answer = |code: i32, sequence| message(ERROR, 0, sequence, &code.to_ne_bytes());
        assert_eq!(acknowledgement(&answer(0, 7), 7), Some(Ok(())));
        assert_eq!(acknowledgement(&answer(-17, 7), 7), Some(Err(Errno::EXIST)));
        assert_eq!(acknowledgement(&answer(0, 6), 7), None);
        for end in 0..HEADER + 4 {
            assert_eq!(acknowledgement(&answer(0, 7)[..end], 7), None);
        }
    }

    #[test]
    fn messages_have_the_kernels_layout() {
        let body = address_body(2, Ipv4Addr::new(10, 0, 2, 15), 24);
        let message = message(NEW_ADDRESS, REQUEST_AND_ACK, 1, &body);
        assert_eq!(message.len(), 16 + 8 + 8 + 8);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[16..24], [2, 24, 0, 0, 2, 0, 0, 0]);
        assert_eq!(message[24..32], [8, 0, 2, 0, 10, 0, 2, 15]);
    }

    // As an ordinary user the kernel understands and refuses; a malformed message is EINVAL.
    #[test]
    fn the_kernel_understands_the_messages() {
        let mut netlink = Netlink::open().unwrap();
        let none = u32::from(u16::MAX) << 8;
        let nowhere = Ipv4Addr::new(192, 0, 2, 1);
        for result in [
            netlink.set_up(none, true),
            netlink.add_address(none, nowhere, 32),
            netlink.delete_address(none, nowhere, 32),
            netlink.add_route(none),
        ] {
            let errno = result.unwrap_err();
            assert!([Errno::PERM, Errno::NODEV, Errno::ADDRNOTAVAIL].contains(&errno), "{errno}");
        }
    }
}
