//! A network interface, and whether packets pass.
//!
//! The network is asked for an address as any machine does that is plugged in (DHCP), so that
//! nobody else's is taken; the answer alone shows that packets pass both ways. The gateway is then
//! asked for echoes, and the address given back.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use host::Sysroot;

use super::dhcp::{CLIENT_PORT, Client, Kind, Lease, SERVER_PORT};
use super::netlink::Netlink;
use super::{echo, milliseconds, wait};
use crate::linux::plan::Plan;
use crate::linux::report::{Network, Talk};

/// How long an answer is waited for before the question is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// An interface that is up.
pub(super) struct Interface<'a> {
    host: &'a Sysroot,
    name: String,
    open: Option<(Netlink, u32)>,
    carrier: bool,
    talk: Talk,
}

impl<'a> Interface<'a> {
    /// Brings an interface up, waits for its link, and talks to its network if the plan says so.
    pub(super) fn up(host: &'a Sysroot, name: String, plan: &Plan, patience: Duration) -> Self {
        let mut interface = Self { host, name, open: None, carrier: false, talk: Talk::NotTried };
        if let Err(error) = interface.start(plan, patience) {
            interface.talk = Talk::Failed { reason: error.to_string() };
        }
        interface
    }

    fn start(&mut self, plan: &Plan, patience: Duration) -> io::Result<()> {
        let number = self.text("ifindex").and_then(|text| text.parse().ok());
        let number: u32 = number.ok_or(ErrorKind::NotFound)?;
        let (netlink, _) = self.open.insert((Netlink::open()?, number));
        netlink.set_up(number, true)?;
        // Reading it is an error until the interface is up.
        self.carrier = wait(patience, || self.text("carrier").as_deref() == Some("1"));
        if !self.carrier {
            self.talk = Talk::NoLink;
        } else if plan.network {
            let transaction = u32::from_str_radix(&plan.nonce.as_str()[..8], 16).unwrap_or(1);
            let mac = self.text("address").and_then(|text| mac(&text));
            let mac = mac.ok_or(ErrorKind::Unsupported)?;
            self.talk(Client { transaction, mac }, patience)?;
        }
        Ok(())
    }

    fn talk(&mut self, client: Client, patience: Duration) -> io::Result<()> {
        let Some((netlink, number)) = &mut self.open else { return Ok(()) };
        netlink.add_route(*number)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        socket.set_broadcast(true)?;
        let began = Instant::now();
        let Some(lease) = lease(&socket, client, began + patience)? else {
            self.talk = Talk::NoAddress { asked_ms: milliseconds(began.elapsed()) };
            return Ok(());
        };
        netlink.add_address(*number, lease.address, lease.prefix)?;
        let peer = lease.router.unwrap_or(lease.server);
        let answered = echo::ask(peer);
        // Should it get lost, the address comes free by itself some time.
        drop(socket.send_to(&client.release(&lease), (lease.server, SERVER_PORT)));
        netlink.delete_address(*number, lease.address, lease.prefix)?;
        self.talk = Talk::Address {
            address: lease.address.to_string(),
            server: lease.server.to_string(),
            peer: peer.to_string(),
            echoes_sent: echo::REQUESTS.into(),
            echoes_received: answered?,
        };
        Ok(())
    }

    /// Takes the interface down, and returns what came of it.
    pub(super) fn down(mut self) -> Network {
        let count = |name: &str| {
            let text = self.text(&format!("statistics/{name}"));
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let (sent, received) = (count("tx_packets"), count("rx_packets"));
        let mac = self.text("address").unwrap_or_default();
        if let Some((netlink, number)) = &mut self.open {
            // The guest ends soon; nothing hangs on it.
            let _ = netlink.set_up(*number, false);
        }
        let (carrier, talk) = (self.carrier, self.talk);
        Network { interface: self.name, mac, carrier, sent, received, talk }
    }

    fn text(&self, attribute: &str) -> Option<String> {
        self.host.text(format!("/sys/class/net/{}/{attribute}", self.name)).ok()
    }
}

/// Asks for an address until there is one or it is too late.
fn lease(socket: &UdpSocket, client: Client, deadline: Instant) -> io::Result<Option<Lease>> {
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    let mut offer: Option<Lease> = None;
    while Instant::now() < deadline {
        let question = match &offer {
            None => client.discover(),
            Some(offer) => client.request(offer),
        };
        socket.send_to(&question, everybody)?;
        match answer(socket, client, offer.is_some(), deadline.min(Instant::now() + RETRY))? {
            Some((Kind::Offer, lease)) => offer = Some(lease),
            Some((Kind::Accept, lease)) => return Ok(Some(lease)),
            Some(_) => offer = None,
            None => {}
        }
    }
    Ok(None)
}

/// Waits for the next answer that fits what was asked.
fn answer(
    socket: &UdpSocket,
    client: Client,
    offered: bool,
    deadline: Instant,
) -> io::Result<Option<(Kind, Lease)>> {
    let mut message = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut message) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        match client.answer(&message[..length]) {
            Some((Kind::Offer, _)) if offered => {}
            Some(answer) => return Ok(Some(answer)),
            None => {}
        }
    }
}

/// Reads a hardware address of Ethernet's kind.
fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(mac("52:54:00:12:34:56"), Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(mac("80:00:02:08:fe:80:00:00"), None);
        assert_eq!(mac(""), None);
    }
}
