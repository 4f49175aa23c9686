use proptest::prelude::*;

use super::*;

const CARD: Ids = Ids { vendor: 0x1002, device: 0x68c8 };

/// Builds an image as the specification lays it out: the PCI data structure directly behind the
/// header, a device list behind that.
fn image(code_type: u8, blocks: u8, last: bool) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK * usize::from(blocks)];
    bytes[..2].copy_from_slice(&SIGNATURE);
    bytes[2] = blocks;
    bytes[0x18] = 0x1c;
    let data = &mut bytes[0x1c..];
    data[..4].copy_from_slice(b"PCIR");
    data[4..6].copy_from_slice(&CARD.vendor.to_le_bytes());
    data[6..8].copy_from_slice(&CARD.device.to_le_bytes());
    data[0x08] = 0x20;
    data[0x0a] = 0x1c;
    data[0x0c] = 3;
    data[0x0f] = 3;
    data[0x10] = blocks;
    data[0x14] = code_type;
    data[0x15] = u8::from(last) << 7;
    data[0x20..0x22].copy_from_slice(&0x68d8u16.to_le_bytes());
    if code_type == 3 {
        bytes[4..8].copy_from_slice(&EFI_SIGNATURE);
        bytes[0x08] = 11;
        bytes[0x0a..0x0c].copy_from_slice(&0x8664u16.to_le_bytes());
        bytes[0x0c] = 1;
    }
    balance(&mut bytes);
    bytes
}

fn balance(bytes: &mut [u8]) {
    let (check, rest) = bytes.split_last_mut().unwrap();
    *check = rest.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

/// A legacy image of 2 KiB and an EFI image of 1 KiB.
fn both() -> Vec<u8> {
    [image(0, 4, false), image(3, 2, true)].concat()
}

fn judge(bytes: &[u8]) -> Verdict {
    let expected = Expected { ids: Some(CARD), region: Some(4096) };
    Rom::parse(bytes).unwrap().judge(&expected)
}

#[test]
fn follows_the_chain() {
    let rom = Rom::parse(&both()).unwrap();
    let brief: Vec<_> =
        rom.images.iter().map(|image| (image.offset, image.length, image.sum_is_zero)).collect();
    assert_eq!(brief, [(0, 2048, Some(true)), (2048, 1024, None)]);
    assert_eq!(rom.images[0].kind, ImageKind::Legacy);
    let efi = ImageKind::Efi { machine: 0x8664, subsystem: 11, compressed: true };
    assert_eq!(rom.images[1].kind, efi);
    assert_eq!((rom.images[1].ids, rom.images[1].class), (CARD, Class(0x03_0000)));
    assert_eq!(rom.images[1].also, [0x68d8]);
    assert!(rom.has_legacy() && rom.has_efi_x86_64());
    let one = Rom::parse(&image(1, 1, true)).unwrap();
    assert!(!one.has_legacy() && !one.has_efi_x86_64());
    assert_eq!(one.images[0].kind.to_string(), "Open Firmware");
}

#[test]
fn a_whole_rom_may_be_padded() {
    assert_eq!(judge(&both()), Verdict::Whole);
    assert_eq!(judge(&[both(), vec![0xff; 1024]].concat()), Verdict::Whole);
}

#[test]
fn tells_how_much_is_missing() {
    let bytes = both();
    for (given, missing) in [(3071, 1), (3072 - 512, 512), (2048, 512), (1000, 1048)] {
        assert_eq!(judge(&bytes[..given]), Verdict::Truncated { missing }, "{given}");
    }
    assert_eq!(judge(&image(0, 4, false)), Verdict::Truncated { missing: 512 });
}

#[test]
fn tells_a_copy_from_the_flash() {
    let mut bytes = both();
    bytes[1000] ^= 1;
    assert_eq!(judge(&bytes), Verdict::Shadowed { signs: vec![Sign::Checksum { offset: 0 }] });

    // The rule is for legacy images.
    let mut bytes = both();
    bytes[3000] ^= 1;
    assert_eq!(judge(&bytes), Verdict::Whole);

    let of =
        |ids: Ids| Rom::parse(&both()).unwrap().judge(&Expected { ids: Some(ids), region: None });
    assert_eq!(of(Ids { device: 0x68d8, ..CARD }), Verdict::Whole);
    let signs = vec![Sign::OtherIds { found: CARD }];
    assert_eq!(of(Ids { device: 0x68d9, ..CARD }), Verdict::Shadowed { signs: signs.clone() });
    assert_eq!(of(Ids { vendor: 0x8086, ..CARD }), Verdict::Shadowed { signs });

    let expected = Expected { ids: None, region: Some(2048) };
    let signs = vec![Sign::LargerThanRegion { needed: 3072, region: 2048 }];
    assert_eq!(Rom::parse(&both()).unwrap().judge(&expected), Verdict::Shadowed { signs });
}

#[test]
fn the_sum_covers_what_the_firmware_copies() {
    // The image says that 2 of its 4 blocks are copied; what follows is free.
    let mut bytes = image(0, 4, true);
    bytes[2] = 2;
    balance(&mut bytes[..1024]);
    bytes[1500] = 7;
    assert_eq!(judge(&bytes), Verdict::Whole);
}

#[test]
fn a_chain_that_breaks_is_damaged() {
    let mut bytes = both();
    bytes[2048] = 0;
    assert_eq!(judge(&bytes), Verdict::Damaged { offset: 2048 });
    let mut bytes = both();
    bytes[2048 + 0x1c + 0x10] = 0;
    assert_eq!(judge(&bytes), Verdict::Damaged { offset: 2048 });
}

#[test]
fn says_what_is_no_rom() {
    let mut foreign = image(0, 4, true);
    foreign[1] = 0x55;
    for (bytes, expected) in [
        (Vec::new(), NotARom::Empty),
        (vec![0xff; 4096], NotARom::Blank(0xff)),
        (vec![0; 4096], NotARom::Blank(0)),
        (vec![0x55, 0xaa], NotARom::CutHeader(510)),
        (both()[..0x30].to_vec(), NotARom::CutHeader(464)),
        (vec![0x55, 0xab], NotARom::NoImage),
        (foreign, NotARom::NoImage),
        ([vec![b'N'; 0x600], both()].concat(), NotARom::Prefixed(0x600)),
    ] {
        assert_eq!(Rom::parse(&bytes), Err(expected));
    }
}

/// The ROMs that come with QEMU, on a machine that has them.
#[test]
fn reads_the_roms_of_qemu() {
    let e1000e = Ids { vendor: 0x8086, device: 0x10d3 };
    let vga = Ids { vendor: 0x1234, device: 0x1111 };
    for (path, ids, legacy, efi) in [
        ("/usr/lib/ipxe/qemu/efi-e1000e.rom", e1000e, true, true),
        ("/usr/lib/ipxe/qemu/pxe-e1000e.rom", e1000e, true, false),
        ("/usr/share/seabios/vgabios-stdvga.bin", vga, true, false),
    ] {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let rom = Rom::parse(&bytes).unwrap();
        assert_eq!((rom.has_legacy(), rom.has_efi_x86_64()), (legacy, efi), "{path}");
        let expected = Expected { ids: Some(ids), region: Some(1 << 20) };
        assert_eq!(rom.judge(&expected), Verdict::Whole, "{path}: {rom:#?}");
        match Rom::parse(&bytes[..bytes.len() / 2]) {
            Ok(cut) => assert!(matches!(cut.judge(&expected), Verdict::Truncated { .. }), "{path}"),
            // The data structure of SeaVGABIOS is at its end.
            Err(cut) => assert!(matches!(cut, NotARom::CutHeader(_)), "{path}: {cut}"),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_followed_within_bounds(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        whole: bool,
        at in 0usize..2600,
        value: u8,
    ) {
        if whole {
            bytes = both();
        }
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        if let Ok(rom) = Rom::parse(&bytes) {
            prop_assert!(rom.images.len() <= bytes.len() / BLOCK + 1);
            prop_assert!(rom.images.windows(2).all(|pair| pair[0].offset < pair[1].offset));
            if rom.end == End::Last {
                prop_assert!(rom.length() <= bytes.len());
            }
            rom.judge(&Expected { ids: Some(CARD), region: Some(1) });
        }
    }

    #[test]
    fn a_cut_rom_misses_what_was_cut(cut in 1usize..1024) {
        let bytes = both();
        let Verdict::Truncated { missing } = judge(&bytes[..bytes.len() - cut]) else {
            return Err(TestCaseError::fail("not truncated"));
        };
        // Where the second header is cut too, its first block is all that is known to be missing.
        prop_assert!(missing == cut || (missing == cut - BLOCK && cut > 1024 - 0x34));
    }
}
