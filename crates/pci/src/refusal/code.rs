//! The codes of findings and refusals: stable, so that people can cite and allow them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A condition under which a card can be given away: the reason where it cannot.
        ///
        /// Those from [`Code::CpuVirtualisation`] on are only diagnosed, by
        /// [`doctor`](crate::doctor); the others also refuse.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// A bridge, an IOMMU or another part that PCI itself runs on.
    Bridge = "E-BRIDGE",
    /// Another card's function in the IOMMU group.
    GroupShared = "E-GROUP-SHARED",
    /// No IOMMU group.
    NoGroup = "E-NO-IOMMU-GROUP",
    /// Virtual functions of it exist.
    VirtualFunctions = "E-VIRTUAL-FUNCTIONS",
    /// Storage that is mounted, swapped to, or booted from.
    StorageMounted = "E-STORAGE-MOUNTED",
    /// Storage that is mapped, assembled or decrypted.
    StorageActive = "E-STORAGE-ACTIVE",
    /// A disk with data.
    DiskData = "E-DISK-DATA",
    /// The host's boot display.
    BootDisplay = "E-BOOT-DISPLAY",
    /// The last card with a screen.
    LastScreen = "E-LAST-SCREEN",
    /// A display of a host on which no screen is connected.
    Headless = "E-HEADLESS",
    /// A display card on its native driver.
    DisplayNative = "E-DISPLAY-NATIVE",
    /// The interface of the default route.
    NicDefaultRoute = "E-NIC-DEFAULT-ROUTE",
    /// The interface of the remote session.
    NicSession = "E-NIC-SSH",
    /// The interface by which mounted storage is reached.
    NicStorage = "E-NIC-STORAGE",
    /// An interface that is up.
    NicUp = "E-NIC-UP",
    /// The controller of the last keyboard.
    LastKeyboard = "E-LAST-KEYBOARD",
    /// A process that has it open.
    InUse = "E-IN-USE",
    /// A process that drives it through VFIO.
    VfioInUse = "E-VFIO-IN-USE",
    /// A fact that decides, and could not be measured.
    Unmeasured = "E-UNMEASURED",
    /// The processor runs guests.
    CpuVirtualisation = "E-CPU-VIRTUALISATION",
    /// `/dev/kvm` can be used.
    Kvm = "E-KVM",
    /// The hardware has an IOMMU.
    IommuHardware = "E-IOMMU-HARDWARE",
    /// The firmware has it switched on.
    IommuFirmware = "E-IOMMU-FIRMWARE",
    /// The kernel uses it.
    IommuKernel = "E-IOMMU-KERNEL",
    /// Interrupts are remapped.
    InterruptRemapping = "E-NO-INTERRUPT-REMAPPING",
    /// Memory that the firmware keeps mapped for the card.
    ReservedMemory = "E-RESERVED-MEMORY",
    /// A port on the way to the root that does not keep apart what is below it.
    Acs = "E-ACS",
    /// The kernel can reset the card.
    Reset = "E-RESET",
    /// What a reset of the bus would touch beside the card.
    BusReset = "E-BUS-RESET",
    /// The boot's picture in a region of the card.
    Framebuffer = "E-FRAMEBUFFER",
    /// The firmware that the card's option ROM is for.
    OptionRom = "E-OPTION-ROM",
    /// The card's power.
    Power = "E-POWER",
    /// The kernel has vfio-pci.
    VfioModule = "E-NO-VFIO-PCI",
    /// VFIO's nodes can be used.
    VfioAccess = "E-VFIO-ACCESS",
    /// The control group lets them be used.
    DeviceRules = "E-DEVICE-RULES",
    /// A guest's memory can be locked.
    LockedMemory = "E-LOCKED-MEMORY",
    /// Lockdown and Secure Boot.
    Lockdown = "E-LOCKDOWN",
    /// QEMU is there.
    Qemu = "E-QEMU",
    /// QEMU has what passes a card on.
    QemuDevices = "E-QEMU-DEVICES",
    /// UEFI firmware for guests is there.
    QemuFirmware = "E-QEMU-FIRMWARE",
}

impl Code {
    /// Whether `--allow` with this code has an effect. Some refusals are overridden in another
    /// way, and some in none.
    pub fn is_allowable(self) -> bool {
        matches!(
            self,
            Self::NoGroup
                | Self::BootDisplay
                | Self::LastScreen
                | Self::Headless
                | Self::NicDefaultRoute
                | Self::NicSession
                | Self::NicUp
                | Self::LastKeyboard
                | Self::InUse
                | Self::Unmeasured
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Text that is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a code such as E-BOOT-DISPLAY")]
pub struct ParseCodeError(String);

impl FromStr for Code {
    type Err = ParseCodeError;

    /// Parses a code; its letters may be small, and the leading `E-` left out.
    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let written = text.to_ascii_uppercase();
        let bare = written.strip_prefix("E-").unwrap_or(&written);
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str().strip_prefix("E-") == Some(bare))
            .ok_or_else(|| ParseCodeError(text.to_owned()))
    }
}

/// What a person allows in spite of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A refusal by its code: `E-NIC-UP`.
    Code(Code),
    /// The loss of the data on one disk, by its serial number: `data-loss=S64DNF0R123456`.
    DataLoss(String),
}

/// Text that allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAllowError {
    /// It is not a code.
    #[error(transparent)]
    Code(#[from] ParseCodeError),
    /// It is the code of a refusal that is not overridden so.
    #[error("{0} cannot be allowed")]
    NotAllowable(Code),
    /// The disk is not named.
    #[error("`data-loss=` needs the serial number of the disk whose data may be lost")]
    NoSerial,
}

impl FromStr for Allow {
    type Err = ParseAllowError;

    fn from_str(text: &str) -> Result<Self, ParseAllowError> {
        if let Some(serial) = text.strip_prefix("data-loss=") {
            return match serial.trim() {
                "" => Err(ParseAllowError::NoSerial),
                serial => Ok(Self::DataLoss(serial.to_owned())),
            };
        }
        if text == "data-loss" {
            return Err(ParseAllowError::NoSerial);
        }
        let code: Code = text.parse()?;
        if code.is_allowable() {
            Ok(Self::Code(code))
        } else {
            Err(ParseAllowError::NotAllowable(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_they_are_written() {
        for code in Code::ALL.iter().copied() {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert_eq!(code.as_str()[2..].to_ascii_lowercase().parse(), Ok(code));
        }
        assert!("E-".parse::<Code>().is_err());
    }

    #[test]
    fn only_what_can_be_allowed_is_allowed() {
        let allow = |text: &str| text.parse::<Allow>();
        assert_eq!(allow("E-NIC-UP"), Ok(Allow::Code(Code::NicUp)));
        assert_eq!(allow("data-loss= S1 "), Ok(Allow::DataLoss("S1".into())));
        assert_eq!(allow("data-loss="), Err(ParseAllowError::NoSerial));
        assert_eq!(allow("data-loss"), Err(ParseAllowError::NoSerial));
        assert_eq!(allow("E-BRIDGE"), Err(ParseAllowError::NotAllowable(Code::Bridge)));
        assert!(matches!(allow("E-NONE"), Err(ParseAllowError::Code(_))));
    }
}
