//! What a machine is wanted for.

use std::ffi::OsString;
use std::path::PathBuf;

use haiku::image::Boots;
use pci::{Address, Class};

use crate::qemu::DiskFormat;

/// A machine as it is wanted: plain data, from which [`super::plan`] makes a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the run, shown in the window's title and the list of processes.
    pub name: String,
    /// What starts in it.
    pub boot: Boot,
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u16,
    /// What runs the processors.
    pub accelerator: Accelerator,
    /// Firmware to use whatever the image and the cards suggest.
    pub firmware: Option<FirmwareKind>,
    /// Cards of the host.
    pub cards: Vec<Card>,
    /// QEMU's own devices, in place of cards.
    pub emulated: Vec<Emulated>,
    /// Where the emulated screen is shown.
    pub display: Display,
    /// Whether a card of the host is the only screen.
    pub primary_display: bool,
    /// Network.
    pub network: Network,
    /// Whether there is an emulated sound card.
    pub sound: bool,
    /// Input devices of the host that the guest gets while both Ctrl keys have switched them to
    /// it (`/dev/input/event*`).
    pub inputs: Vec<PathBuf>,
    /// USB devices of the host.
    pub usb: Vec<UsbDevice>,
    /// Whether the guest may reboot; otherwise a reboot ends the run.
    pub may_reboot: bool,
    /// Arguments that go to QEMU as they are, after all others.
    pub extra: Vec<OsString>,
    /// Directory for the files that belong to this run.
    pub directory: PathBuf,
}

/// What starts in a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A disk.
    Disk(Disk),
    /// A Linux kernel with its initial file system.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initial file system.
        initrd: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
}

/// The disk that a machine starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file that QEMU opens and writes: an overlay, or the image itself.
    pub file: PathBuf,
    /// How it holds the disk.
    pub format: DiskFormat,
    /// Where the disk begins in a raw file, in bytes.
    pub offset: u64,
    /// The image that the user named. No other disk may show the same content, for Haiku finds
    /// its boot disk by content (src/system/kernel/fs/vfs_boot.cpp of Haiku, IsBootDevice).
    pub image: PathBuf,
    /// Which firmware can start it, where that is known.
    pub boots: Option<Boots>,
    /// What it is attached to. There is no virtio-blk: Haiku's images for x86 have no driver for
    /// it (build/jam/packages/Haiku).
    pub bus: DiskBus,
}

/// What a disk is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskBus {
    /// The machine's own AHCI controller.
    #[default]
    Ahci,
    /// A NVMe controller.
    Nvme,
    /// USB storage.
    Usb,
}

/// What runs the guest's processors. Whether KVM works is proved by [`crate::kvm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// Translation.
    Tcg,
    /// Translation of one plain processor whose clock counts instructions. Where translation is
    /// slow, most of all inside a machine that is itself translated, a guest whose clock shows the
    /// time is busy with the ticks of that clock; this one has as many instructions between two
    /// ticks as on a real processor. While it waits, time passes as it does outside.
    TcgCounted,
    /// Nothing: a test speaks for the processor over QEMU's `qtest` protocol, whose channel is
    /// given among the extra arguments. Not every QEMU has it: Debian builds 7.2 without it, and
    /// newer ones with it as a module.
    Qtest,
}

/// A kind of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareKind {
    /// A PC BIOS, SeaBIOS.
    Bios,
    /// UEFI, OVMF.
    Uefi,
}

/// A card of the host, its functions bound to vfio-pci.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The functions to pass; bridges are never among them.
    pub functions: Vec<Function>,
    /// Whether it sits on a PCI Express link; a card of conventional PCI is put behind a bridge.
    pub express: bool,
}

/// One function to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its address on the host.
    pub address: Address,
    /// Its class.
    pub class: Class,
    /// What the option ROM can do that the guest sees: that in `rom_file`, if there is one.
    pub rom: Rom,
    /// What takes the place of its option ROM.
    pub rom_file: Option<RomFile>,
    /// Its character device, where the kernel has one (`/dev/vfio/devices/vfio0`).
    pub character_device: Option<PathBuf>,
}

/// What an option ROM can do (PCI Firmware Specification 3.3, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rom {
    /// It could not be read.
    Unmeasured,
    /// There is none.
    Absent,
    /// It holds code.
    Present {
        /// For a PC BIOS (code type 0).
        bios: bool,
        /// For UEFI (code type 3).
        uefi: bool,
    },
}

/// What takes the place of an option ROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RomFile {
    /// Nothing: the guest sees no ROM.
    Hidden,
    /// A file.
    File(PathBuf),
}

/// A device of QEMU's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// Its name for `-device`.
    pub model: String,
    /// Its properties.
    pub properties: Vec<(String, String)>,
}

/// Where an emulated screen is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Display {
    /// Nowhere.
    None,
    /// In a window, if this QEMU can open one.
    Auto,
    /// In a back end of QEMU's by its name, with its options.
    Named(String),
}

/// The guest's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// As [`Network::User`]; none where a passed card is a network card.
    Default {
        /// Ports of the host's loopback interface.
        forwards: Vec<Forward>,
    },
    /// A private network with the host as its gateway, whatever cards are passed.
    User {
        /// Ports of the host's loopback interface.
        forwards: Vec<Forward>,
    },
    /// None.
    None,
}

/// A port of the host's loopback interface that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port of the host; 0 stands for any free one.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

/// A USB device of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsbDevice {
    /// Vendor id.
    pub vendor: u16,
    /// Product id.
    pub product: u16,
}
