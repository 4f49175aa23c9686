use std::io;
use std::path::Path;

use super::source::Source;
use super::*;

impl Source for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.len()).unwrap())
    }

    fn read_up_to(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        Ok(self[clamp(start)..clamp(start.saturating_add(length))].to_vec())
    }
}

fn read(bytes: &[u8]) -> Result<Image, ImageError> {
    identify(Path::new("haiku.iso"), &bytes.to_vec())
}

fn boots(bytes: &[u8]) -> Option<(bool, bool)> {
    read(bytes).unwrap().boots().map(|boots| (boots.bios, boots.uefi))
}

#[test]
fn tells_the_kinds_apart() {
    let parts = |esp, boot_code| Partitions { bfs: samples::BFS, esp, boot_code };
    for (name, bytes, content) in [
        ("anyboot", samples::anyboot(), Content::Anyboot(parts(Some(samples::ESP), true))),
        ("bare", samples::bfs(32), Content::Bare { boot_code: true }),
        ("mbr", samples::mbr(), Content::Mbr(parts(None, true))),
        ("logical", samples::logical(), Content::Mbr(parts(None, false))),
        ("gpt", samples::gpt_disk(), Content::Gpt(parts(Some(samples::ESP), false))),
    ] {
        let size = u64::try_from(bytes.len()).unwrap();
        let expected = Image { container: Container::Raw, content: Some(content), disk_size: size };
        assert_eq!(read(&bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn looks_behind_the_header_of_a_vmware_disk() {
    let image = read(&samples::vmdk()).unwrap();
    assert_eq!(image.container, Container::Vmdk { header: 65536 });
    assert_eq!(image.content, Some(Content::Bare { boot_code: true }));
    assert_eq!(image.disk_size, 65536);
}

#[test]
fn a_volume_of_powerpc_is_refused_by_name() {
    let mut bare = samples::bfs(32);
    let mut disk = samples::mbr();
    let start = usize::try_from(samples::BFS.start).unwrap();
    for (bytes, magic) in [(&mut bare, 512 + 32), (&mut disk, start + 512 + 32)] {
        bytes[magic..magic + 4].reverse();
        assert!(matches!(read(bytes), Err(ImageError::BigEndian { .. })));
    }
}

#[test]
fn does_not_look_into_qcow2() {
    let image = read(&samples::qcow2(3)).unwrap();
    assert_eq!(image.container, Container::Qcow2 { version: 3 });
    assert_eq!((image.content, image.boots(), image.disk_size), (None, None, 1024));
    assert!(matches!(read(&samples::qcow2(4)), Err(ImageError::Damaged { .. })));
    assert!(matches!(read(&samples::qcow2(3)[..90]), Err(ImageError::Damaged { .. })));
}

#[test]
fn a_qcow2_file_that_was_cut_anywhere_is_told() {
    let whole = samples::qcow2(3);
    for length in 104..whole.len() {
        let error = read(&whole[..length]).unwrap_err();
        let cut = matches!(&error, ImageError::Truncated { actual, expected, .. }
            if *actual == u64::try_from(length).unwrap() && expected > actual);
        assert!(cut, "{length}: {error}");
    }
    // The second half of the last cluster is beyond the disk.
    let mut ragged = whole.clone();
    ragged[28..32].copy_from_slice(&256_u32.to_be_bytes());
    assert!(read(&ragged[..whole.len() - 256]).is_ok());
    // A cluster that reads as zeros has no need of its place; a compressed one ends anywhere.
    for (at, flag) in [(4 * 512 + 7, 1), (4 * 512, 0x40)] {
        let mut other = whole.clone();
        other[at] = other[at] & 0x7f | flag;
        assert!(read(&other[..5 * 512 + 1]).is_ok());
    }
}

#[test]
fn a_qcow2_file_that_makes_no_sense_is_damaged_and_one_of_two_files_is_refused() {
    for (at, value) in [(20, 8), (20, 64), (28, 0), (36, 0), (36, 1 << 30), (44, 7), (56, 0)] {
        let mut bytes = samples::qcow2(3);
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, ImageError::Damaged { .. }), "{at}: {error}");
    }
    for (at, value) in [(12, 200), (76, 4)] {
        let mut bytes = samples::qcow2(3);
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
        assert!(matches!(read(&bytes), Err(ImageError::Parted { .. })), "{at}");
    }
}

/// What QEMU's own tool makes is whole, however it is made; half of it is not.
#[test]
fn what_qemu_makes_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let mut content = samples::anyboot();
    content.extend((0..300_001_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8));
    std::fs::write(&raw, content).unwrap();
    for options in [
        &["-O", "qcow2"][..],
        &["-O", "qcow2", "-c"],
        &["-O", "qcow2", "-o", "cluster_size=512"],
        &["-O", "qcow2", "-o", "compat=0.10"],
        &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"],
        &["-O", "qcow2", "-o", "preallocation=metadata"],
    ] {
        let made = dir.path().join("disk.qcow2");
        let done = std::process::Command::new("qemu-img")
            .arg("convert")
            .args(options)
            .args([&raw, &made])
            .status();
        let Ok(done) = done else { return };
        assert!(done.success(), "{options:?}");
        Image::read(&made).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let size = std::fs::metadata(&made).unwrap().len();
        std::fs::File::options().write(true).open(&made).unwrap().set_len(size / 2).unwrap();
        assert!(matches!(Image::read(&made), Err(ImageError::Truncated { .. })), "{options:?}");
    }
}

#[test]
fn says_which_firmware_can_boot_it() {
    assert_eq!(boots(&samples::anyboot()), Some((true, true)));
    assert_eq!(boots(&samples::gpt_disk()), Some((false, true)));
    assert_eq!(boots(&samples::mbr()), Some((true, false)));
    let mut no_code = samples::mbr();
    no_code[0] = 0;
    assert_eq!(boots(&no_code), Some((false, false)));
    let mut not_active = samples::mbr();
    not_active[446] = 0;
    assert_eq!(boots(&not_active), Some((false, false)));
    let mut no_boot_block = samples::bfs(32);
    no_boot_block[..512].fill(0);
    assert_eq!(boots(&no_boot_block), Some((false, false)));
}

#[test]
fn a_file_that_was_cut_off_is_told_from_a_whole_one() {
    for bytes in [samples::anyboot(), samples::gpt_disk(), samples::mbr(), samples::bfs(32)] {
        let end = bytes.len() / 2 + 4096;
        let error = read(&bytes[..end]).unwrap_err();
        assert!(
            matches!(&error, ImageError::Truncated { actual, expected, .. }
                if *actual == u64::try_from(end).unwrap() && expected > actual),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_image_is_named() {
    let mut iso = vec![0; 40960];
    samples::iso_descriptor(&mut iso, "Debian 12.2.0");
    let mut isohybrid = samples::anyboot();
    isohybrid[446 + 4] = 0x17;
    let mut other_disk = samples::mbr();
    other_disk[446 + 4] = 0x83;
    let mut no_super_block = samples::mbr();
    no_super_block[(1 << 20) + 512..(1 << 20) + 1024].fill(0);
    let mut no_table = samples::gpt_disk();
    no_table[512..520].fill(0);
    let mut too_large = samples::mbr();
    too_large[446 + 12..446 + 16].copy_from_slice(&64_u32.to_le_bytes());
    let mut sparse_vmdk = samples::vmdk();
    sparse_vmdk[12] = 1;
    let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    for (bytes, expected) in [
        (iso, "the CD image haiku.iso (volume `Debian 12.2.0`) holds no BFS partition"),
        (
            isohybrid,
            "the CD image haiku.iso (volume `haiku-nightly-x86_64`) holds no BFS partition",
        ),
        (other_disk, "the disk image haiku.iso holds no BFS among its 1 partitions"),
        (
            no_super_block,
            "the image haiku.iso is damaged: the BFS partition has no BFS super block",
        ),
        (
            no_table,
            "the image haiku.iso is damaged: a protective master boot record, but no GUID \
             partition table",
        ),
        (too_large, "the image haiku.iso is damaged: the BFS volume is larger than its partition"),
        (sparse_vmdk, "haiku.iso is a VMware disk that does not hold its sectors in one piece"),
        (b"PK\x03\x04haiku".to_vec(), "haiku.iso is a zip archive, not an image"),
        (b"\x28\xb5\x2f\xfd".to_vec(), "haiku.iso is compressed by zstd, not an image"),
        (b"<!DOCTYPE html>\n<html>".to_vec(), "haiku.iso holds text, not an image"),
        (vec![0; 4096], "haiku.iso is no disk image: it has no partition table and no BFS"),
    ] {
        assert_eq!(message(&bytes), expected);
        assert!(!read(&bytes).unwrap_err().hint().is_empty());
    }
}

#[test]
fn what_is_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.iso");
    std::fs::write(&empty, b"").unwrap();
    let whole = dir.path().join("haiku.image");
    std::fs::write(&whole, samples::anyboot()).unwrap();
    assert!(matches!(
        Image::read(Path::new("https://download.haiku-os.org/haiku.iso")),
        Err(ImageError::Url { .. })
    ));
    assert!(matches!(Image::read(dir.path()), Err(ImageError::Directory { .. })));
    assert!(matches!(Image::read(&empty), Err(ImageError::Empty { .. })));
    assert!(matches!(Image::read(Path::new("/dev/null")), Err(ImageError::NotAFile { .. })));
    assert!(matches!(Image::read(&dir.path().join("none")), Err(ImageError::Open { .. })));
    assert_eq!(Image::read(&whole).unwrap(), read(&samples::anyboot()).unwrap());
}

#[test]
fn a_chain_of_extended_records_that_loops_ends() {
    let mut bytes = samples::logical();
    let second = 4096 + 8192;
    samples::entry(&mut bytes[second..], 0, false, 0x83, Extent { start: 512, size: 512 });
    samples::entry(&mut bytes[second..], 1, false, 0x05, Extent { start: 0, size: 512 });
    samples::entry(&mut bytes[second..], 2, false, 0x05, Extent { start: 0, size: 512 });
    assert!(matches!(read(&bytes), Err(ImageError::NoBfs { .. })));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        which in 0_usize..7,
        at in 0_usize..40_000,
        patch in proptest::collection::vec(proptest::num::u8::ANY, 0..32),
        length in 0_usize..200_000,
    ) {
        let mut bytes = match which {
            0 => samples::anyboot(),
            1 => samples::gpt_disk(),
            2 => samples::logical(),
            3 => samples::vmdk(),
            4 => samples::qcow2(2),
            5 => samples::bfs(32),
            _ => Vec::new(),
        };
        for (byte, new) in bytes.iter_mut().skip(at % 2048).zip(patch) {
            *byte = new;
        }
        if at % 2 == 0 {
            bytes.truncate(length);
        }
        drop(read(&bytes));
    }
}
