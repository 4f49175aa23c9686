//! What a person should know of a machine before it starts.

use std::fmt;

use pci::Address;

use super::FirmwareKind;

/// Something worth knowing about a planned machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Which firmware was chosen, and why.
    Firmware(FirmwareKind, FirmwareReason),
    /// The processors are translated, for KVM cannot be used.
    Slow,
    /// A passed card takes the place of the emulated network card.
    NetworkIsTheCard(Address),
    /// A function was moved to function 0, without which a guest sees none of a device.
    Moved {
        /// The function.
        address: Address,
    },
    /// Where the picture of a passed display card appears.
    Picture {
        /// The card.
        address: Address,
        /// Whether it is the guest's only screen.
        primary: bool,
        /// What will have initialised the card when the guest's driver finds it.
        posted: Posted,
    },
    /// A passed storage controller may hold a system that the loader takes for its own.
    OtherBootDisks(Address),
    /// No window can be opened, so the emulated screen is shown nowhere.
    NoWindow,
}

/// Why a firmware was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareReason {
    /// The user asked for it.
    Asked,
    /// The image can be started by nothing else.
    OnlyOne,
    /// The option ROM of the passed display card is made for it.
    Rom(Address),
    /// Both would do, and it is there.
    Preferred,
    /// Both would do, and there is no UEFI firmware on this host.
    NoUefi,
    /// The image was not looked into, and nearly every image can be started by a BIOS.
    Unknown,
    /// A kernel is started directly.
    Kernel,
}

/// What initialises a display card before the guest's driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The firmware runs the card's option ROM.
    ByFirmware,
    /// Nothing: its ROM is for the other kind of firmware, missing, or not run for a second screen.
    No,
    /// Its ROM could not be read, so it cannot be said.
    Unmeasured,
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}

impl fmt::Display for FirmwareReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as asked"),
            Self::OnlyOne => f.write_str("the only one that the image can be started by"),
            Self::Rom(address) => write!(f, "the option ROM of {address} is made for it"),
            Self::Preferred => f.write_str("the image can be started by it"),
            Self::NoUefi => f.write_str("there is no UEFI firmware on this host"),
            Self::Unknown => f.write_str("the image was not looked into"),
            Self::Kernel => f.write_str("a kernel is started directly"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(kind, reason) => write!(f, "firmware: {kind} ({reason})"),
            Self::Slow => f.write_str(
                "KVM cannot be used: the guest's processors are translated, ten times slower or more",
            ),
            Self::NetworkIsTheCard(address) => {
                write!(f, "{address} is a network card: there is no emulated one beside it")
            }
            Self::Moved { address } => write!(
                f,
                "{address} is function 0 in the guest, which looks for others only where there is \
                 a function 0"
            ),
            Self::Picture { address, primary, posted } => {
                write!(f, "the picture of {address} appears on the monitor connected to it; ")?;
                f.write_str(match posted {
                    Posted::ByFirmware => "the firmware runs its option ROM first",
                    Posted::No => "nothing initialises it before the guest's driver does",
                    Posted::Unmeasured => {
                        "whether the firmware can run its option ROM could not be measured"
                    }
                })?;
                f.write_str(if *primary {
                    "; there is no other screen"
                } else {
                    "; the window shows the emulated screen, and may stop at the boot splash once \
                     the guest uses the card"
                })
            }
            Self::OtherBootDisks(address) => write!(
                f,
                "{address} is a storage controller: a loader for UEFI takes the first disk with a \
                 bootable system, which may be one of its disks"
            ),
            Self::NoWindow => {
                f.write_str("this QEMU can open no window: the emulated screen is shown nowhere")
            }
        }
    }
}
