//! Network interfaces: which are up, and what depends on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::host::{ReadError, Sysroot};
use serde::Serialize;

use super::device::functions_on;
use super::mounts::Mount;
use crate::Address;

const INTERFACES: &str = "/sys/class/net";
/// Interface flag (include/uapi/linux/if.h).
const IFF_UP: u32 = 1;
/// Route flags (include/uapi/linux/route.h, ipv6_route.h).
const RTF_UP: u32 = 1;
const RTF_REJECT: u32 = 0x200;

/// A network interface that hangs on a PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The PCI functions that it needs, the nearest first.
    pub functions: Vec<Address>,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether it has a link; `None` while it is down.
    pub has_carrier: Option<bool>,
    /// What else it serves: bridges, bonds, VLANs and whatever is built on these, each with the
    /// way to it, the interface itself first.
    pub above: Vec<Vec<String>>,
    /// What depends on it.
    pub uses: Vec<NetworkUse>,
}

/// Something that depends on a network interface, with the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkUse {
    /// The interfaces on the way, the card's own first.
    pub way: Vec<String>,
    /// What depends on the last of them.
    pub purpose: NetworkPurpose,
}

/// What a network interface is used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum NetworkPurpose {
    /// A default route leads out of it.
    DefaultRoute,
    /// A default route of another table than the main one leads out somewhere. Of those of IPv4
    /// the kernel shows to files that they are there, and not where they lead.
    OtherDefaultRoute {
        /// Which table, or why the tables could not be read.
        of: String,
    },
    /// The session that kireji was started from comes in by it.
    Session {
        /// The host's own address in that session.
        address: String,
    },
    /// A file system or disk of the host is reached by it.
    Storage {
        /// Where it is mounted, or what it is.
        what: String,
        /// The server.
        server: String,
    },
}

/// The network of a host, as far as PCI functions carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// The interfaces that hang on PCI functions, by name.
    pub interfaces: Vec<Interface>,
    /// Uses whose interface cannot be told.
    pub unplaced: Vec<NetworkPurpose>,
}

impl Network {
    /// Reads the interfaces, and what depends on them.
    ///
    /// `session` is the host's own address in the remote session that kireji was started from.
    ///
    /// # Errors
    /// Sysfs or the tables of routes cannot be read.
    pub fn read(
        host: &Sysroot,
        mounts: &[Mount],
        session: Option<&str>,
    ) -> Result<Self, ReadError> {
        let routes = Routes::read(host)?;
        let mut uses: Vec<(BTreeSet<String>, NetworkPurpose)> =
            vec![(routes.default_interfaces(), NetworkPurpose::DefaultRoute)];
        if let Some(address) = session {
            let purpose = NetworkPurpose::Session { address: address.to_owned() };
            uses.push((routes.interfaces_with(address), purpose));
        }
        let others = other_default_routes(host).into_iter();
        uses.extend(others.map(|of| (BTreeSet::new(), NetworkPurpose::OtherDefaultRoute { of })));
        for (what, server) in remote_storage(host, mounts)? {
            let interfaces = routes.interfaces_to(&server);
            uses.push((interfaces, NetworkPurpose::Storage { what, server }));
        }
        let mut network = Self::default();
        for name in host.optional_names(INTERFACES)? {
            let path = format!("{INTERFACES}/{name}");
            // `bonding_masters` is a file.
            let Ok(target) = host.link(&path) else { continue };
            let functions = functions_on(&target);
            if !functions.is_empty() {
                network.interfaces.push(interface(host, name, functions, &uses)?);
            }
        }
        let unplaced = uses.into_iter().filter(|(interfaces, purpose)| {
            interfaces.is_empty() && *purpose != NetworkPurpose::DefaultRoute
        });
        network.unplaced = unplaced.map(|(_, purpose)| purpose).collect();
        Ok(network)
    }

    /// Returns the interfaces that need one of `functions`.
    pub fn behind<'a>(&'a self, functions: &'a [Address]) -> impl Iterator<Item = &'a Interface> {
        self.interfaces
            .iter()
            .filter(|interface| interface.functions.iter().any(|one| functions.contains(one)))
    }
}

fn interface(
    host: &Sysroot,
    name: String,
    functions: Vec<Address>,
    uses: &[(BTreeSet<String>, NetworkPurpose)],
) -> Result<Interface, ReadError> {
    let path = format!("{INTERFACES}/{name}");
    let flags = host.optional_text(format!("{path}/flags"))?.unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
    // Reading the carrier of an interface that is down is an error (net/core/net-sysfs.c).
    let carrier = host.text(format!("{path}/carrier")).ok();
    let ways = ways_up(host, &name)?;
    let mut found = Vec::new();
    for (interfaces, purpose) in uses {
        let way = ways.iter().find(|way| way.last().is_some_and(|top| interfaces.contains(top)));
        if let Some(way) = way {
            found.push(NetworkUse { way: way.clone(), purpose: purpose.clone() });
        }
    }
    Ok(Interface {
        name,
        functions,
        is_up: flags & IFF_UP != 0,
        has_carrier: carrier.map(|carrier| carrier == "1"),
        above: ways.into_iter().filter(|way| way.len() > 1).collect(),
        uses: found,
    })
}

/// Follows the links `upper_*` to whatever is built on an interface, and `master` where an Open
/// vSwitch makes no other.
fn ways_up(host: &Sysroot, name: &str) -> Result<Vec<Vec<String>>, ReadError> {
    let mut ways = vec![vec![name.to_owned()]];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        let Some(top) = way.last() else { continue };
        let entries = host.optional_names(format!("{INTERFACES}/{top}"))?;
        let mut uppers: BTreeSet<_> = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix("upper_"))
            .map(str::to_owned)
            .collect();
        if entries.iter().any(|entry| entry == "master") {
            uppers.extend(host.link_name(format!("{INTERFACES}/{top}/master"))?);
        }
        for upper in uppers {
            if !ways.iter().any(|way| way.last() == Some(&upper)) {
                ways.push(way.iter().cloned().chain([upper]).collect());
            }
        }
    }
    Ok(ways)
}

/// File systems and disks that the host reaches over the network: what, and the server.
fn remote_storage(host: &Sysroot, mounts: &[Mount]) -> Result<Vec<(String, String)>, ReadError> {
    let remote = |mount: &&Mount| {
        matches!(
            mount.file_system.as_str(),
            "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "afs"
        )
    };
    let mut found: Vec<_> = mounts
        .iter()
        .filter(remote)
        .filter_map(|mount| {
            let named = mount.options.split(',').find_map(|option| option.strip_prefix("addr="));
            Some((mount.point.clone(), named?.to_owned()))
        })
        .collect();
    let sessions = "/sys/class/iscsi_connection";
    for connection in host.optional_names(sessions)? {
        if let Some(server) = host.optional_text(format!("{sessions}/{connection}/address"))? {
            found.push((format!("iSCSI {connection}"), server));
        }
    }
    Ok(found)
}

/// The tables beside the main one that have a default route of IPv4, which policy rules may send
/// the host's packets by. (Of IPv6, `/proc/net/ipv6_route` lists the routes of all tables.)
///
/// Each table begins with a line of its own, `Id 200:`; a route is a line of its prefix's length,
/// scope and type below one of its address (net/ipv4/fib_trie.c, fib_trie_seq_show).
fn other_default_routes(host: &Sysroot) -> Vec<String> {
    let text = match host.optional_text("/proc/net/fib_trie") {
        Ok(text) => text.unwrap_or_default(),
        // The tables of a router may be larger than what is read.
        Err(error) => return vec![format!("a table that is not known: {error}")],
    };
    let mut found = Vec::new();
    let mut table = None;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            table = name.strip_prefix("Id ");
        }
        let is_default = || line.trim_start().starts_with("/0 ") && line.contains(" UNICAST");
        if let Some(number) = table.filter(|_| is_default()) {
            found.push(format!("table {number}"));
            table = None;
        }
    }
    found
}

/// One route, with addresses of either family as IPv6 has them.
struct Route {
    interface: String,
    destination: u128,
    prefix: u32,
    is_direct: bool,
    is_default: bool,
}

/// The routes of the host and its own addresses.
struct Routes {
    routes: Vec<Route>,
    own: Vec<(u128, String)>,
}

impl Routes {
    fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let text = |path| host.optional_text(path).map(Option::unwrap_or_default);
        let mut routes: Vec<_> =
            text("/proc/net/route")?.lines().skip(1).filter_map(route_v4).collect();
        routes.extend(text("/proc/net/ipv6_route")?.lines().filter_map(route_v6));
        let own = text("/proc/net/if_inet6")?
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u128::from_str_radix(words.next()?, 16).ok()?;
                Some((address, words.last()?.to_owned()))
            })
            .collect();
        Ok(Self { routes, own })
    }

    fn default_interfaces(&self) -> BTreeSet<String> {
        let default = self.routes.iter().filter(|route| route.is_default);
        default.map(|route| route.interface.clone()).collect()
    }

    /// The interfaces that have a local address, as far as the tables tell: for IPv4, those of the
    /// narrowest network that it lies in.
    fn interfaces_with(&self, address: &str) -> BTreeSet<String> {
        if let Some((_, zone)) = address.split_once('%') {
            return BTreeSet::from([zone.to_owned()]);
        }
        let Some(address) = parse(address) else { return BTreeSet::new() };
        let own: BTreeSet<_> = self
            .own
            .iter()
            .filter(|(own, _)| *own == address)
            .map(|(_, interface)| interface.clone())
            .collect();
        if own.is_empty() { self.narrowest(address, |route| route.is_direct) } else { own }
    }

    /// The interfaces by which a server is reached.
    fn interfaces_to(&self, server: &str) -> BTreeSet<String> {
        parse(server).map_or_else(BTreeSet::new, |server| self.narrowest(server, |_| true))
    }

    fn narrowest(&self, address: u128, suits: impl Fn(&Route) -> bool) -> BTreeSet<String> {
        let contains = |route: &&Route| {
            let differing = (address ^ route.destination).leading_zeros();
            differing >= route.prefix && is_v4(address) == is_v4(route.destination) && suits(route)
        };
        let narrowest = self.routes.iter().filter(contains).map(|route| route.prefix).max();
        self.routes
            .iter()
            .filter(contains)
            .filter(|route| Some(route.prefix) == narrowest)
            .map(|route| route.interface.clone())
            .collect()
    }
}

/// A line of `/proc/net/route`: addresses are numbers of the machine's own byte order
/// (net/ipv4/fib_trie.c, fib_route_seq_show).
fn route_v4(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().take(8).collect();
    let [interface, destination, gateway, flags, _, _, _, mask] = words.as_slice() else {
        return None;
    };
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let address = |word: &str| Some(Ipv4Addr::from(number(word)?.to_ne_bytes()));
    let bits = u32::from(address(mask)?).leading_ones();
    usable(number(flags)?).then_some(Route {
        interface: (*interface).to_owned(),
        destination: v4(address(destination)?),
        prefix: 96 + bits,
        is_direct: number(gateway)? == 0,
        is_default: bits == 0,
    })
}

/// A line of `/proc/net/ipv6_route` (net/ipv6/route.c, ipv6_route_native_seq_show).
fn route_v6(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [destination, prefix, _, _, gateway, .., flags, interface] = words.as_slice() else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let destination = u128::from_str_radix(destination, 16).ok()?;
    // Loop-back, local and multicast entries lead nowhere.
    let leads = usable(flags) && *interface != "lo" && destination >> 120 != 0xff;
    let prefix = u32::from_str_radix(prefix, 16).ok()?.min(128);
    leads.then_some(Route {
        interface: (*interface).to_owned(),
        destination,
        prefix,
        is_direct: gateway.bytes().all(|byte| byte == b'0'),
        is_default: prefix == 0,
    })
}

fn usable(flags: u32) -> bool {
    flags & RTF_UP != 0 && flags & RTF_REJECT == 0
}

fn parse(address: &str) -> Option<u128> {
    Some(match address.parse().ok()? {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => address.to_bits(),
    })
}

fn v4(address: Ipv4Addr) -> u128 {
    address.to_ipv6_mapped().to_bits()
}

fn is_v4(address: u128) -> bool {
    Ipv6Addr::from_bits(address).to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests;
