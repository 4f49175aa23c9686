//! What is written reads back, and the check finds nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bfs::{Error, Kind, MakeOptions, NodeId, Options, Time, Volume, check};
use common::{SIZES, fixture, make, pattern, sound, with_small_log};

fn read(volume: &mut Volume<Vec<u8>>, node: NodeId) -> Vec<u8> {
    let size = usize::try_from(volume.metadata(node).unwrap().size).unwrap();
    let mut content = vec![0; size + 1];
    assert_eq!(volume.read(node, 0, &mut content).unwrap(), size);
    content.truncate(size);
    content
}

#[test]
fn a_new_volume_is_clean_and_like_haikus() {
    for block_size in SIZES {
        let volume = make(block_size, 32 << 20);
        let info = volume.info();
        assert_eq!((info.name.as_str(), info.block_size), ("Test", block_size));
        let mut volume = sound(volume);
        let names: Vec<_> = volume.indices().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"BEOS:APP_SIG".as_slice(), b"last_modified", b"name", b"size"]);
        let root = volume.root();
        assert_eq!(volume.entries(root).unwrap().count(), 0);
    }
}

#[test]
fn files_of_all_sizes_read_back() {
    for block_size in SIZES {
        let mut volume = make(block_size, 64 << 20);
        let root = volume.root();
        for size in [0, 1, 143, 144, 1023, 1024, 8192, 8193, 65536, 3_000_001] {
            let content = pattern(size, 1);
            let name = format!("file{size}");
            let mut source = content.as_slice();
            let node =
                volume.write_file(root, name.as_bytes(), 0o640, &mut source, size as u64).unwrap();
            assert_eq!(read(&mut volume, node), content);
            let metadata = volume.metadata(node).unwrap();
            assert_eq!((metadata.kind, metadata.permissions), (Kind::File, 0o640));
        }
        let mut volume = sound(volume);
        // Every one is replaced by another, the node staying the same.
        for size in [0, 1, 143, 144, 1023, 1024, 8192, 8193, 65536, 3_000_001] {
            let name = format!("/file{size}");
            let node = volume.lookup(name.as_bytes()).unwrap();
            let content = pattern(3_000_001 - size, 2);
            let length = content.len() as u64;
            let again = volume
                .write_file(root, &name.as_bytes()[1..], 0, &mut content.as_slice(), length)
                .unwrap();
            assert_eq!(again, node);
            assert_eq!(read(&mut volume, node), content);
        }
        let volume = sound(volume);
        drop(volume);
    }
}

#[test]
fn files_grow_and_shrink() {
    for block_size in SIZES {
        let mut volume = make(block_size, 32 << 20);
        let root = volume.root();
        let node = volume.create_file(root, b"grows", 0o644).unwrap();
        let mut model = Vec::new();
        for (offset, length) in [(0, 10), (10, 5000), (2000, 100), (100_000, 1), (5010, 20_000)] {
            let bytes = pattern(length, offset);
            volume.write(node, offset as u64, &bytes).unwrap();
            model.resize(model.len().max(offset + length), 0);
            model[offset..offset + length].copy_from_slice(&bytes);
            assert_eq!(read(&mut volume, node), model, "{offset}");
        }
        for size in [99_000, 1, 0, 50_000, 49_999, 60_001] {
            volume.truncate(node, size).unwrap();
            model.resize(usize::try_from(size).unwrap(), 0);
            assert_eq!(read(&mut volume, node), model, "{size}");
        }
        volume.append(node, b"end").unwrap();
        model.extend_from_slice(b"end");
        assert_eq!(read(&mut volume, node), model);
        sound(volume);
    }
}

/// What is too much for one transaction is done in several: content last of all takes its place.
#[test]
fn a_log_that_is_too_small_is_enough() {
    for block_size in SIZES {
        let bytes = with_small_log(make(block_size, 16 << 20).into_storage(), 64);
        let options =
            Options { clock: || Duration::from_secs(1_795_000_000), ..Options::default() };
        let mut volume = Volume::open(bytes, &options).unwrap();
        let root = volume.root();
        let put = |volume: &mut Volume<Vec<u8>>, name: &[u8], content: &[u8]| {
            let mut source = content;
            volume.write_file(root, name, 0o600, &mut source, content.len() as u64)
        };
        let mut model = pattern(2_000_003, 1);
        let node = put(&mut volume, b"file", &model).unwrap();
        volume.set_attribute(node, b"BEOS:TYPE", 1, b"stays").unwrap();
        let mut volume = sound(volume);
        assert_eq!(read(&mut volume, node), model);
        model = pattern(1_500_000, 2);
        assert_eq!(put(&mut volume, b"file", &model).unwrap(), node);
        assert_eq!(volume.attribute(node, b"BEOS:TYPE").unwrap().value, b"stays");
        let mut volume = sound(volume);
        assert_eq!(read(&mut volume, node), model);
        let more = pattern(900_000, 3);
        volume.write(node, 1_600_000, &more).unwrap();
        model.resize(1_600_000, 0);
        model.extend(&more);
        assert_eq!(read(&mut volume, node), model);
        volume.truncate(node, 4_000_000).unwrap();
        model.resize(4_000_000, 0);
        let mut volume = sound(volume);
        assert_eq!(read(&mut volume, node), model);
        let error = volume.write_file(root, b"file", 0, &mut [0; 10].as_slice(), 600_000);
        assert!(matches!(error, Err(Error::Source(_))), "{error:?}");
        put(&mut volume, b"other", &more).unwrap();
        volume.rename(root, b"other", root, b"file").unwrap();
        let entries: Vec<_> = volume.entries(root).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        let mut volume = sound(volume);
        let node = volume.lookup(b"file").unwrap();
        assert_eq!(read(&mut volume, node), more);
        volume.remove(root, b"file").unwrap();
        sound(volume);
    }
}

/// Most of the free space is in small pieces, so that a file has thousands of runs.
#[test]
fn files_in_thousands_of_runs_read_back_and_go_away() {
    for block_size in SIZES {
        let mut volume = make(block_size, 100 << 20);
        let root = volume.root();
        let unit = u64::from(block_size);
        let filler = volume.create_directory(root, b"filler", 0o755).unwrap();
        volume.batch();
        for index in 0..2500 {
            // The smallest piece that the double indirect range can take has 4096 bytes.
            for (which, size) in [("keep", 1), ("go", 4096)] {
                let name = format!("{which}{index:05}");
                let content = pattern(size, 1);
                let size = size as u64;
                volume
                    .write_file(filler, name.as_bytes(), 0, &mut content.as_slice(), size)
                    .unwrap();
            }
        }
        for index in 0..2500 {
            volume.remove(filler, format!("go{index:05}").as_bytes()).unwrap();
        }
        volume.sync().unwrap();
        let mut volume = sound(volume);
        let info = volume.info();
        let free = (info.blocks - info.used_blocks) * unit;
        let content = pattern(usize::try_from(free * 17 / 20).unwrap(), 7);
        let length = content.len() as u64;
        let node = volume.write_file(root, b"many", 0, &mut content.as_slice(), length).unwrap();
        assert_eq!(read(&mut volume, node), content, "{block_size}");
        let mut volume = sound(volume);
        for size in [length - 1, length / 2, length / 7, 100_000, 5] {
            volume.truncate(node, size).unwrap();
            assert_eq!(read(&mut volume, node), content[..usize::try_from(size).unwrap()]);
        }
        volume.remove(root, b"many").unwrap();
        let after = volume.info();
        assert_eq!(after.used_blocks, info.used_blocks);
        sound(volume);
    }
}

#[test]
fn a_directory_of_many_entries_is_right_at_every_size() {
    let mut volume = make(2048, 64 << 20);
    let root = volume.root();
    let directory = volume.create_directory(root, b"many", 0o755).unwrap();
    let name = |index: usize| format!("{:0width$}", index * 7919 % 3001, width = 4 + index % 200);
    let mut names: Vec<_> = (0..3000).map(name).collect();
    for name in &names {
        volume.create_file(directory, name.as_bytes(), 0o644).unwrap();
    }
    let mut volume = sound(volume);
    let listed = |volume: &mut Volume<Vec<u8>>| -> Vec<String> {
        let entries = volume.entries(directory).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().name).unwrap()).collect()
    };
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(listed(&mut volume), sorted);
    for (round, part) in [(0, 2900), (1, 90), (2, 10)] {
        for name in names.drain(..part) {
            volume.remove(directory, name.as_bytes()).unwrap();
        }
        volume = sound(volume);
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(listed(&mut volume), sorted, "{round}");
    }
    volume.remove(root, b"many").unwrap();
    sound(volume);
}

#[test]
fn links_and_names_of_every_length() {
    for block_size in SIZES {
        let mut volume = make(block_size, 16 << 20);
        let root = volume.root();
        for length in [1, 143, 144, 145, 1024, 4095] {
            let target = "t".repeat(length);
            let name = format!("link{length}");
            let node = volume.create_symlink(root, name.as_bytes(), target.as_bytes()).unwrap();
            assert_eq!(volume.read_link(node).unwrap(), target.as_bytes());
            assert_eq!(volume.metadata(node).unwrap().size, length as u64);
        }
        for length in [1, 2, 100, 254, 255] {
            volume.create_directory(root, "n".repeat(length).as_bytes(), 0o755).unwrap();
        }
        for (name, expected) in [
            ("n".repeat(256), "more than 255"),
            (String::new(), "empty"),
            (".".to_owned(), "already"),
            ("..".to_owned(), "already"),
            ("a/b".to_owned(), "slash"),
            ("a\0b".to_owned(), "zero"),
        ] {
            let error = volume.create_file(root, name.as_bytes(), 0).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        sound(volume);
    }
}

#[test]
fn attributes_small_and_large_come_and_go() {
    for block_size in SIZES {
        let mut volume = make(block_size, 16 << 20);
        let root = volume.root();
        let node = volume.create_file(root, b"file", 0o644).unwrap();
        let mut model = std::collections::BTreeMap::new();
        let mut set = |volume: &mut Volume<Vec<u8>>, name: &str, size: usize| {
            let value = pattern(size, name.len());
            volume.set_attribute(node, name.as_bytes(), 0x4353_5452, &value).unwrap();
            model.insert(name.to_owned(), value);
            for (name, value) in &model {
                assert_eq!(&volume.attribute(node, name.as_bytes()).unwrap().value, value);
            }
            let infos = volume.attributes(node).unwrap();
            assert_eq!(infos.len(), model.len());
        };
        for index in 0..40 {
            set(&mut volume, &format!("attribute {index}"), index * 37 % 600);
        }
        set(&mut volume, "attribute 3", 70_000);
        set(&mut volume, "attribute 3", 3);
        set(&mut volume, "attribute 5", 0);
        set(&mut volume, "BEOS:APP_SIG", 30);
        set(&mut volume, "BEOS:APP_SIG", 300);
        let mut volume = sound(volume);
        volume.rename(root, b"file", root, "f".repeat(255).as_bytes()).unwrap();
        let mut volume = sound(volume);
        for (name, value) in &model {
            assert_eq!(&volume.attribute(node, name.as_bytes()).unwrap().value, value);
        }
        for name in model.keys().step_by(2) {
            volume.remove_attribute(node, name.as_bytes()).unwrap();
            let error = volume.remove_attribute(node, name.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::NotFound(_)));
        }
        let mut volume = sound(volume);
        volume.remove(root, "f".repeat(255).as_bytes()).unwrap();
        let mut entries = 0;
        volume
            .query(b"BEOS:APP_SIG", |_, _| {
                entries += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(entries, 0);
        sound(volume);
    }
}

#[test]
fn nodes_move() {
    let mut volume = make(2048, 16 << 20);
    let root = volume.root();
    let one = volume.create_directory(root, b"one", 0o755).unwrap();
    let two = volume.create_directory(one, b"two", 0o755).unwrap();
    let file = volume.create_file(two, b"file", 0o644).unwrap();
    volume.rename(two, b"file", root, b"moved").unwrap();
    assert_eq!(volume.lookup(b"moved").unwrap(), file);
    assert_eq!(volume.name(file).unwrap(), b"moved");
    let error = volume.rename(root, b"one", two, b"loop").unwrap_err();
    assert!(matches!(error, Error::IntoItself(_)), "{error}");
    volume.rename(one, b"two", root, b"two").unwrap();
    volume.rename(root, b"one", two, b"one").unwrap();
    assert_eq!(volume.lookup(b"/two/one").unwrap(), one);
    let other = volume.create_file(root, b"other", 0o644).unwrap();
    assert!(matches!(volume.rename(root, b"two", root, b"other"), Err(Error::NotADirectory(_))));
    assert!(matches!(volume.rename(root, b"other", root, b"two"), Err(Error::IsADirectory(_))));
    volume.rename(root, b"moved", root, b"other").unwrap();
    assert_eq!(volume.lookup(b"other").unwrap(), file);
    assert_ne!(other, file);
    assert!(matches!(volume.remove(root, b"two"), Err(Error::NotEmpty(_))));
    let times = (Time::new(1, 0), Time::new(1_000_000_000, 5));
    volume.set_times(file, Some(times.0), Some(times.1)).unwrap();
    volume.set_owner(file, Some(0o4711), Some(7), None).unwrap();
    let metadata = volume.metadata(file).unwrap();
    assert_eq!((metadata.created, metadata.modified), times);
    assert_eq!((metadata.permissions, metadata.uid), (0o4711, 7));
    sound(volume);
}

#[test]
fn a_full_volume_says_so_and_stays_whole() {
    for block_size in SIZES {
        let mut volume = make(block_size, 12 << 20);
        let root = volume.root();
        let mut count = 0;
        let error = loop {
            let content = pattern(300_000, count);
            let name = format!("file{count}");
            let mut source = content.as_slice();
            match volume.write_file(root, name.as_bytes(), 0, &mut source, 300_000) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        let mut volume = sound(volume);
        // What is there can still be replaced, and what goes makes room.
        let content = pattern(300_001, 9);
        let node = volume.write_file(root, b"file0", 0, &mut content.as_slice(), 300_001).unwrap();
        assert_eq!(read(&mut volume, node), content);
        loop {
            let name = format!("small{count}");
            match volume.create_file(root, name.as_bytes(), 0) {
                Ok(_) => count += 1,
                Err(error) => break assert!(matches!(error, Error::NoSpace { .. }), "{error}"),
            }
        }
        let mut volume = sound(volume);
        volume.remove(root, b"file1").unwrap();
        volume.create_directory(root, b"room", 0).unwrap();
        sound(volume);
    }
}

/// In a batch, what was freed cannot be used before it is written: near the end of the space that
/// must not be noticed.
#[test]
fn a_batch_on_a_full_volume_uses_what_it_freed() {
    for block_size in SIZES {
        let mut volume = make(block_size, 12 << 20);
        let root = volume.root();
        volume.batch();
        let put = |volume: &mut Volume<Vec<u8>>, name: &str, seed: usize| {
            let content = pattern(600_000, seed);
            volume.write_file(root, name.as_bytes(), 0, &mut content.as_slice(), 600_000)
        };
        let mut count = 0;
        while put(&mut volume, &format!("file{count}"), count).is_ok() {
            count += 1;
        }
        for round in 0..3 {
            for index in 0..count {
                let name = format!("file{index}");
                if index % 3 == round {
                    volume.remove(root, name.as_bytes()).unwrap();
                }
                put(&mut volume, &name, index + round).unwrap();
            }
        }
        volume.sync().unwrap();
        let mut volume = sound(volume);
        for index in 0..count {
            let node = volume.lookup(format!("file{index}").as_bytes()).unwrap();
            assert_eq!(read(&mut volume, node), pattern(600_000, index + 2));
        }
    }
}

#[test]
fn a_source_that_ends_early_changes_nothing() {
    let mut volume = make(2048, 12 << 20);
    let root = volume.root();
    let node = volume.write_file(root, b"file", 0, &mut b"old".as_slice(), 3).unwrap();
    let before = volume.info();
    let error = volume.write_file(root, b"file", 0, &mut b"new".as_slice(), 4).unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    let error = volume.write_file(root, b"other", 0, &mut b"new".as_slice(), 5000).unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    assert_eq!(read(&mut volume, node), b"old");
    assert_eq!(volume.info(), before);
    sound(volume);
}

/// Volumes of Haiku's own tools, with their trees and duplicates, are changed and stay clean.
#[test]
fn haikus_own_volumes_can_be_emptied_and_filled() {
    for name in ["index2048", "std2048", "dirtylog2048", "v1024", "v8192"] {
        let options =
            Options { clock: || Duration::from_millis(1_795_000_000_123), ..Options::default() };
        let mut volume = Volume::open(fixture(name), &options).unwrap();
        let root = volume.root();
        let copy = volume.create_directory(root, b"of ours", 0o755).unwrap();
        for index in 0..300 {
            let name = format!("driver{index}");
            let content = pattern(index * 100, 1);
            let size = content.len() as u64;
            let node = volume
                .write_file(copy, name.as_bytes(), 0o755, &mut content.as_slice(), size)
                .unwrap();
            let value = (index as u64 % 3).to_le_bytes();
            volume.set_attribute(node, b"MY:i64", 0x4c4c_4e47, &value).unwrap();
            volume.set_attribute(node, b"META:name", 0x4353_5452, b"the same").unwrap();
        }
        volume = sound(volume);
        empty(&mut volume, root);
        volume = sound(volume);
        let report = check(&mut volume.into_storage()).unwrap();
        assert_eq!((report.files, report.directories), (0, 1), "{name}");
    }
}

fn empty(volume: &mut Volume<Vec<u8>>, directory: NodeId) {
    let entries: Vec<_> = volume.entries(directory).unwrap().map(Result::unwrap).collect();
    for entry in entries {
        if volume.metadata(entry.node).unwrap().kind == Kind::Directory {
            empty(volume, entry.node);
        }
        volume.remove(directory, &entry.name).unwrap();
    }
}

#[test]
fn a_volume_for_reading_is_not_written() {
    let bytes = make(1024, 12 << 20).into_storage();
    let mut volume = Volume::open(bytes.as_slice(), &Options::read_only()).unwrap();
    let root = volume.root();
    assert!(matches!(volume.create_file(root, b"x", 0), Err(Error::ReadOnly)));
    let wrong = MakeOptions { block_size: 512, ..MakeOptions::new("x") };
    assert!(Volume::make(vec![0; 1 << 20], &wrong).is_err());
}
