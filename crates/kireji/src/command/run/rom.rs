//! What the option ROM can do that a guest will see, by which its firmware is chosen.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use guest::machine;
use host::Sysroot;
use pci::Function;
use pci::rom::{Expected, Rom, Verdict};
use vfio::Device;

use crate::{CommandError, Exit};

use super::checks;

/// The largest ROM that a region can hold, in bytes (PCI Local Bus 3.0, 6.2.5.2).
const MOST: u64 = 16 << 20;

/// Looks into the file that is to take the place of a ROM. One without code for anybody is fine:
/// some cards work only so.
pub(super) fn of_file(path: &Path) -> Result<machine::Rom, CommandError> {
    let failed = |source| checks::file("--romfile", path, source);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST {
        return Err(CommandError::new(
            Exit::Usage,
            format!("{} is larger than an option ROM can be", path.display()),
        ));
    }
    let code =
        |rom: &Rom| machine::Rom::Present { bios: rom.has_legacy(), uefi: rom.has_efi_x86_64() };
    let none = machine::Rom::Present { bios: false, uefi: false };
    Ok(Rom::parse(&bytes).as_ref().map_or(none, code))
}

/// Reads the ROM of a function that vfio-pci has, as QEMU will. The kernel wakes the function for
/// that, and resets it if it may, as it is about to do for QEMU.
pub(super) fn of_card(host: &Sysroot, function: &Function) -> machine::Rom {
    let read = || Device::open(host, function.address).ok()?.option_rom().ok()?;
    read().map_or(machine::Rom::Unmeasured, |bytes| judge(&bytes, function))
}

fn judge(bytes: &[u8], function: &Function) -> machine::Rom {
    let expected = Expected { ids: Some(function.ids), region: None };
    match Rom::parse(bytes) {
        Ok(rom) if rom.judge(&expected) == Verdict::Whole => {
            machine::Rom::Present { bios: rom.has_legacy(), uefi: rom.has_efi_x86_64() }
        }
        // Such as the copy that the host's firmware left of the boot display's, without its driver
        // for UEFI.
        _ => machine::Rom::Unmeasured,
    }
}

#[cfg(test)]
mod tests {
    use pci::{Class, Ids};

    use super::*;

    const IDS: Ids = Ids { vendor: 0x1002, device: 0x68c8 };

    /// An image of one block as the specification lays it out (PCI Firmware Specification 3.3, 5.1;
    /// UEFI 2.10, 14.4.2).
    fn image(code_type: u8, last: bool) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..3].copy_from_slice(&[0x55, 0xaa, 1]);
        bytes[0x18..0x20].copy_from_slice(&[0x1c, 0, 0, 0, b'P', b'C', b'I', b'R']);
        bytes[0x20..0x22].copy_from_slice(&IDS.vendor.to_le_bytes());
        bytes[0x22..0x24].copy_from_slice(&IDS.device.to_le_bytes());
        bytes[0x2c] = 1;
        bytes[0x30] = code_type;
        bytes[0x31] = u8::from(last) << 7;
        if code_type == 3 {
            bytes[4..12].copy_from_slice(&[0xf1, 0x0e, 0, 0, 0x0b, 0, 0x64, 0x86]);
        }
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[511] = sum.wrapping_neg();
        bytes
    }

    fn card(ids: Ids) -> Function {
        Function {
            address: "0000:01:00.0".parse().unwrap(),
            ids,
            subsystem: None,
            class: Class(0x03_0000),
            driver: Some("vfio-pci".to_owned()),
            group: Some(1),
            parent: None,
            physical: None,
        }
    }

    #[test]
    fn a_cards_rom_counts_if_it_is_what_its_flash_holds() {
        let both = [image(0, false), image(3, true)].concat();
        let present = |bios, uefi| machine::Rom::Present { bios, uefi };
        assert_eq!(judge(&both, &card(IDS)), present(true, true));
        assert_eq!(judge(&image(3, true), &card(IDS)), present(false, true));
        let mut changed = image(0, true);
        changed[300] = 7;
        for (bytes, ids) in [
            (&changed[..], IDS),
            (&both[..700], IDS),
            (&[0xff; 512], IDS),
            (&both, Ids { device: 1, ..IDS }),
        ] {
            assert_eq!(judge(bytes, &card(ids)), machine::Rom::Unmeasured);
        }
    }

    #[test]
    fn a_file_is_taken_for_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card.rom");
        for (bytes, bios, uefi) in [
            (image(0, true), true, false),
            ([image(0, false), image(3, true)].concat(), true, true),
            (b"dummy".to_vec(), false, false),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(of_file(&path).unwrap(), machine::Rom::Present { bios, uefi });
        }
        let huge = File::create(&path).unwrap();
        huge.set_len(MOST + 1).unwrap();
        assert!(of_file(&path).unwrap_err().to_string().contains("larger"));
        assert_eq!(of_file(dir.path()).unwrap_err().exit(), Exit::Usage);
    }
}
