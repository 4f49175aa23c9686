use testkit::tree::{Function as Fake, Tree};

use super::*;

const NIC: &str = "0000:03:00.0";

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add(Fake::new(NIC, 0x8086, 0x10d3).class(0x02_0000));
    tree.interface(NIC, "eth0", true);
    tree
}

/// What the first interface is used for, each as one line.
fn uses(tree: &Tree, session: Option<&str>) -> Vec<String> {
    let mounts = super::super::mounts::read(&tree.sysroot());
    let network = Network::read(&tree.sysroot(), mounts.known().unwrap(), session).unwrap();
    let lines = network.interfaces[0].uses.iter().map(|one| {
        let what = match &one.purpose {
            NetworkPurpose::DefaultRoute => "default route".to_owned(),
            NetworkPurpose::OtherDefaultRoute { of } => format!("default route of {of}"),
            NetworkPurpose::Session { address } => format!("session {address}"),
            NetworkPurpose::Storage { what, server } => format!("{what} from {server}"),
        };
        format!("{} → {what}", one.way.join(" → "))
    });
    let unplaced = network.unplaced.iter().map(|purpose| format!("unplaced {purpose:?}"));
    lines.chain(unplaced).collect()
}

const ANY: [u8; 4] = [0; 4];

#[test]
fn an_interface_is_described() {
    let tree = tree();
    tree.interface(NIC, "eth1", false);
    let network = Network::read(&tree.sysroot(), &[], None).unwrap();
    let brief: Vec<_> = network
        .interfaces
        .iter()
        .map(|one| (one.name.as_str(), one.is_up, one.has_carrier, one.uses.len()))
        .collect();
    assert_eq!(brief, [("eth0", true, Some(true), 0), ("eth1", false, None, 0)]);
}

#[test]
fn the_default_route_is_followed_to_the_hardware() {
    let tree = tree();
    tree.route("eth0", [10, 0, 0, 0], ANY, [255, 0, 0, 0]);
    assert_eq!(uses(&tree, None), [""; 0]);
    tree.upper_interface("bond0", &["eth0"]);
    tree.upper_interface("br0", &["bond0"]);
    tree.route("br0", ANY, [10, 0, 0, 1], ANY);
    assert_eq!(uses(&tree, None), ["eth0 → bond0 → br0 → default route"]);
}

#[test]
fn a_default_route_of_ipv6_counts_and_a_rejecting_one_does_not() {
    let tree = tree();
    let zero = "0".repeat(32);
    let line = |flags: &str, interface: &str| {
        format!("{zero} 00 {zero} 00 fd{:030} 00000400 00000002 00000000 {flags} {interface}\n", 1)
    };
    tree.write("/proc/net/ipv6_route", line("00200200", "eth0") + &line("80200001", "lo"));
    assert_eq!(uses(&tree, None), [""; 0]);
    tree.write("/proc/net/ipv6_route", line("00000003", "eth0"));
    assert_eq!(uses(&tree, None), ["eth0 → default route"]);
}

#[test]
fn a_default_route_of_another_table_cannot_be_placed() {
    let tree = tree();
    // What a kernel shows, Linux 6.12.
    let main = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                Local:\n  +-- 0.0.0.0/1 2 0 2\n        |-- 127.0.0.0\n           /8 host LOCAL\n";
    let others = "Id 200:\n  |-- 0.0.0.0\n     /0 universe UNICAST\n\
                  Id 201:\n  |-- 10.0.0.0\n     /8 link UNICAST\n\
                  Id 202:\n  |-- 0.0.0.0\n     /0 universe BLACKHOLE\n";
    tree.write("/proc/net/fib_trie", main);
    assert_eq!(uses(&tree, None), [""; 0]);
    tree.write("/proc/net/fib_trie", [others, main].concat());
    assert_eq!(uses(&tree, None), ["unplaced OtherDefaultRoute { of: \"table 200\" }"]);
    tree.write("/proc/net/fib_trie", vec![b' '; 2 << 20]);
    assert!(
        uses(&tree, None)[0]
            .starts_with("unplaced OtherDefaultRoute { of: \"a table that is not known")
    );
}

#[test]
fn the_session_comes_in_by_the_network_of_its_address() {
    let tree = tree();
    tree.route("eth9", [192, 168, 0, 0], ANY, [255, 255, 0, 0]);
    tree.route("eth0", [192, 168, 1, 0], ANY, [255, 255, 255, 0]);
    assert_eq!(uses(&tree, Some("192.168.1.5")), ["eth0 → session 192.168.1.5"]);
    assert_eq!(uses(&tree, Some("192.168.2.5")), [""; 0]);
    assert!(uses(&tree, Some("172.16.0.1"))[0].starts_with("unplaced Session"));
    assert_eq!(uses(&tree, Some("fe80::1%eth0")), ["eth0 → session fe80::1%eth0"]);
    tree.write("/proc/net/if_inet6", "fd000000000000000000000000000002 04 40 00 82     eth0\n");
    assert_eq!(uses(&tree, Some("fd00::2")), ["eth0 → session fd00::2"]);
}

#[test]
fn remote_storage_is_reached_by_a_route() {
    let tree = tree();
    tree.write(
        "/proc/self/mountinfo",
        "30 1 0:50 / /home rw - nfs4 server:/home rw,addr=10.1.0.7\n\
         31 1 0:51 / /x rw - 9p tag rw,trans=virtio\n",
    );
    assert!(uses(&tree, None)[0].starts_with("unplaced Storage"));
    tree.route("eth0", [10, 0, 0, 0], [10, 0, 0, 1], [255, 0, 0, 0]);
    assert_eq!(uses(&tree, None), ["eth0 → /home from 10.1.0.7"]);
    tree.route("eth9", [10, 1, 0, 0], ANY, [255, 255, 0, 0]);
    assert_eq!(uses(&tree, None), [""; 0]);
    tree.write("/sys/class/iscsi_connection/connection1:0/address", "10.2.0.1\n");
    assert_eq!(uses(&tree, None), ["eth0 → iSCSI connection1:0 from 10.2.0.1"]);
}
