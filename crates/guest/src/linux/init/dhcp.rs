//! The messages by which an address is asked for and given back (RFC 2131, RFC 2132).

use std::net::Ipv4Addr;

/// The ports of servers and clients.
pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// Answer to everybody: a client without an address may not hear what is sent to one.
const BROADCAST: u16 = 0x8000;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin, and the length that every implementation takes (RFC 1542, 2.1).
const OPTIONS: usize = 240;
const LEAST: usize = 300;

// Options (RFC 2132).
const PAD: u8 = 0;
const NETMASK: u8 = 1;
const ROUTER: u8 = 3;
const REQUESTED: u8 = 50;
const TYPE: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
const END: u8 = 255;

/// What a message is for (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Accept = 5,
    Refuse = 6,
    Release = 7,
}

/// One conversation: its number, and our hardware address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) transaction: u32,
    pub(super) mac: [u8; 6],
}

/// What a server offers or grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) server: Ipv4Addr,
    pub(super) router: Option<Ipv4Addr>,
}

impl Client {
    /// Asks whether there is a server.
    pub(super) fn discover(&self) -> Vec<u8> {
        self.message(Kind::Discover, Ipv4Addr::UNSPECIFIED, &[])
    }

    /// Asks for what was offered.
    pub(super) fn request(&self, offer: &Lease) -> Vec<u8> {
        let options = [(REQUESTED, offer.address), (SERVER, offer.server)];
        self.message(Kind::Request, Ipv4Addr::UNSPECIFIED, &options)
    }

    /// Gives an address back.
    pub(super) fn release(&self, lease: &Lease) -> Vec<u8> {
        self.message(Kind::Release, lease.address, &[(SERVER, lease.server)])
    }

    fn message(&self, kind: Kind, own: Ipv4Addr, options: &[(u8, Ipv4Addr)]) -> Vec<u8> {
        let mut message = vec![REQUEST, ETHERNET, 6, 0];
        message.extend(self.transaction.to_be_bytes());
        message.extend([0; 2]);
        message.extend(BROADCAST.to_be_bytes());
        message.extend(own.octets());
        message.resize(28, 0);
        message.extend(self.mac);
        message.resize(OPTIONS - COOKIE.len(), 0);
        message.extend(COOKIE);
        message.extend([TYPE, 1, kind as u8]);
        for (option, address) in options {
            message.extend([*option, 4]);
            message.extend(address.octets());
        }
        message.extend([PARAMETERS, 2, NETMASK, ROUTER, END]);
        message.resize(message.len().max(LEAST), PAD);
        message
    }

    /// Reads a message that may be a server's answer to us.
    pub(super) fn answer(&self, message: &[u8]) -> Option<(Kind, Lease)> {
        let is_ours = *message.first()? == REPLY
            && message.get(4..8)? == self.transaction.to_be_bytes()
            && message.get(28..34)? == self.mac
            && message.get(OPTIONS - COOKIE.len()..OPTIONS)? == COOKIE;
        if !is_ours {
            return None;
        }
        let option = |wanted| find(message.get(OPTIONS..)?, wanted);
        let address = |wanted| quad(option(wanted)?.get(..4)?);
        let kind = match *option(TYPE)?.first()? {
            2 => Kind::Offer,
            5 => Kind::Accept,
            6 => Kind::Refuse,
            _ => return None,
        };
        let mask = address(NETMASK).map_or(u32::MAX << 8, u32::from);
        let lease = Lease {
            address: quad(message.get(16..20)?)?,
            prefix: u8::try_from(mask.leading_ones()).unwrap_or(32),
            server: address(SERVER)?,
            router: address(ROUTER).filter(|router| !router.is_unspecified()),
        };
        Some((kind, lease))
    }
}

fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let (code, rest) = options.split_first()?;
        if matches!(*code, PAD) {
            options = rest;
            continue;
        }
        if *code == END {
            return None;
        }
        let (length, rest) = rest.split_first()?;
        let value = rest.get(..usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        options = &rest[value.len()..];
    }
}

fn quad(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: Client = Client { transaction: 0x1234_5678, mac: [0x52, 0x54, 0, 1, 2, 3] };

    fn reply(kind: u8) -> Vec<u8> {
        let mut message = CLIENT.discover();
        message[0] = REPLY;
        message[16..20].copy_from_slice(&[10, 0, 2, 15]);
        message.truncate(OPTIONS);
        message.extend([PAD, TYPE, 1, kind, SERVER, 4, 10, 0, 2, 2]);
        message.extend([NETMASK, 4, 255, 255, 255, 0, ROUTER, 4, 10, 0, 2, 2, END]);
        message
    }

    #[test]
    fn an_offer_is_read() {
        let gateway = Ipv4Addr::new(10, 0, 2, 2);
        let lease = Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            server: gateway,
            router: Some(gateway),
        };
        assert_eq!(CLIENT.answer(&reply(2)), Some((Kind::Offer, lease)));
        assert_eq!(CLIENT.answer(&reply(5)), Some((Kind::Accept, lease)));
        assert_eq!(CLIENT.answer(&reply(6)), Some((Kind::Refuse, lease)));
        assert_eq!(CLIENT.answer(&reply(1)), None);
        let other = Client { transaction: 1, ..CLIENT };
        assert_eq!(other.answer(&reply(2)), None);
        let other = Client { mac: [0; 6], ..CLIENT };
        assert_eq!(other.answer(&reply(2)), None);
        assert_eq!(CLIENT.answer(&CLIENT.discover()), None);
    }

    #[test]
    fn messages_have_the_layout_of_the_standard() {
        let (_, offer) = CLIENT.answer(&reply(2)).unwrap();
        let request = CLIENT.request(&offer);
        assert_eq!(request.len(), LEAST);
        assert_eq!(request[236..243], [99, 130, 83, 99, 53, 1, 3]);
        assert_eq!(find(&request[OPTIONS..], REQUESTED), Some(&[10, 0, 2, 15][..]));
        assert_eq!(find(&request[OPTIONS..], SERVER), Some(&[10, 0, 2, 2][..]));
        assert_eq!(CLIENT.release(&offer)[12..16], [10, 0, 2, 15]);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in any::<Vec<u8>>(), cut in 0_usize..300) {
            let _ = CLIENT.answer(&bytes);
            let mut message = reply(2);
            message.truncate(cut);
            message.extend(bytes);
            let _ = CLIENT.answer(&message);
        }
    }
}
