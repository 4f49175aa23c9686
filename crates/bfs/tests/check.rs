//! What the check says of volumes that Haiku's own tools made.

mod common;

use bfs::{Class, Options, Volume, check, repair};
use common::{corrupt_bitmap, fixture, make};

#[test]
fn volumes_of_haikus_own_tools_are_clean() {
    for name in ["std2048", "index2048", "v1024", "v8192", "dirtylog2048-replayed"] {
        let report = check(&mut fixture(name)).unwrap();
        assert!(report.is_clean(), "{name}: {:#?}", report.findings);
        let notes: Vec<_> = report.notes.iter().map(|note| note.damage.problem.as_str()).collect();
        let expected: &[_] = match name {
            // Its two attributes are older than their indices.
            "std2048" => &[
                "the index `META:test` lacks the value of inode 34281",
                "the index `MY:int32` lacks the value of inode 34276",
                "the index `last_modified` lacks the value of inode 17922",
                "the index `last_modified` has a wrong value for inode 17922",
            ],
            _ => &[],
        };
        assert_eq!(notes, expected, "{name}");
    }
}

#[test]
fn a_volume_that_was_not_unmounted_is_a_finding_and_nothing_else() {
    let report = check(&mut fixture("dirtylog2048")).unwrap();
    let classes: Vec<_> = report.findings.iter().map(|finding| finding.class).collect();
    assert_eq!(classes, [Class::Log]);
}

/// The numbers are those of `checkfs`, but that it reserves the boot block, bitmap and log before,
/// and counts links and attributes as files.
#[test]
fn a_damaged_bitmap_is_found() {
    let report = check(&mut corrupt_bitmap()).unwrap();
    assert!(report.findings.iter().all(|finding| finding.class == Class::Bitmap));
    assert_eq!(report.missing_blocks, 12500);
    assert_eq!((report.files, report.directories, report.large_attributes), (1506, 7, 1));
}

#[test]
fn a_damaged_bitmap_is_repaired() {
    let mut bytes = corrupt_bitmap();
    let repaired = repair(&mut bytes, &Options::default()).unwrap();
    assert_eq!(repaired.before.missing_blocks, 12500);
    assert!(repaired.after.is_clean(), "{:#?}", repaired.after.findings);
    // But for that, it is the volume that it was before the damage.
    let before = fixture("std2048");
    let different: Vec<_> = (0..before.len() / 2048)
        .filter(|block| {
            let range = block * 2048..(block + 1) * 2048;
            bytes[range.clone()] != before[range]
        })
        .collect();
    // The super block and entries of the log.
    let log = 4..2052;
    assert!(different.iter().all(|block| *block == 0 || log.contains(block)), "{different:?}");
}

#[test]
fn an_index_is_repaired() {
    let mut volume = make(2048, 8 << 20);
    let root = volume.root();
    for index in 0..50 {
        let name = format!("file{index}");
        volume.write_file(root, name.as_bytes(), 0, &mut [1; 50].as_slice(), index % 7).unwrap();
    }
    let node = volume.lookup(b"file3").unwrap();
    let mut bytes = volume.into_storage();
    // The inode has another time than the index.
    let at = usize::try_from(node.block() * 2048).unwrap() + 36;
    bytes[at + 2] ^= 1;
    let report = check(&mut bytes).unwrap();
    assert_eq!(report.findings.len(), 2, "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.class == Class::Index));
    let repaired = repair(&mut bytes, &Options::default()).unwrap();
    assert!(repaired.after.is_clean(), "{:#?}", repaired.after.findings);
    let mut volume = Volume::open(bytes, &Options::default()).unwrap();
    let mut count = 0;
    volume
        .query(b"last_modified", |_, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(count, 50);
}

#[test]
fn the_count_of_used_blocks_and_the_index_of_an_attribute_are_repaired() {
    let mut volume = make(2048, 8 << 20);
    let root = volume.root();
    let node = volume.write_file(root, b"file", 0, &mut [1; 50].as_slice(), 50).unwrap();
    volume.set_attribute(node, b"BEOS:APP_SIG", 0x4353_5452, b"application/x-a").unwrap();
    let used = volume.info().used_blocks;
    let mut bytes = volume.into_storage();
    // used_blocks of disk_super_block (Haiku, .../bfs/bfs.h).
    bytes[512 + 56] ^= 0x10;
    let inode = usize::try_from(node.block() * 2048).unwrap();
    let value = bytes[inode..inode + 2048].windows(3).position(|part| part == b"x-a").unwrap();
    bytes[inode + value + 2] = b'b';
    let report = check(&mut bytes).unwrap();
    let classes: Vec<_> = report.findings.iter().map(|finding| finding.class).collect();
    assert_eq!(classes, [Class::Index, Class::Bitmap], "{:#?}", report.findings);
    let repaired = repair(&mut bytes, &Options::default()).unwrap();
    assert!(repaired.after.is_clean(), "{:#?}", repaired.after.findings);
    let mut volume = Volume::open(bytes, &Options::default()).unwrap();
    assert_eq!(volume.info().used_blocks, used);
    let mut found = Vec::new();
    volume
        .query(b"BEOS:APP_SIG", |value, node| {
            found.push((value.to_vec(), node));
            Ok(())
        })
        .unwrap();
    assert_eq!(found, [(b"application/x-b".to_vec(), node)]);
}

#[test]
fn what_cannot_be_told_is_left_alone() {
    let mut volume = make(2048, 8 << 20);
    let root = volume.root();
    let node = volume.write_file(root, b"file", 0, &mut [1; 50].as_slice(), 50).unwrap();
    let mut bytes = volume.into_storage();
    bytes[usize::try_from(node.block() * 2048).unwrap()] ^= 1;
    bytes[2048 + 70] = 0;
    let before = bytes.clone();
    let repaired = repair(&mut bytes, &Options::default()).unwrap();
    assert!(!repaired.after.is_clean());
    assert_eq!(repaired.before, repaired.after);
    assert!(bytes == before);
}
