use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;
use testkit::boot::pe;

use super::*;

/// One entry of an archive: header fields that matter, name and contents.
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    inode: u32,
    links: u32,
    contents: &'a [u8],
}

fn file<'a>(name: &'a str, contents: &'a [u8]) -> Entry<'a> {
    Entry { name, mode: 0o100_644, inode: 0, links: 1, contents }
}

fn link<'a>(name: &'a str, target: &'a str) -> Entry<'a> {
    Entry { mode: 0o120_777, ..file(name, target.as_bytes()) }
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries.iter().chain([&file("TRAILER!!!", b"")]) {
        let fields = [
            entry.inode,
            entry.mode,
            0,
            0,
            entry.links,
            0,
            u32::try_from(entry.contents.len()).unwrap(),
            0,
            0,
            0,
            0,
            u32::try_from(entry.name.len() + 1).unwrap(),
            0,
        ];
        bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(bytes, "{field:08X}").unwrap();
        }
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(entry.contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn packed(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::None => bytes.to_owned(),
        Packing::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Xz | Packing::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            let stream = match packing {
                Packing::Xz => Stream::new_easy_encoder(0, liblzma::stream::Check::Crc32),
                _ => Stream::new_lzma_encoder(&options),
            };
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        Packing::Lz4 => {
            let block = stored_lz4(bytes);
            let mut frame = 0x184c_2102_u32.to_le_bytes().to_vec();
            frame.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            frame.extend(block);
            frame
        }
        Packing::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

use liblzma::stream::Stream;

/// A block of literals only (lz4_Block_format.md).
fn stored_lz4(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    match bytes.len() {
        short @ ..15 => block.push(u8::try_from(short).unwrap() << 4),
        long => {
            block.push(0xf0);
            let mut rest = long - 15;
            while rest >= 255 {
                block.push(255);
                rest -= 255;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend_from_slice(bytes);
    block
}

const PACKINGS: [Packing; 7] = [
    Packing::None,
    Packing::Gzip,
    Packing::Xz,
    Packing::Lzma,
    Packing::Zstd,
    Packing::Lz4,
    Packing::Bzip2,
];

fn read(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::read(bytes, |_| true, Limits::default())
}

fn paths(image: &Image) -> Vec<&str> {
    image.members().iter().map(|member| member.path.to_str().unwrap()).collect()
}

#[test]
fn every_packing_is_read_behind_microcode_and_before_more() {
    for packing in PACKINGS {
        let mut image = archive(&[file("kernel/x86/microcode/AuthenticAMD.bin", b"\x01\0code")]);
        image.resize(image.len().next_multiple_of(512), 0);
        let offset = image.len();
        image.extend(packed(packing, &archive(&[file("./init", b"one"), file("etc/x", b"two")])));
        if packing != Packing::Lz4 {
            // Nothing but the end of the image tells the end of this one.
            image.extend(packed(Packing::Zstd, &archive(&[file("/init", b"three")])));
        } else {
            image.extend([0; 12]);
        }
        let image = read(&image).unwrap();
        assert_eq!(image.parts()[0], Part { offset: 0, packing: Packing::None });
        let second = Part { offset: u64::try_from(offset).unwrap(), packing };
        assert_eq!(image.parts()[1], second);
        let init: &[u8] = if packing == Packing::Lz4 { b"one" } else { b"three" };
        assert_eq!(image.contents("init"), Some(init), "{packing}");
        assert_eq!(image.contents("/etc/x"), Some(&b"two"[..]), "{packing}");
    }
}

#[test]
fn links_are_followed_inside_the_image() {
    let image = archive(&[
        link("lib", "usr/lib"),
        link("usr/lib/here", "/lib/../lib/conf"),
        file("usr/lib/conf", b"found"),
        link("loop", "loop"),
        Entry { inode: 7, links: 2, ..file("bin/first", b"") },
        Entry { inode: 7, links: 2, ..file("bin/second", b"contents") },
        file("empty", b""),
    ]);
    let image = read(&image).unwrap();
    assert_eq!(image.contents("lib/here"), Some(&b"found"[..]));
    assert_eq!(image.contents("lib/../../lib/conf"), Some(&b"found"[..]));
    assert_eq!(image.contents("loop"), None);
    assert_eq!(image.contents("bin/first"), Some(&b"contents"[..]));
    assert_eq!(image.contents("empty"), Some(&b""[..]));
    assert_eq!(image.below("bin"), [Path::new("bin/first"), Path::new("bin/second")]);
    assert!(image.find("usr/lib").is_none(), "a directory without a member of its own");
}

#[test]
fn what_is_no_image_is_told() {
    let good = archive(&[file("a", b"contents")]);
    let mut no_hex = good.clone();
    no_hex[10] = b'+';
    let mut long_name = good.clone();
    long_name[94..102].copy_from_slice(b"FFFFFFFF");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("junk", b"junk".to_vec(), "at byte 0 is no archive"),
        ("junk behind", [&good[..], b"junk"].concat(), "at byte 244 is no archive"),
        ("a number", no_hex, "the archive is damaged before byte 110"),
        ("a long name", long_name, "the archive is damaged before byte 110"),
        ("cut", good[..120].to_vec(), "the image cannot be unpacked"),
        ("no end", good[..124].to_vec(), "the image cannot be unpacked"),
        (
            "outside",
            archive(&[file("usr/../../etc/shadow", b"")]),
            "a member leads out of the image: usr/../../etc/shadow",
        ),
        ("cut gzip", packed(Packing::Gzip, &good)[..30].to_vec(), "the image cannot be unpacked"),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read(&bytes).unwrap_err().to_string(), expected, "{name}");
    }
}

#[test]
fn an_image_is_held_to_its_limits() {
    let limits = Limits { members: 3, unpacked: 1 << 20, kept: 10 };
    let read = |bytes: &[u8]| Image::read(bytes, |_| true, limits).unwrap_err().to_string();
    let four = ["a", "b", "c", "d"].map(|name| file(name, b""));
    assert_eq!(read(&archive(&four)), "the image holds more than 3 members");
    let much = archive(&[file("a", b"12345678901")]);
    assert_eq!(read(&much), "the image holds more than 10 bytes to keep");
    // Zeros between archives are no member, and cost nothing to pack.
    for packing in PACKINGS.into_iter().filter(|packing| *packing != Packing::None) {
        let bomb = packed(packing, &vec![0; 2 << 20]);
        assert_eq!(read(&bomb), "the image cannot be unpacked", "{packing}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_packed_is_read_again(
        parts in prop::collection::vec(
            (
                prop::collection::vec(("[a-z]{1,9}(/[a-z.]{1,5}x)?", any::<Vec<u8>>()), 0..6),
                prop::sample::select(&PACKINGS[..]),
                0..9_usize,
            ),
            1..5,
        )
    ) {
        let mut image = Vec::new();
        let mut expected = Vec::new();
        let mut last = BTreeMap::new();
        let count = parts.len();
        for (index, (files, packing, zeros)) in parts.into_iter().enumerate() {
            let packing = match packing {
                Packing::Lz4 if index + 1 < count => Packing::Gzip,
                other => other,
            };
            let entries: Vec<_> = files.iter().map(|(name, bytes)| file(name, bytes)).collect();
            image.extend(packed(packing, &archive(&entries)));
            image.resize(image.len() + zeros, 0);
            for (name, bytes) in files {
                expected.push(name.clone());
                last.insert(name, bytes);
            }
        }
        let image = read(&image).unwrap();
        prop_assert_eq!(paths(&image), expected);
        for (name, bytes) in &last {
            prop_assert_eq!(image.contents(name), Some(&bytes[..]));
        }
    }

    #[test]
    fn damage_never_panics(
        packing in prop::sample::select(&PACKINGS[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(&[file("init", b"one"), link("a", "init"), file("b", b"two")]);
        bytes = packed(packing, &bytes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(read(&bytes));
        bytes.truncate(cut.index(bytes.len()));
        drop(read(&bytes));
    }
}

#[test]
fn a_unified_kernel_image_is_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let host = Sysroot::at(dir.path()).unwrap();
    let initrd = packed(Packing::Zstd, &archive(&[file("init", b"one")]));
    let bytes = pe(&[
        (".osrel", b"ID=arch\n"),
        (".cmdline", b"root=/dev/sda1 quiet\n\0"),
        (".initrd", &initrd),
        (".linux", b"MZ"),
        (".cmdline", b"another profile"),
    ]);
    std::fs::write(dir.path().join("a.efi"), &bytes).unwrap();
    let uki = Uki::open(&host, "/a.efi").unwrap();
    assert_eq!(uki.text(&host, ".cmdline").unwrap().as_deref(), Some("root=/dev/sda1 quiet"));
    assert_eq!(uki.text(&host, ".uname").unwrap(), None);
    let image = uki.initramfs(&host, |_| true).unwrap();
    assert_eq!(image.contents("init"), Some(&b"one"[..]));

    std::fs::write(dir.path().join("b.efi"), pe(&[(".linux", b"MZ")])).unwrap();
    let error = Uki::open(&host, "/b.efi").unwrap().initramfs(&host, |_| true).unwrap_err();
    assert_eq!(error.to_string(), "/b.efi has no section .initrd");
    std::fs::write(dir.path().join("c.efi"), "MZ and nothing").unwrap();
    let error = Uki::open(&host, "/c.efi").unwrap_err();
    assert_eq!(error.to_string(), "/c.efi is not a unified kernel image");
    for length in 0..bytes.len().min(1024) {
        drop(uki::sections(std::io::Cursor::new(&bytes[..length])));
    }
}

/// Shows everything but a name.
struct Hidden;

impl Shown for Hidden {
    fn path(&self, path: &std::path::Path) -> PathBuf {
        path.to_str().unwrap().replace("alice", "xxxxx").into()
    }

    fn contents(&self, _: &std::path::Path, bytes: &[u8]) -> Vec<u8> {
        bytes.to_owned()
    }
}

#[test]
fn of_a_skeleton_the_same_members_are_read_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let host = Sysroot::at(dir.path()).unwrap();
    let early = archive(&[file("kernel/x86/microcode/GenuineIntel.bin", &[7; 64])]);
    let main = archive(&[
        Entry { mode: 0o040_755, ..file("etc", b"") },
        Entry { mode: 0o100_755, ..file("etc/hook", b"#!/bin/sh\n") },
        file("etc/alice.key", b"TOPSECRET"),
        link("etc/alice", "alice.key"),
        Entry { inode: 7, links: 2, ..file("one", b"") },
        Entry { inode: 7, links: 2, ..file("two", b"held once") },
    ]);
    let bytes = [early, packed(Packing::Zstd, &main)].concat();
    std::fs::write(dir.path().join("a.img"), &bytes).unwrap();
    std::fs::write(dir.path().join("a.efi"), pe(&[(".cmdline", b"quiet"), (".initrd", &bytes)]))
        .unwrap();
    let keep = |member: &Member| ["etc/hook", "two"].iter().any(|kept| member.path.ends_with(kept));
    let whole = Image::open(&host, "/a.img", keep).unwrap();
    let shown = skeleton(&host, "/a.img".as_ref(), keep, &Hidden).unwrap();
    assert!(!shown.windows(9).any(|part| part == b"TOPSECRET"));
    assert!(!shown.windows(5).any(|part| part == b"alice"));
    let again = read(&shown).unwrap();
    assert_eq!(again.parts().len(), whole.parts().len());
    assert_eq!(again.members().len(), whole.members().len());
    for (member, before) in again.members().iter().zip(whole.members()) {
        assert_eq!(member.path, Hidden.path(&before.path));
        assert_eq!(
            (member.kind, member.mode, member.part),
            (before.kind, before.mode, before.part)
        );
    }
    for path in ["etc/hook", "one", "two"] {
        assert_eq!(again.contents(path), whole.contents(path), "{path}");
    }
    assert_eq!(again.find("etc/xxxxx").unwrap().path.to_str(), Some("etc/xxxxx.key"));
    let shown = skeleton(&host, "/a.efi".as_ref(), keep, &Hidden).unwrap();
    std::fs::write(dir.path().join("b.efi"), shown).unwrap();
    let uki = Uki::open(&host, "/b.efi").unwrap();
    assert_eq!(uki.text(&host, ".cmdline").unwrap().as_deref(), Some("quiet"));
    assert_eq!(uki.initramfs(&host, keep).unwrap().members(), again.members());
}
