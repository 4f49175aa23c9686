//! Descriptions of machines: rigs, and what QEMU says of itself.

use std::path::PathBuf;

use guest::diagnosis::{diagnose, reason};
use guest::machine::{self, Accelerator, Boot, Disk, DiskBus, Display, Emulated, Network, Request};
use guest::qemu::{Capabilities, DiskFormat, Firmware};
use lab::arguments::{Abilities, MemoryDisk, Parts, Start, arguments};
use lab::rig::Rig;

use crate::scratch::Scratch;
use crate::text;

/// A rig's description, and the command line that it becomes.
pub fn rig(data: &[u8]) {
    let Ok(rig) = Rig::parse("fuzz", &text(data)) else { return };
    let parts = Parts {
        start: Start::Kernel { image: "/kernel".into(), initramfs: "/initramfs".into() },
        console: "/console".into(),
        memory_disks: rig
            .qemu
            .then(|| MemoryDisk { image: "/tools".into(), size: 1 << 20 })
            .into_iter()
            .collect(),
        disks: rig.cards.iter().map(|_| PathBuf::from("/disk")).collect(),
        abilities: Abilities { amd_dma_remap: true },
        kvm: false,
    };
    let arguments = arguments(&rig, &parts);
    let count = |word: &str| arguments.iter().filter(|argument| *argument == word).count();
    assert!(count("-device") >= rig.cards.len() + rig.bridges.len());
    assert_eq!(count("-kernel"), 1);
}

/// What a QEMU is said to be able to do, and a machine planned for it.
pub fn capabilities(data: &[u8]) {
    let file = Scratch::with(data);
    let Ok(capabilities) = Capabilities::load(&file.path()) else { return };
    let emulated = |model: &str| Emulated { model: model.to_owned(), properties: Vec::new() };
    let request = Request {
        name: "fuzz".to_owned(),
        boot: Boot::Disk(Disk {
            file: "/overlay".into(),
            format: DiskFormat::Qcow2,
            offset: 0,
            image: "/image".into(),
            boots: None,
            bus: DiskBus::Ahci,
        }),
        memory_mib: 1024,
        cpus: 2,
        accelerator: Accelerator::Tcg,
        firmware: None,
        cards: Vec::new(),
        emulated: vec![emulated("edu"), emulated("e1000e"), emulated("nvme")],
        display: Display::Auto,
        primary_display: false,
        network: Network::Default { forwards: vec![] },
        sound: true,
        inputs: Vec::new(),
        usb: Vec::new(),
        may_reboot: true,
        extra: Vec::new(),
        directory: "/run".into(),
    };
    let _ = machine::plan(&request, &capabilities, &Firmware::default());
}

/// QEMU's log.
pub fn diagnosis(data: &[u8]) {
    let log = text(data);
    for cause in diagnose(&log) {
        assert!(log.contains(cause.line));
        assert!(!cause.cause.is_empty() && !cause.source.is_empty());
    }
    let _ = reason(&log);
}
