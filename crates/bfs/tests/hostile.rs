//! Volumes that are wrong: every field of every structure, one at a time, and random bytes.
//!
//! Whatever is done with such a volume ends, with an error or without; reading writes nothing; and
//! what matters to the check is found by it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use bfs::{Access, Class, Error, Kind, NodeId, Options, Storage, Volume, check};
use common::{SIZES, make, pattern};

/// Memory that fails the test when it is written.
struct Untouched<'a>(&'a [u8]);

impl Storage for Untouched<'_> {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> std::io::Result<()> {
        panic!("a volume that is only read was written")
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A volume, and where what is in it.
type Sample = (Vec<u8>, Vec<(&'static str, u64, Class)>);

/// A volume with every kind of structure.
fn sample(block_size: u32) -> Sample {
    let mut volume = make(block_size, 1500 * usize::try_from(block_size).unwrap());
    let root = volume.root();
    let directory = volume.create_directory(root, b"directory", 0o755).unwrap();
    for index in 0..200 {
        let name = format!("file with a longer name {index}");
        let content = pattern(index % 5, 1);
        let size = content.len() as u64;
        let node = volume
            .write_file(directory, name.as_bytes(), 0o644, &mut content.as_slice(), size)
            .unwrap();
        let value = format!("application/x-{}", index % 3);
        volume.set_attribute(node, b"BEOS:APP_SIG", 1, value.as_bytes()).unwrap();
    }
    let file = volume.write_file(root, b"file", 0o644, &mut [7; 9000].as_slice(), 9000).unwrap();
    volume.set_attribute(file, b"large", 1, &pattern(20_000, 1)).unwrap();
    volume.create_symlink(root, b"link", b"target").unwrap();
    // Holes that force a file into the indirect range.
    for index in 0..40 {
        let name = format!("hole{index}");
        volume.write_file(root, name.as_bytes(), 0, &mut [1; 1].as_slice(), 1).unwrap();
    }
    for index in (0..40).step_by(2) {
        volume.remove(root, format!("hole{index}").as_bytes()).unwrap();
    }
    let room = volume.info();
    let all = (room.blocks - room.used_blocks - 14) * u64::from(block_size);
    let scattered = vec![9; usize::try_from(all).unwrap()];
    volume.write_file(root, b"scattered", 0, &mut scattered.as_slice(), all).unwrap();
    let indices = volume.indices().unwrap();
    let scattered = volume.lookup(b"scattered").unwrap();
    let bytes = volume.into_storage();

    let at =
        |block: u64, offset: u64| usize::try_from(block * u64::from(block_size) + offset).unwrap();
    let run = |at: usize| {
        let word = |at: usize| u64::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
        let shift = 13 + (block_size / 1024).trailing_zeros();
        (word(at) << shift.min(16)) + word(at + 4)
    };
    let tree = |inode: u64| run(at(inode, 72));
    let mut places = vec![
        ("root inode", root.block(), Class::Inode),
        ("root tree", tree(root.block()), Class::Tree),
        ("directory inode", directory.block(), Class::Inode),
        ("directory tree", tree(directory.block()), Class::Tree),
        ("file inode", file.block(), Class::Inode),
        ("attribute directory", run(at(file.block(), 52)), Class::Inode),
        ("scattered inode", scattered.block(), Class::Stream),
        ("bitmap", 1, Class::Bitmap),
    ];
    let indirect = run(at(scattered.block(), 176));
    assert_ne!(indirect, 0, "the sample has no indirect range");
    places.push(("array of runs", indirect, Class::Stream));
    for (name, node) in indices {
        if name == b"BEOS:APP_SIG" {
            places.push(("index inode", node.block(), Class::Inode));
            let tree = tree(node.block());
            places.push(("index tree", tree, Class::Tree));
            places.push(("duplicates", tree + 1, Class::Tree));
        }
    }
    (bytes, places)
}

fn visit<S: Storage>(volume: &mut Volume<S>, node: NodeId, seen: &mut BTreeSet<NodeId>) {
    if !seen.insert(node) {
        return;
    }
    drop(volume.name(node));
    for info in volume.attributes(node).unwrap_or_default().into_iter().take(20) {
        drop(volume.attribute(node, &info.name));
    }
    match volume.metadata(node).map(|metadata| metadata.kind) {
        Ok(Kind::Directory) => {
            let entries: Vec<_> = match volume.entries(node) {
                Ok(entries) => entries.filter_map(Result::ok).take(300).collect(),
                Err(_) => return,
            };
            for entry in entries {
                visit(volume, entry.node, seen);
            }
        }
        Ok(Kind::File) => {
            let mut content = [0; 4096];
            for offset in [0, 8000, 1 << 20] {
                drop(volume.read(node, offset, &mut content));
            }
        }
        Ok(Kind::Symlink) => drop(volume.read_link(node)),
        Err(_) => {}
    }
}

/// Everything that can be done by reading.
fn read_all(bytes: &[u8]) {
    for access in [Access::Read, Access::ReadAsIs] {
        let options = Options { access, cache: 65536, ..Options::default() };
        let Ok(mut volume) = Volume::open(Untouched(bytes), &options) else { continue };
        let root = volume.root();
        visit(&mut volume, root, &mut BTreeSet::new());
        for (name, _) in volume.indices().unwrap_or_default() {
            drop(volume.query(&name, |_, _| Ok(())));
        }
    }
    drop(check(&mut Untouched(bytes)));
}

/// Some things that write. None may panic or hang, whatever it makes of the volume.
fn write_some(bytes: Vec<u8>) {
    let Ok(mut volume) = Volume::open(bytes, &Options::default()) else { return };
    let root = volume.root();
    drop(volume.write_file(root, b"new", 0, &mut [1; 5000].as_slice(), 5000));
    drop(volume.write_file(root, b"file", 0, &mut [1; 50].as_slice(), 50));
    drop(volume.remove(root, b"scattered"));
    drop(volume.rename(root, b"directory", root, b"moved"));
    if let Ok(directory) = volume.lookup(b"moved") {
        drop(volume.create_symlink(directory, b"link", b"target"));
        for index in 0..20 {
            let name = format!("file with a longer name {index}");
            drop(volume.remove(directory, name.as_bytes()));
        }
    }
    if let Ok(file) = volume.lookup(b"new") {
        drop(volume.set_attribute(file, b"BEOS:APP_SIG", 1, b"application/x-1"));
        drop(volume.set_attribute(file, b"large", 1, &[1; 9000]));
        drop(volume.append(file, &[2; 70_000]));
    }
    check(&mut volume.into_storage()).ok();
}

const VALUES: [u32; 6] = [0, 1, 0xffff_ffff, 0x7fff_ffff, 0x0000_ffff, 0xfffe_0000];

#[test]
fn every_field_of_every_structure_is_survived() {
    for block_size in [1024, 8192] {
        let (bytes, places) = sample(block_size);
        assert!(check(&mut bytes.clone()).unwrap().is_clean());
        for (name, block, _) in places {
            let start = usize::try_from(block * u64::from(block_size)).unwrap();
            // Every word of the fixed parts, and a few of what follows.
            for offset in (0..260).step_by(4).chain((260..1024).step_by(68)) {
                for value in VALUES.into_iter().skip(offset / 4 % 2).step_by(2) {
                    let mut bytes = bytes.clone();
                    let at = start + offset;
                    if bytes[at..at + 4] == value.to_le_bytes() {
                        continue;
                    }
                    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                    read_all(&bytes);
                    if block_size == 1024 && matches!(value, 1 | 0xffff_ffff) {
                        write_some(bytes);
                    }
                }
            }
            println!("{block_size} {name}");
        }
    }
}

#[test]
fn every_word_of_the_super_block_is_survived() {
    for block_size in SIZES {
        let (bytes, _) = sample(block_size);
        for offset in (512..660).step_by(4) {
            for value in VALUES.into_iter().chain([2, 13, 16, 17, 4096, 0x4953_4642]) {
                let mut bytes = bytes.clone();
                bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
                read_all(&bytes);
                write_some(bytes);
            }
        }
    }
}

/// The fields whose damage must be told, with the class and the field that the check gives.
#[test]
fn faults_of_every_class_are_found() {
    let (bytes, places) = sample(2048);
    let block = |name: &str| places.iter().find(|place| place.0 == name).unwrap().1;
    let faults: &[(&str, usize, &[u8], Class, &str)] = &[
        ("root inode", 0, &[0], Class::Inode, "magic1"),
        ("directory inode", 6, &[9], Class::Inode, "inode_num"),
        ("directory inode", 20, &[0, 0, 0, 0], Class::Inode, "mode"),
        ("directory inode", 24, &[0], Class::Inode, "flags"),
        ("file inode", 24, &[0x11], Class::Inode, "flags"),
        ("file inode", 64, &[1], Class::Inode, "inode_size"),
        ("file inode", 48, &[1], Class::Directory, "parent"),
        ("file inode", 52, &[0xff, 0xff], Class::Attribute, "attributes"),
        ("file inode", 239, &[0xff], Class::Attribute, "small_data"),
        ("file inode", 245, b"\0q", Class::Directory, "name"),
        ("file inode", 168, &[1], Class::Stream, "max_direct_range"),
        ("file inode", 78, &[2], Class::Stream, "max_direct_range"),
        ("file inode", 210, &[9], Class::Stream, "size"),
        ("scattered inode", 184, &[1], Class::Stream, "max_indirect_range"),
        ("scattered inode", 176, &[0xff], Class::Stream, "indirect"),
        ("array of runs", 6, &[0, 0], Class::Stream, "indirect"),
        ("array of runs", 0, &[0, 0, 0, 0, 0, 0, 1], Class::Stream, "indirect"),
        ("attribute directory", 0, &[0], Class::Inode, "magic1"),
        ("directory tree", 0, &[0], Class::Tree, "tree magic"),
        ("directory tree", 4, &[1], Class::Tree, "node_size"),
        ("directory tree", 8, &[9], Class::Tree, "overflow_link"),
        ("directory tree", 12, &[3], Class::Tree, "data_type"),
        ("directory tree", 17, &[1], Class::Tree, "root_node_pointer"),
        ("directory tree", 24, &[0, 8, 0, 0, 0, 0, 0, 0], Class::Tree, "overflow_link"),
        ("directory tree", 33, &[0], Class::Tree, "maximum_size"),
        ("directory tree", 1024, &[7], Class::Tree, "left_link"),
        ("directory tree", 1032, &[7], Class::Tree, "right_link"),
        ("directory tree", 1048, &[0xff], Class::Tree, "all_key_count"),
        ("directory tree", 1050, &[1], Class::Tree, "key lengths"),
        ("index inode", 20, &[0, 0], Class::Inode, "mode"),
        ("index tree", 12, &[5], Class::Tree, "data_type"),
        ("bitmap", 100, &[0x55], Class::Bitmap, "block bitmap"),
    ];
    for (place, offset, new, class, field) in faults {
        let mut bytes = bytes.clone();
        let at = usize::try_from(block(place) * 2048).unwrap() + offset;
        bytes[at..at + new.len()].copy_from_slice(new);
        let report = check(&mut bytes).unwrap();
        let found: Vec<_> =
            report.findings.iter().map(|finding| (finding.class, finding.damage.field)).collect();
        assert!(found.contains(&(*class, field)), "{place} {offset}: {:#?}", report.findings);
        // Each says which inode or block it is about.
        assert!(report.findings.iter().all(|finding| !finding.damage.problem.is_empty()));
    }
    for (offset, new, class, field) in [
        (512 + 56, [1_u8, 0, 0, 0], Class::Bitmap, "used_blocks"),
        (512 + 84, *b"TRID", Class::SuperBlock, "flags"),
        (512 + 104, [9, 9, 0, 0], Class::Log, "log_start"),
    ] {
        let mut bytes = bytes.clone();
        bytes[offset..offset + 4].copy_from_slice(&new);
        let report = check(&mut bytes).unwrap();
        let found = report.findings.iter().any(|f| (f.class, f.damage.field) == (class, field));
        assert!(found, "{field}: {:?}", report.findings);
    }
}

#[test]
fn foreign_volumes_are_named() {
    let (bytes, _) = sample(1024);
    let open = |bytes: &[u8]| Volume::open(bytes, &Options::read_only()).map(|_| ()).unwrap_err();
    let mut big = bytes.clone();
    big[512 + 32..512 + 36].reverse();
    assert!(matches!(open(&big), Error::BigEndian));
    assert!(matches!(open(&vec![0; 4096]), Error::NotBfs { field: "magic1", .. }));
    assert!(matches!(open(&[0; 100]), Error::Truncated { .. }));
    assert!(matches!(open(&bytes[..1 << 20]), Error::Truncated { .. }));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(300))]

    #[test]
    fn random_bytes_in_the_metadata_are_survived(
        patches in proptest::collection::vec(
            (0_usize..12, 0_usize..2048, proptest::num::u8::ANY), 1..12),
    ) {
        static SAMPLE: std::sync::OnceLock<Sample> =
            std::sync::OnceLock::new();
        let (bytes, places) = SAMPLE.get_or_init(|| sample(2048));
        let mut bytes = bytes.clone();
        for (place, offset, value) in patches {
            let block = places[place % places.len()].1;
            bytes[usize::try_from(block * 2048).unwrap() + offset] = value;
        }
        read_all(&bytes);
        write_some(bytes);
    }
}
