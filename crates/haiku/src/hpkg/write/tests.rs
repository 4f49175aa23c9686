use super::super::{EntryKind, Package};
use super::*;

fn about() -> About {
    About {
        name: "sample_driver".to_owned(),
        version: "1.0".to_owned(),
        revision: 1,
        architecture: "x86_64".to_owned(),
        summary: "A package for tests".to_owned(),
        vendor: "kireji".to_owned(),
        packager: "kireji <none@example.org>".to_owned(),
        copyright: "2026 kireji".to_owned(),
        license: "MIT".to_owned(),
        requires: vec!["haiku".to_owned()],
    }
}

fn file(path: &str, bytes: &[u8]) -> NewEntry {
    let content = NewContent::File { bytes: bytes.to_vec(), executable: false };
    NewEntry { path: path.to_owned(), content }
}

/// The sample was made by Haiku's own tool: what we write of the same files says the same.
#[test]
fn a_package_says_what_one_of_haikus_own_tool_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sample-zlib.hpkg");
    let sample = std::fs::read(path).unwrap();
    let mut sample = Package::open(sample.as_slice()).unwrap();
    let mut expected = sample.entries().unwrap();
    let mut entries = Vec::new();
    for entry in &expected {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        match &entry.kind {
            EntryKind::File(_) if path == ".PackageInfo" => {}
            EntryKind::File(data) => {
                entries.push(file(&path, &sample.read_all(data, 1 << 20).unwrap()));
            }
            EntryKind::Symlink(target) => {
                let content = NewContent::Symlink(String::from_utf8(target.clone()).unwrap());
                entries.push(NewEntry { path, content });
            }
            EntryKind::Directory => {}
        }
    }
    let written = write(&about(), &entries, 1_795_353_294).unwrap();
    assert_eq!(written, write(&about(), &entries, 1_795_353_294).unwrap());
    let mut package = Package::open(written.as_slice()).unwrap();
    assert_eq!(package.info().unwrap(), sample.info().unwrap());
    let mut found = package.entries().unwrap();
    // It has an empty directory, which we do not write.
    expected.retain(|entry| entry.path != b"documentation");
    let by_path = |a: &super::super::Entry, b: &super::super::Entry| a.path.cmp(&b.path);
    expected.sort_by(by_path);
    found.sort_by(by_path);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.path, expected.path);
        assert_eq!(found.permissions, expected.permissions);
        assert_eq!(found.modified, expected.modified);
        match (&found.kind, &expected.kind) {
            (EntryKind::File(ours), EntryKind::File(theirs)) if found.path[0] != b'.' => {
                let ours = package.read_all(ours, 1 << 20).unwrap();
                assert!(ours == sample.read_all(theirs, 1 << 20).unwrap(), "{found:?}");
            }
            (EntryKind::File(_), EntryKind::File(_)) => {}
            (ours, theirs) => assert_eq!(ours, theirs),
        }
    }
}

/// All but the header's sizes is as the tool writes it, where the tool needs no strings.
#[test]
fn the_sections_are_bit_for_bit_as_they_should_be() {
    let bytes = write(&about(), &[file("a", b"x")], 5).unwrap();
    assert_eq!(&bytes[..8], b"hpkg\0\x50\0\x02");
    assert_eq!(&bytes[16..24], [0, 1, 0, 1, 0, 1, 0, 0]);
    let mut section = Section::default();
    Version::parse("1.0").unwrap().put(&mut section, Some(1));
    // VERSION_MAJOR: (1 << 10) + (3 << 7) + 22 + 1 = 0x597.
    let expected = b"\x97\x0b1\0\x98\x030\0\x9a\x02\x01\0";
    assert_eq!(section.0, expected);
}

#[test]
fn the_name_of_the_file_is_the_one_that_haiku_looks_for() {
    assert_eq!(about().file_name(), "sample_driver-1.0-1-x86_64.hpkg");
}

#[test]
fn what_haiku_would_not_read_is_not_written() {
    let with = |change: fn(&mut About)| {
        let mut about = about();
        change(&mut about);
        write(&about, &[], 0).unwrap_err()
    };
    assert!(matches!(with(|about| about.name = "a-b".to_owned()), WriteError::Name(_)));
    assert!(matches!(with(|about| about.version = "1.".to_owned()), WriteError::Version(_)));
    assert!(matches!(with(|about| about.version = "1-2".to_owned()), WriteError::Version(_)));
    assert_eq!(with(|about| about.vendor = " ".to_owned()), WriteError::Text("vendor"));
    assert_eq!(with(|about| about.summary = "a\nb".to_owned()), WriteError::Text("summary"));
    let odd = with(|about| about.architecture = "vax".to_owned());
    assert!(matches!(odd, WriteError::Architecture(_)));
    for paths in [&["a/../b"][..], &["/a"], &["a", "a"], &["a", "a/b"], &["a/b", "a"]] {
        let entries: Vec<_> = paths.iter().map(|path| file(path, b"")).collect();
        let error = write(&about(), &entries, 0).unwrap_err();
        assert!(matches!(error, WriteError::Path(_)), "{paths:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]

    #[test]
    fn what_is_written_reads_back(
        files in proptest::collection::btree_map("[ab]/[ab]/[a-z]{1,3}", 0_usize..200_000, 0..8),
        modified in proptest::num::u32::ANY,
        seed in proptest::num::u8::ANY,
    ) {
        let content = |size: usize| -> Vec<u8> {
            let mut state = u32::from(seed) | 1;
            // Half of it can be packed, half cannot.
            (0..size).map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 131_072 < 65_536 { 7 } else { state.to_be_bytes()[0] }
            }).collect()
        };
        let entries: Vec<_> = files.iter().map(|(path, size)| file(path, &content(*size))).collect();
        let bytes = write(&about(), &entries, u64::from(modified)).unwrap();
        let mut package = Package::open(bytes.as_slice()).unwrap();
        let mut count = 0;
        for entry in package.entries().unwrap() {
            let EntryKind::File(data) = &entry.kind else { continue };
            proptest::prop_assert_eq!(entry.modified, i64::from(modified));
            let path = String::from_utf8(entry.path.clone()).unwrap();
            let Some(size) = files.get(&path) else { continue };
            proptest::prop_assert!(package.read_all(data, 1 << 20).unwrap() == content(*size));
            count += 1;
        }
        proptest::prop_assert_eq!(count, files.len());
    }
}
