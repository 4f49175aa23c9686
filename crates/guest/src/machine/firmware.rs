//! Which firmware starts a machine.

use haiku::image::Boots;

use super::{Boot, Card, FirmwareKind, FirmwareReason, Function, PlanError, Request, Rom, RomFile};
use crate::qemu::{Firmware, Uefi};

/// A firmware and why.
pub(super) struct Choice<'a> {
    pub(super) kind: FirmwareKind,
    pub(super) reason: FirmwareReason,
    /// Its files; a BIOS has none.
    pub(super) uefi: Option<&'a Uefi>,
}

/// Chooses from what the user asked for, then what the image can be started by, then the option
/// ROM of a display card, which one kind of firmware can run and the other cannot.
pub(super) fn choose<'a>(
    request: &Request,
    firmware: &'a Firmware,
) -> Result<Choice<'a>, PlanError> {
    use FirmwareKind::{Bios, Uefi};
    let uefi = firmware.uefi.as_ref();
    let choice = |kind, reason| match (kind, uefi) {
        (Bios, _) => Ok(Choice { kind, reason, uefi: None }),
        (Uefi, Some(files)) => Ok(Choice { kind, reason, uefi: Some(files) }),
        (Uefi, None) => Err(PlanError::NoUefi),
    };
    let Boot::Disk(disk) = &request.boot else {
        return match request.firmware {
            Some(kind) => choice(kind, FirmwareReason::Asked),
            None => choice(Bios, FirmwareReason::Kernel),
        };
    };
    let cannot = |firmware| PlanError::CannotBoot { image: disk.image.clone(), firmware };
    if let Some(kind) = request.firmware {
        let able = disk.boots.is_none_or(|boots| match kind {
            Bios => boots.bios,
            Uefi => boots.uefi,
        });
        return if able { choice(kind, FirmwareReason::Asked) } else { Err(cannot(Some(kind))) };
    }
    match disk.boots {
        Some(Boots { bios: false, uefi: false }) => return Err(cannot(None)),
        Some(Boots { bios: true, uefi: false }) => return choice(Bios, FirmwareReason::OnlyOne),
        Some(Boots { bios: false, uefi: true }) => return choice(Uefi, FirmwareReason::OnlyOne),
        Some(Boots { bios: true, uefi: true }) | None => {}
    }
    if let Some((function, kind)) = display_cards(&request.cards).find_map(rom_for_one)
        && (kind == Bios || uefi.is_some())
    {
        return choice(kind, FirmwareReason::Rom(function.address));
    }
    match (disk.boots, uefi) {
        (None, _) => choice(Bios, FirmwareReason::Unknown),
        (Some(_), Some(_)) => choice(Uefi, FirmwareReason::Preferred),
        (Some(_), None) => choice(Bios, FirmwareReason::NoUefi),
    }
}

/// The display controllers among the passed functions.
pub(super) fn display_cards(cards: &[Card]) -> impl Iterator<Item = &Function> {
    cards.iter().flat_map(|card| &card.functions).filter(|function| function.class.is_display())
}

/// The kind of firmware that a function's option ROM is made for, if it is one only.
fn rom_for_one(function: &Function) -> Option<(&Function, FirmwareKind)> {
    match (&function.rom_file, function.rom) {
        (Some(RomFile::Hidden), _) => None,
        (_, Rom::Present { bios: true, uefi: false }) => Some((function, FirmwareKind::Bios)),
        (_, Rom::Present { bios: false, uefi: true }) => Some((function, FirmwareKind::Uefi)),
        _ => None,
    }
}
