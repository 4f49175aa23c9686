//! From a tree of files to a disk that firmware starts, without mounts and without loop devices.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::stack::Firmware;
use crate::process;

const SECTOR: u64 = 512;
/// Where GRUB's core image is: the partition for it, of 1 MiB, begins here.
const BIOS_BOOT: u64 = 2048;
/// Where the EFI system partition begins, and its size in sectors.
const ESP: u64 = 4096;
const ESP_SECTORS: u64 = 196_608;
/// Where the root begins.
const ROOT: u64 = ESP + ESP_SECTORS;
/// What stays free behind the root, for the second partition table, in sectors.
const TAIL: u64 = 2048;

/// The size of a disk in bytes. It is sparse.
const SIZE: u64 = 2 << 30;

/// Makes the disk `image` of the tree `root`. What is in its `/boot/efi` goes to the EFI system
/// partition.
pub fn make(root: &Path, image: &Path, firmware: Firmware) -> Result<()> {
    File::create(image)?.set_len(SIZE)?;
    partition(image, firmware)?;
    if firmware == Firmware::Uefi {
        system_partition(root, image)?;
    }
    let blocks = (SIZE / SECTOR - ROOT - TAIL) * SECTOR / 1024;
    let mut mke2fs = process::as_root("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "root", "-d"]).arg(root);
    mke2fs.arg("-E").arg(format!("offset={},root_owner=0:0", ROOT * SECTOR));
    mke2fs.arg(image).arg(format!("{blocks}k"));
    process::output(&mut mke2fs)?;
    if firmware == Firmware::Bios {
        install_grub(&root.join("boot/grub/i386-pc"), image)?;
    }
    Ok(())
}

/// Writes the partition table (sfdisk(8)). The types are those of the UEFI specification, of GRUB's
/// manual ("BIOS installation") and of the Discoverable Partitions Specification.
fn partition(image: &Path, firmware: Firmware) -> Result<()> {
    let first = match firmware {
        Firmware::Bios => {
            format!("start={BIOS_BOOT}, size=2048, type=21686148-6449-6E6F-744E-656564454649")
        }
        Firmware::Uefi => {
            format!("start={ESP}, size={ESP_SECTORS}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
        }
    };
    let sectors = SIZE / SECTOR - ROOT - TAIL;
    let table = format!(
        "label: gpt\n{first}\n\
         start={ROOT}, size={sectors}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
    );
    let mut child = process::system("sfdisk")
        .arg("-q")
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start sfdisk")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(table.as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "sfdisk failed ({status})");
    Ok(())
}

/// Makes the EFI system partition of what is in `/boot/efi`, which is empty then: a mount point.
fn system_partition(root: &Path, image: &Path) -> Result<()> {
    let partition = image.with_extension("esp");
    File::create(&partition)?.set_len(ESP_SECTORS * SECTOR)?;
    let mut format = process::system("mkfs.vfat");
    process::output(format.args(["-F", "32", "-n", "ESP"]).arg(&partition))?;
    let tree = root.join("boot/efi");
    for entry in std::fs::read_dir(&tree)? {
        let path = entry?.path();
        // What is in there may be root's alone.
        let mut copy = process::as_root("mcopy");
        copy.args(["-s", "-i"]).arg(&partition).arg(&path).arg("::/");
        process::output(&mut copy)?;
        process::output(process::as_root("rm").arg("-r").arg(&path))?;
    }
    let mut disk = OpenOptions::new().write(true).open(image)?;
    disk.seek(SeekFrom::Start(ESP * SECTOR))?;
    std::io::copy(&mut File::open(&partition)?, &mut disk)?;
    Ok(std::fs::remove_file(&partition)?)
}

/// Does what grub-bios-setup(8) does: the first sector loads the first sector of the core image,
/// which loads the rest of it. The places are those of GRUB's `include/grub/i386/pc/boot.h` and
/// `include/grub/offsets.h`.
fn install_grub(modules: &Path, image: &Path) -> Result<()> {
    let mut boot = std::fs::read(modules.join("boot.img"))?;
    let mut core = std::fs::read(modules.join("core.img"))?;
    core.resize(core.len().next_multiple_of(512), 0);
    ensure!(boot.len() == 512 && core.len() > 512, "these are not the images of GRUB");
    ensure!(core.len() <= 1 << 20, "the core image of GRUB is larger than its partition");
    // Where the core image is (kernel_sector).
    boot[0x5c..0x64].copy_from_slice(&BIOS_BOOT.to_le_bytes());
    // Two `nop` for the jump over a workaround for floppies (drive_check).
    boot[0x66..0x68].copy_from_slice(&[0x90; 2]);
    // The first list of blocks: their start, how many, and the segment to load them to.
    let rest = u16::try_from(core.len() / 512 - 1)?;
    core[0x1f4..0x1fc].copy_from_slice(&(BIOS_BOOT + 1).to_le_bytes());
    core[0x1fc..0x1fe].copy_from_slice(&rest.to_le_bytes());
    core[0x1fe..0x200].copy_from_slice(&0x820_u16.to_le_bytes());
    let mut disk = OpenOptions::new().write(true).open(image)?;
    // The partition table follows the code in the first sector.
    disk.write_all(&boot[..440])?;
    disk.seek(SeekFrom::Start(BIOS_BOOT * SECTOR))?;
    Ok(disk.write_all(&core)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_of_grub_find_each_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("boot.img"), [0xb0; 512]).unwrap();
        std::fs::write(dir.path().join("core.img"), [0xc0; 1300]).unwrap();
        let image = dir.path().join("disk");
        std::fs::write(&image, vec![0xdd; 2048 * 512]).unwrap();
        install_grub(dir.path(), &image).unwrap();
        let disk = std::fs::read(&image).unwrap();
        assert_eq!(disk[..2], [0xb0; 2]);
        assert_eq!(disk[0x5c..0x68], [0, 8, 0, 0, 0, 0, 0, 0, 0xb0, 0xb0, 0x90, 0x90]);
        assert_eq!(disk[440..512], [0xdd; 72], "the disk's own identity and table");
        let core = &disk[2048 * 512..];
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
        assert_eq!(core.len(), 3 * 512);
        assert_eq!(core[1299..1301], [0xc0, 0], "whole sectors");
        std::fs::write(dir.path().join("core.img"), vec![0; 2 << 20]).unwrap();
        assert!(
            install_grub(dir.path(), &image).is_err(),
            "it would reach into the next partition"
        );
    }

    #[test]
    fn partitions_are_where_their_contents_go() {
        for (firmware, first) in [(Firmware::Bios, BIOS_BOOT), (Firmware::Uefi, ESP)] {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("disk");
            File::create(&image).unwrap().set_len(SIZE).unwrap();
            partition(&image, firmware).unwrap();
            // The entries of the partition table are in sector 2, 128 bytes each, with the first
            // sector at 32 (UEFI specification, "GPT Partition Entry Array").
            let mut table = [0; 256];
            use std::os::unix::fs::FileExt;
            File::open(&image).unwrap().read_exact_at(&mut table, 2 * SECTOR).unwrap();
            let start = |at: usize| u64::from_le_bytes(table[at..at + 8].try_into().unwrap());
            assert_eq!((start(32), start(128 + 32)), (first, ROOT), "{firmware:?}");
        }
    }
}
