//! The screen, and what turns a passed display card on.

use super::builder::{Builder, Need};
use super::firmware::display_cards;
use super::{Display, FirmwareKind, Function, Note, PlanError, Posted, Rom, RomFile};
use crate::qemu::Part;

/// Windows, the best first.
const WINDOWS: [&str; 2] = ["gtk", "sdl"];
/// Device number of the emulated display: the lowest, so that the firmware's search for a screen
/// (src/fw/pciinit.c and src/optionroms.c of SeaBIOS, vgarom_setup) ends there.
const DISPLAY: u8 = 1;

impl Builder<'_> {
    /// Adds the emulated screen, unless a card is to be the only one.
    pub(super) fn screen(&mut self, firmware: FirmwareKind) -> Result<(), PlanError> {
        let request = self.request;
        let cards: Vec<&Function> = display_cards(&request.cards).collect();
        if request.primary_display && cards.is_empty() {
            return Err(PlanError::NoDisplayCard);
        }
        for (index, function) in cards.iter().enumerate() {
            let primary = request.primary_display && index == 0;
            self.note(Note::Picture {
                address: function.address,
                primary,
                posted: posted(function, firmware, primary),
            });
            if primary && firmware == FirmwareKind::Bios && function.class.is_vga() {
                self.need_vfio_property("x-vga");
                self.legacy_vga = Some(function.address);
            }
        }
        if request.primary_display {
            self.arguments.option("-display", "none");
            return Ok(());
        }
        self.on_root_bus("display", "VGA", &[], DISPLAY);
        let name = self.window()?;
        if name != "none" {
            self.needs_pointer = true;
        }
        self.arguments.option("-display", name);
        Ok(())
    }

    fn window(&mut self) -> Result<String, PlanError> {
        match &self.request.display {
            Display::None => Ok("none".into()),
            Display::Auto => {
                let found = WINDOWS.iter().find(|name| self.qemu.displays.contains(**name));
                if found.is_none() {
                    self.note(Note::NoWindow);
                }
                Ok(found.map_or("none", |name| name).into())
            }
            Display::Named(text) => {
                let name = text.split([',', '=']).next().unwrap_or_default();
                if name == "curses" {
                    return Err(PlanError::NeedsTerminal { name: name.into() });
                }
                if !self.qemu.displays.contains(name) {
                    self.lacks(Need::Display(name.into()), Some(Part::Window));
                }
                Ok(text.clone())
            }
        }
    }
}

/// What initialises a display card. SeaBIOS runs the ROM of the first screen only; OVMF the ROMs of
/// all.
fn posted(function: &Function, firmware: FirmwareKind, primary: bool) -> Posted {
    let runs = match firmware {
        FirmwareKind::Bios => primary && function.class.is_vga(),
        FirmwareKind::Uefi => true,
    };
    match (&function.rom_file, function.rom) {
        _ if !runs => Posted::No,
        (Some(RomFile::Hidden), _) => Posted::No,
        (_, Rom::Unmeasured) => Posted::Unmeasured,
        (_, Rom::Absent) => Posted::No,
        (_, Rom::Present { bios, uefi }) => {
            let fits = match firmware {
                FirmwareKind::Bios => bios,
                FirmwareKind::Uefi => uefi,
            };
            if fits { Posted::ByFirmware } else { Posted::No }
        }
    }
}
