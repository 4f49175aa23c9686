//! Why no machine can be made for a request.

use std::path::PathBuf;

use super::FirmwareKind;
use crate::qemu::{Part, Version};

/// No machine can be made for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// This QEMU cannot do what is needed.
    #[error("QEMU {version} at {} has no {}", executable.display(), missing.join(", no "))]
    Unfit {
        /// The binary.
        executable: PathBuf,
        /// Its version.
        version: Version,
        /// What it cannot do.
        missing: Vec<String>,
        /// The package that would help, where it is one that distributions keep apart.
        part: Option<Part>,
    },
    /// QEMU has no PCI device of a name that the user gave.
    #[error("QEMU {version} has no PCI device `{model}` to emulate")]
    UnknownModel {
        /// The name.
        model: String,
        /// The version of QEMU.
        version: Version,
        /// Names that are close to it.
        similar: Vec<String>,
    },
    /// UEFI is needed, and there is none.
    #[error("there is no UEFI firmware for QEMU")]
    NoUefi,
    /// The image cannot be started by the firmware that was asked for, or by none.
    #[error("the image {} cannot be started{}", image.display(), with(*firmware))]
    CannotBoot {
        /// The image.
        image: PathBuf,
        /// The firmware that was asked for.
        firmware: Option<FirmwareKind>,
    },
    /// The image is also given to QEMU by other means.
    #[error("the image {} would be attached twice, and its system takes disks of the same content \
        for one another", image.display())]
    SameDisk {
        /// The image.
        image: PathBuf,
    },
    /// There are more devices than ports.
    #[error("there are more devices than the {ports} ports of the machine can take")]
    TooManyDevices {
        /// Ports that there are.
        ports: usize,
    },
    /// A size or number makes no sense.
    #[error("{what} must be from {least} to {most}, not {given}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// The smallest value.
        least: u64,
        /// The largest value.
        most: u64,
        /// The value given.
        given: u64,
    },
    /// The only screen is to be a card, and no display card is passed.
    #[error("none of the cards is a display card, so none can be the only screen")]
    NoDisplayCard,
    /// A display back end wants the terminal.
    #[error("the display `{name}` needs the terminal, which shows the serial line")]
    NeedsTerminal {
        /// Its name.
        name: String,
    },
}

fn with(firmware: Option<FirmwareKind>) -> &'static str {
    match firmware {
        None => ": it has neither BIOS boot code nor an EFI system partition",
        Some(FirmwareKind::Bios) => " by a BIOS: it has no boot code for one",
        Some(FirmwareKind::Uefi) => " by UEFI: it has no EFI system partition",
    }
}
