//! Requests that stand for the combinations of host, card, image and options.

use std::path::{Path, PathBuf};

use guest::machine::{
    Accelerator, Boot, Card, Disk, DiskBus, Display, Emulated, FirmwareKind, Forward, Function,
    Network, Request, Rom, RomFile, UsbDevice,
};
use guest::qemu::{Capabilities, DiskFormat, Firmware, Uefi};
use haiku::image::Boots;
use pci::Class;

/// A request with the QEMU and the firmware of its host.
pub struct Case {
    pub name: &'static str,
    pub request: Request,
    pub qemu: Capabilities,
    pub firmware: Firmware,
}

pub const ANYBOOT: Boots = Boots { bios: true, uefi: true };
pub const BARE: Boots = Boots { bios: true, uefi: false };
pub const UEFI_ONLY: Boots = Boots { bios: false, uefi: true };

/// Debian 12's QEMU, as it answered.
pub fn debian() -> Capabilities {
    serde_json::from_str(include_str!("data/debian-12-qemu-7.2.json")).unwrap()
}

/// The same with what later versions and further packages add.
pub fn newer() -> Capabilities {
    let mut qemu = debian();
    qemu.version = guest::qemu::Version { major: 10, minor: 1, micro: 0 };
    qemu.objects.insert("iommufd".into());
    qemu.vfio_properties.extend(["iommufd".into(), "fd".into()]);
    qemu.displays.extend(["gtk".into(), "sdl".into()]);
    qemu.audiodevs.extend(["pa".into(), "pipewire".into()]);
    qemu.accelerators.insert("qtest".into());
    qemu.network_devices.insert("igb".into());
    qemu.pci_express.insert("igb".into());
    qemu
}

pub fn ovmf() -> Firmware {
    Firmware {
        uefi: Some(Uefi {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
            format: DiskFormat::Raw,
        }),
    }
}

pub fn function(address: &str, class: u32) -> Function {
    Function {
        address: address.parse().unwrap(),
        class: Class(class),
        rom: Rom::Absent,
        rom_file: None,
        character_device: None,
    }
}

pub fn card(functions: Vec<Function>) -> Card {
    Card { functions, express: true }
}

/// A display card with its sound function.
fn radeon(rom: Rom) -> Card {
    let mut display = function("0000:29:00.0", 0x03_0000);
    display.rom = rom;
    card(vec![display, function("0000:29:00.1", 0x04_0300)])
}

fn intel_nic() -> Card {
    card(vec![function("0000:03:00.0", 0x02_0000)])
}

pub fn disk(directory: &Path, boots: Option<Boots>) -> Disk {
    Disk {
        file: directory.join("overlay.qcow2"),
        format: DiskFormat::Qcow2,
        offset: 0,
        image: directory.join("haiku.iso"),
        boots,
        bus: DiskBus::Ahci,
    }
}

/// A machine with a disk and no card.
pub fn plain(directory: &Path) -> Request {
    Request {
        name: "haiku".into(),
        boot: Boot::Disk(disk(directory, Some(ANYBOOT))),
        memory_mib: 512,
        cpus: 2,
        accelerator: Accelerator::Kvm,
        firmware: None,
        cards: vec![],
        emulated: vec![],
        display: Display::Auto,
        primary_display: false,
        network: Network::Default { forwards: vec![Forward { host: 0, guest: 22 }] },
        sound: false,
        inputs: vec![],
        usb: vec![],
        may_reboot: true,
        extra: vec![],
        directory: directory.to_owned(),
    }
}

fn linux(directory: &Path) -> Request {
    Request {
        name: "linux".into(),
        boot: Boot::Kernel {
            kernel: directory.join("vmlinuz"),
            initrd: directory.join("initramfs"),
            command_line: "console=ttyS0 panic=-1".into(),
        },
        display: Display::None,
        may_reboot: false,
        ..plain(directory)
    }
}

fn emulated(model: &str, properties: &[(&str, &str)]) -> Emulated {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Emulated { model: model.into(), properties: properties.iter().map(owned).collect() }
}

/// All cases; the files of the run are in `directory`.
pub fn all(directory: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, qemu: Capabilities, firmware: Firmware, request: Request| {
        cases.push(Case { name, request, qemu, firmware });
    };
    let plain = || plain(directory);
    let with = |cards: Vec<Card>| Request { cards, ..plain() };
    let booted = |boots: Option<Boots>, change: fn(&mut Disk)| {
        let mut disk = disk(directory, boots);
        change(&mut disk);
        Boot::Disk(disk)
    };

    add("anyboot", debian(), ovmf(), plain());
    add("anyboot_without_uefi_firmware", debian(), Firmware::default(), plain());
    add("anyboot_by_bios_as_asked", debian(), ovmf(), {
        Request { firmware: Some(FirmwareKind::Bios), ..plain() }
    });
    add("bare_volume_on_tcg", debian(), ovmf(), {
        let boot = booted(Some(BARE), |_| {});
        Request { boot, accelerator: Accelerator::Tcg, ..plain() }
    });
    add("qcow2_that_was_not_looked_into", debian(), ovmf(), {
        Request { boot: booted(None, |_| {}), ..plain() }
    });
    add("vmware_disk_written_in_place", debian(), ovmf(), {
        let boot = booted(Some(BARE), |disk| {
            disk.format = DiskFormat::Raw;
            disk.offset = 65536;
            disk.file = disk.image.clone();
        });
        Request { boot, ..plain() }
    });
    add("disk_on_nvme", debian(), ovmf(), {
        Request { boot: booted(Some(UEFI_ONLY), |disk| disk.bus = DiskBus::Nvme), ..plain() }
    });
    add("disk_on_usb", debian(), ovmf(), {
        Request { boot: booted(Some(ANYBOOT), |disk| disk.bus = DiskBus::Usb), ..plain() }
    });
    add("path_with_a_comma", debian(), ovmf(), {
        let boot = booted(Some(ANYBOOT), |disk| {
            disk.file = disk.file.with_file_name("a, b=c.qcow2");
        });
        Request { boot, ..plain() }
    });

    add("network_card", debian(), ovmf(), with(vec![intel_nic()]));
    add("network_card_beside_a_user_network", debian(), ovmf(), {
        let forwards = vec![Forward { host: 8080, guest: 80 }, Forward { host: 2222, guest: 22 }];
        Request { network: Network::User { forwards }, ..with(vec![intel_nic()]) }
    });
    add("display_card_with_both_roms", newer(), ovmf(), {
        with(vec![radeon(Rom::Present { bios: true, uefi: true })])
    });
    add("old_display_card_beside_a_window", debian(), ovmf(), {
        with(vec![radeon(Rom::Present { bios: true, uefi: false })])
    });
    add("old_display_card_as_the_only_screen", debian(), ovmf(), {
        let inputs = vec!["/dev/input/event3".into(), "/dev/input/event5".into()];
        let card = radeon(Rom::Present { bios: true, uefi: false });
        Request { primary_display: true, inputs, ..with(vec![card]) }
    });
    add("uefi_display_card_as_the_only_screen", newer(), ovmf(), {
        let mut card = radeon(Rom::Present { bios: false, uefi: true });
        card.functions[0].rom_file = Some(RomFile::File("/var/lib/roms/card.rom".into()));
        let usb = vec![UsbDevice { vendor: 0x046d, product: 0xc52b }];
        Request { primary_display: true, usb, ..with(vec![card]) }
    });
    add("one_function_of_a_card", debian(), ovmf(), {
        with(vec![card(vec![function("0000:29:00.1", 0x04_0300)])])
    });
    add("card_with_a_gap_in_its_functions", debian(), ovmf(), {
        with(vec![card(vec![
            function("0000:29:00.6", 0x0c_0330),
            function("0000:29:00.0", 0x04_0300),
            function("0000:29:00.3", 0x04_0300),
        ])])
    });
    add("card_of_two_devices_behind_its_own_switch", debian(), ovmf(), {
        with(vec![card(vec![
            function("0000:42:00.0", 0x02_0000),
            function("0000:43:00.0", 0x02_0000),
            function("0000:43:00.1", 0x02_0000),
        ])])
    });
    add("conventional_cards", debian(), ovmf(), {
        let conventional = |functions| Card { functions, express: false };
        with(vec![
            conventional(vec![function("0000:05:01.0", 0x04_0100)]),
            conventional(vec![
                function("0000:05:02.0", 0x0c_0310),
                function("0000:05:02.2", 0x0c_0320),
            ]),
            intel_nic(),
        ])
    });
    add("storage_controller_by_uefi", debian(), ovmf(), {
        with(vec![card(vec![function("0000:04:00.0", 0x01_0802)])])
    });
    add("card_in_another_domain_without_its_rom", debian(), ovmf(), {
        let mut nic = function("10000:01:00.0", 0x02_0000);
        nic.rom_file = Some(RomFile::Hidden);
        with(vec![card(vec![nic])])
    });
    add("two_cards_through_iommufd", newer(), ovmf(), {
        let mut cards = vec![intel_nic(), radeon(Rom::Present { bios: true, uefi: true })];
        for (index, function) in cards.iter_mut().flat_map(|c| &mut c.functions).enumerate() {
            let path = PathBuf::from(format!("/dev/vfio/devices/vfio{index}"));
            function.character_device = Some(path);
        }
        with(cards)
    });
    add("character_devices_and_a_qemu_without_iommufd", debian(), ovmf(), {
        let mut nic = intel_nic();
        nic.functions[0].character_device = Some("/dev/vfio/devices/vfio0".into());
        with(vec![nic])
    });

    add("emulated_edu", debian(), ovmf(), {
        Request { emulated: vec![emulated("edu", &[])], ..plain() }
    });
    add("emulated_e1000e_and_nvme", debian(), ovmf(), {
        let devices = vec![
            emulated("e1000e", &[("mac", "52:54:00:12:34:56")]),
            emulated("nvme", &[("serial", "a,b")]),
            emulated("e1000e", &[]),
        ];
        Request { emulated: devices, ..plain() }
    });
    add("emulated_beside_a_card", newer(), Firmware::default(), {
        let devices = vec![emulated("edu", &[]), emulated("igb", &[])];
        Request { emulated: devices, ..with(vec![intel_nic()]) }
    });
    add("sound_vnc_and_no_network", newer(), ovmf(), {
        Request {
            sound: true,
            display: Display::Named("vnc=127.0.0.1:7".into()),
            network: Network::None,
            ..plain()
        }
    });
    add("extra_arguments_on_qtest", newer(), ovmf(), {
        Request {
            accelerator: Accelerator::Qtest,
            display: Display::None,
            extra: vec!["-qtest".into(), "null".into()],
            emulated: vec![emulated("edu", &[])],
            ..plain()
        }
    });
    add("linux_with_a_card", debian(), ovmf(), {
        Request { cards: vec![intel_nic()], ..linux(directory) }
    });
    add("linux_with_emulated_cards", debian(), Firmware::default(), {
        let devices = vec![emulated("e1000e", &[]), emulated("nvme", &[])];
        let accelerator = Accelerator::Tcg;
        Request { emulated: devices, accelerator, memory_mib: 192, cpus: 1, ..linux(directory) }
    });
    cases
}
