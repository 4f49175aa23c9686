//! The codes of refusals: stable, so that people can cite and allow them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Why a card is not given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A bridge, an IOMMU or another part that PCI itself runs on.
    Bridge,
    /// Another card's function in the IOMMU group.
    GroupShared,
    /// No IOMMU group.
    NoGroup,
    /// Virtual functions of it exist.
    VirtualFunctions,
    /// Storage that is mounted, swapped to, or booted from.
    StorageMounted,
    /// Storage that is mapped, assembled or decrypted.
    StorageActive,
    /// A disk with data.
    DiskData,
    /// The host's boot display.
    BootDisplay,
    /// The last card with a screen.
    LastScreen,
    /// A display card on its native driver.
    DisplayNative,
    /// The interface of the default route.
    NicDefaultRoute,
    /// The interface of the remote session.
    NicSession,
    /// The interface by which mounted storage is reached.
    NicStorage,
    /// An interface that is up.
    NicUp,
    /// The controller of the last keyboard.
    LastKeyboard,
    /// A process that has it open.
    InUse,
    /// A process that drives it through VFIO.
    VfioInUse,
    /// A fact that decides, and could not be measured.
    Unmeasured,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 18] = [
        Self::Bridge,
        Self::GroupShared,
        Self::NoGroup,
        Self::VirtualFunctions,
        Self::StorageMounted,
        Self::StorageActive,
        Self::DiskData,
        Self::BootDisplay,
        Self::LastScreen,
        Self::DisplayNative,
        Self::NicDefaultRoute,
        Self::NicSession,
        Self::NicStorage,
        Self::NicUp,
        Self::LastKeyboard,
        Self::InUse,
        Self::VfioInUse,
        Self::Unmeasured,
    ];

    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "E-BRIDGE",
            Self::GroupShared => "E-GROUP-SHARED",
            Self::NoGroup => "E-NO-IOMMU-GROUP",
            Self::VirtualFunctions => "E-VIRTUAL-FUNCTIONS",
            Self::StorageMounted => "E-STORAGE-MOUNTED",
            Self::StorageActive => "E-STORAGE-ACTIVE",
            Self::DiskData => "E-DISK-DATA",
            Self::BootDisplay => "E-BOOT-DISPLAY",
            Self::LastScreen => "E-LAST-SCREEN",
            Self::DisplayNative => "E-DISPLAY-NATIVE",
            Self::NicDefaultRoute => "E-NIC-DEFAULT-ROUTE",
            Self::NicSession => "E-NIC-SSH",
            Self::NicStorage => "E-NIC-STORAGE",
            Self::NicUp => "E-NIC-UP",
            Self::LastKeyboard => "E-LAST-KEYBOARD",
            Self::InUse => "E-IN-USE",
            Self::VfioInUse => "E-VFIO-IN-USE",
            Self::Unmeasured => "E-UNMEASURED",
        }
    }

    /// Whether `--allow` with this code has an effect. Some refusals are overridden in another
    /// way, and some in none.
    pub fn is_allowable(self) -> bool {
        match self {
            Self::NoGroup
            | Self::BootDisplay
            | Self::LastScreen
            | Self::NicDefaultRoute
            | Self::NicSession
            | Self::NicUp
            | Self::LastKeyboard
            | Self::InUse
            | Self::Unmeasured => true,
            Self::Bridge
            | Self::GroupShared
            | Self::VirtualFunctions
            | Self::StorageMounted
            | Self::StorageActive
            | Self::DiskData
            | Self::DisplayNative
            | Self::NicStorage
            | Self::VfioInUse => false,
        }
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

/// Text that is no code of a refusal.
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
            .into_iter()
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
        for code in Code::ALL {
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
