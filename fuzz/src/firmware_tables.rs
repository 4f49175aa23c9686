//! The tables by which firmware describes IOMMUs.

use std::cell::OnceCell;

use pci::Host;
use pci::facts::acpi::{Dmar, Ivrs};
use testkit::tree::{Function, Port, Tree};

/// A host with a card behind a port, for tables to name.
fn with_host(check: impl FnOnce(&Host)) {
    thread_local! {
        static HOST: OnceCell<Host> = const { OnceCell::new() };
    }
    let make = || {
        let mut tree = Tree::new();
        tree.add(Function::port("0000:00:01.0", Port::Root, 1));
        tree.add(Function::new("0000:01:00.0", 0x8086, 0x10d3).below("0000:00:01.0"));
        Host::read(&tree.sysroot()).expect("a host")
    };
    HOST.with(|cell| check(cell.get_or_init(make)));
}

/// Intel's DMAR.
pub fn dmar(data: &[u8]) {
    let Ok(dmar) = Dmar::parse(data) else { return };
    // Each structure takes at least as many bytes as its fixed part.
    assert!(dmar.units.len() * 16 + dmar.reserved.len() * 24 <= data.len());
    with_host(|host| {
        for function in host.functions() {
            let covered = dmar.covers(host, function);
            assert!(!covered || !dmar.units.is_empty());
            assert!(dmar.reserved_for(host, function).count() <= dmar.reserved.len());
        }
    });
}

/// AMD's IVRS.
pub fn ivrs(data: &[u8]) {
    let Ok(ivrs) = Ivrs::parse(data) else { return };
    assert!(ivrs.units.len() * 24 + ivrs.reserved.len() * 32 <= data.len());
    with_host(|host| {
        for function in host.functions() {
            let _ = ivrs.reserved.iter().filter(|memory| memory.is_for(function.address)).count();
        }
    });
}
