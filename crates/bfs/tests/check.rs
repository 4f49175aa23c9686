//! What the check says of volumes that Haiku's own tools made.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bfs::{Class, check};
use common::{corrupt_bitmap, fixture};

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
