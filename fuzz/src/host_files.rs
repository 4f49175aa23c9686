//! Files of the host.

use std::cell::OnceCell;
use std::path::Path;

use host::modules::Modules;
use host::{Sysroot, journal as journals};
use pci::facts::Facts;
use pci::{Host, Names};
use serde_json::Value;
use testkit::tree::{Function, Tree};

use crate::scratch::Scratch;
use crate::text;

/// The host's database of names.
pub fn pci_ids(data: &[u8]) {
    const PLACE: &str = "/usr/share/hwdata/pci.ids";
    thread_local! {
        static HOST: OnceCell<(Tree, Sysroot, Host)> = const { OnceCell::new() };
    }
    let make = || {
        let mut tree = Tree::new();
        tree.add(Function::new("0000:00:01.0", 0x8086, 0x10d3).subsystem(0x1af4, 0x1100));
        tree.add(Function::new("0000:00:02.0", 0x1b36, 0x0010).class(0x01_0802));
        let sysroot = tree.sysroot();
        let host = Host::read(&sysroot).expect("a host");
        (tree, sysroot, host)
    };
    HOST.with(|cell| {
        let (tree, sysroot, host) = cell.get_or_init(make);
        tree.write(PLACE, data);
        let names = Names::read(sysroot, host);
        for function in host.functions() {
            let names = names.of(function);
            for name in [names.vendor, names.device, names.subsystem, names.class] {
                assert!(name.is_none_or(|name| !name.contains('\n')));
            }
        }
    });
}

/// A journal that a crash or somebody else left.
pub fn journal(data: &[u8]) {
    let file = Scratch::with(data);
    let Ok(record) = journals::read::<Value, Value>(&file.path()) else { return };
    assert!(record.entries.len() <= data.len());
}

/// The index of a kernel's modules: its four files, separated by zeros, then a modalias.
pub fn modules(data: &[u8]) {
    const FILES: [&str; 4] = ["modules.dep", "modules.builtin", "modules.alias", "modules.softdep"];
    const DIRECTORY: &str = "/lib/modules/fuzz";
    thread_local! {
        static TREE: OnceCell<(Tree, Sysroot)> = const { OnceCell::new() };
    }
    let make = || {
        let tree = Tree::new();
        let sysroot = tree.sysroot();
        (tree, sysroot)
    };
    TREE.with(|cell| {
        let (tree, sysroot) = cell.get_or_init(make);
        let mut parts = data.splitn(5, |byte| *byte == 0);
        for name in FILES {
            tree.write(&format!("{DIRECTORY}/{name}"), parts.next().unwrap_or_default());
        }
        let modalias = text(parts.next().unwrap_or_default());
        let index = Modules::read(sysroot, Path::new(DIRECTORY)).expect("all files are there");
        for name in index.matching(&modalias) {
            if let Ok(closure) = index.closure([name]) {
                assert!(closure.len() <= data.len());
            }
        }
    });
}

/// A captured host: a tar archive as somebody sends it, without its compression, which would only
/// stand in a fuzzer's way.
pub fn snapshot(data: &[u8]) {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    std::io::Write::write_all(&mut packed, data).expect("memory can be written");
    let packed = packed.finish().expect("memory can be written");
    let Ok(sysroot) = Sysroot::unpack(&packed[..]) else { return };
    assert!(!sysroot.is_live());
    if let Ok(host) = Host::read(&sysroot) {
        assert!(host.functions().count() <= data.len() / 512);
        let _ = Facts::read(&sysroot, &host);
    }
}
