//! Command lines, exactly as they are, for every case; and requests that cannot be fulfilled.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use crate::cases::{card, debian, disk, function, newer, ovmf, plain};
use guest::machine::{Boot, Display, Emulated, FirmwareKind, Machine, PlanError, Request, plan};
use guest::qemu::{Capabilities, Firmware, Part};

const RUN: &str = "/run/kireji";

/// One option a line, with its value.
fn text(machine: &Machine) -> String {
    let mut text = format!("{}\n", machine.executable.display());
    let mut arguments = machine.arguments.iter().map(|a| a.to_str().unwrap()).peekable();
    while let Some(argument) = arguments.next() {
        write!(text, "{argument}").unwrap();
        if let Some(value) = arguments.next_if(|next| !next.starts_with('-')) {
            write!(text, " {value}").unwrap();
        }
        text.push('\n');
    }
    write!(text, "\nfunctions:\n{}", machine.topology).unwrap();
    for file in &machine.files {
        writeln!(text, "file: {file:?}").unwrap();
    }
    for descriptor in &machine.descriptors {
        writeln!(text, "open {} as {}", descriptor.path.display(), descriptor.number).unwrap();
    }
    if let Some(bytes) = machine.locked_memory {
        writeln!(text, "locked memory: {} MiB", bytes >> 20).unwrap();
    }
    for note in &machine.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

#[test]
fn command_lines_are_as_they_were() {
    let cases = crate::cases::all(Path::new(RUN));
    assert!(cases.len() >= 20);
    for case in cases {
        let machine = plan(&case.request, &case.qemu, &case.firmware).unwrap();
        insta::assert_snapshot!(case.name, text(&machine));
        let again = plan(&case.request, &case.qemu, &case.firmware).unwrap();
        assert_eq!(machine, again, "{}", case.name);
    }
}

fn refused(request: &Request, qemu: &Capabilities, firmware: &Firmware) -> PlanError {
    plan(request, qemu, firmware).unwrap_err()
}

#[test]
fn a_virtio_disk_is_never_made() {
    for case in crate::cases::all(Path::new(RUN)) {
        let machine = plan(&case.request, &case.qemu, &case.firmware).unwrap();
        let all = machine.arguments.join(&OsString::from(" "));
        assert!(!all.to_str().unwrap().contains("virtio-blk"), "{}", case.name);
    }
}

#[test]
fn what_qemu_lacks_is_listed_at_once() {
    let mut qemu = debian();
    for name in ["vfio-pci", "pcie-root-port"] {
        qemu.pci_express.remove(name);
        qemu.pci_conventional.remove(name);
    }
    qemu.machines.remove("q35");
    let request = Request {
        cards: vec![card(vec![function("29:00.0", 0x02_0000), function("29:00.1", 0x02_0000)])],
        ..plain(Path::new(RUN))
    };
    assert_eq!(
        refused(&request, &qemu, &ovmf()).to_string(),
        "QEMU 7.2.22 at /usr/bin/qemu-system-x86_64 has no machine `q35`, no device `vfio-pci`, \
         no device `pcie-root-port`"
    );
}

#[test]
fn a_part_that_is_packaged_apart_is_named() {
    let request = Request { display: Display::Named("gtk".into()), ..plain(Path::new(RUN)) };
    assert!(matches!(
        refused(&request, &debian(), &ovmf()),
        PlanError::Unfit { part: Some(Part::Window), missing, .. } if missing == ["display `gtk`"]
    ));
    let mut silent = debian();
    silent.audiodevs.clear();
    let request = Request { sound: true, ..plain(Path::new(RUN)) };
    assert!(matches!(
        refused(&request, &silent, &ovmf()),
        PlanError::Unfit { part: Some(Part::Sound), .. }
    ));
}

#[test]
fn an_image_and_a_firmware_that_do_not_fit_are_refused() {
    let directory = Path::new(RUN);
    let booted = |boots, firmware| Request {
        boot: Boot::Disk(disk(directory, Some(boots))),
        firmware,
        ..plain(directory)
    };
    let neither = haiku::image::Boots { bios: false, uefi: false };
    for (request, firmware, expected) in [
        (
            booted(neither, None),
            ovmf(),
            "the image /run/kireji/haiku.iso cannot be started: it has neither BIOS boot code nor \
             an EFI system partition",
        ),
        (
            booted(crate::cases::BARE, Some(FirmwareKind::Uefi)),
            ovmf(),
            "the image /run/kireji/haiku.iso cannot be started by UEFI: it has no EFI system \
             partition",
        ),
        (
            booted(crate::cases::UEFI_ONLY, Some(FirmwareKind::Bios)),
            ovmf(),
            "the image /run/kireji/haiku.iso cannot be started by a BIOS: it has no boot code for \
             one",
        ),
        (
            booted(crate::cases::UEFI_ONLY, None),
            Firmware::default(),
            "there is no UEFI firmware for QEMU",
        ),
    ] {
        assert_eq!(refused(&request, &debian(), &firmware).to_string(), expected);
    }
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let plain = || plain(Path::new(RUN));
    let emulated = |model: &str| Emulated { model: model.into(), properties: vec![] };
    let nic = |bus: usize| card(vec![function(&format!("{bus:02x}:00.0"), 0x02_0000)]);
    let extra = vec!["-drive".into(), "file=/run/kireji/haiku.iso,format=raw".into()];
    for (request, expected) in [
        (Request { memory_mib: 8, ..plain() }, "memory in MiB must be from 32 to 4194304, not 8"),
        (Request { cpus: 0, ..plain() }, "the number of processors must be from 1 to 288, not 0"),
        (
            Request { primary_display: true, cards: vec![nic(3)], ..plain() },
            "none of the cards is a display card, so none can be the only screen",
        ),
        (
            Request { display: Display::Named("curses".into()), ..plain() },
            "the display `curses` needs the terminal, which shows the serial line",
        ),
        (
            Request { extra, ..plain() },
            "the image /run/kireji/haiku.iso would be attached twice, and its system takes disks \
             of the same content for one another",
        ),
        (
            Request { emulated: vec![emulated("ide-hd")], ..plain() },
            "QEMU 10.1.0 has no PCI device `ide-hd` to emulate",
        ),
        (
            Request { cards: (1..=27).map(nic).collect(), ..plain() },
            "there are more devices than the 26 ports of the machine can take",
        ),
    ] {
        assert_eq!(refused(&request, &newer(), &ovmf()).to_string(), expected);
    }
    let request = Request { emulated: vec![emulated("e1000E")], ..plain() };
    assert!(matches!(
        refused(&request, &newer(), &ovmf()),
        PlanError::UnknownModel { similar, .. } if similar.contains(&"e1000e".to_owned())
    ));
    let request = Request { cards: (1..=26).map(nic).collect(), ..plain() };
    assert!(plan(&request, &newer(), &ovmf()).is_ok());
}
