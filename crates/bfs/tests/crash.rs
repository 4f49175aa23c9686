//! A process that ends at any write leaves a volume that replays to the old or the new state.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bfs::{Access, Class, Kind, NodeId, Options, Result, Storage, Volume, check};
use common::{SIZES, make, pattern};

/// Memory that takes so many writes and no more.
struct Failing {
    bytes: Vec<u8>,
    left: Rc<Cell<usize>>,
}

impl Storage for Failing {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        self.left.set(left);
        self.bytes.write_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> Duration {
    Duration::new(1_795_000_000, 5)
}

fn options(access: Access) -> Options {
    Options { access, clock, ..Options::default() }
}

type State = BTreeMap<Vec<u8>, (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>)>;

/// Everything that a user sees of a volume.
fn state<S: Storage>(volume: &mut Volume<S>, node: NodeId, path: &[u8], state: &mut State) {
    let entries: Vec<_> = volume.entries(node).unwrap().map(Result::unwrap).collect();
    for entry in entries {
        let path = [path, b"/", &entry.name].concat();
        let metadata = volume.metadata(entry.node).unwrap();
        let content = match metadata.kind {
            Kind::Directory => {
                self::state(volume, entry.node, &path, state);
                Vec::new()
            }
            Kind::Symlink => volume.read_link(entry.node).unwrap(),
            Kind::File => {
                let mut content = vec![0; usize::try_from(metadata.size).unwrap()];
                volume.read(entry.node, 0, &mut content).unwrap();
                content
            }
        };
        let mut attributes = Vec::new();
        for info in volume.attributes(entry.node).unwrap() {
            let value = volume.attribute(entry.node, &info.name).unwrap().value;
            attributes.push((info.name, value));
        }
        state.insert(path, (content, attributes));
    }
}

fn seen(bytes: &[u8], access: Access) -> State {
    let mut volume = Volume::open(bytes, &options(access)).unwrap();
    let root = volume.root();
    let mut found = State::new();
    state(&mut volume, root, b"", &mut found);
    found
}

type Action = fn(&mut Volume<Failing>) -> Result<()>;

fn put(volume: &mut Volume<Failing>, path: &[u8], content: &[u8]) -> Result<()> {
    let root = volume.root();
    let mut source = content;
    volume.write_file(root, path, 0o644, &mut source, content.len() as u64).map(|_| ())
}

const ACTIONS: &[(&str, Action)] = &[
    ("create", |volume| put(volume, b"new", &pattern(20_000, 3))),
    ("replace", |volume| put(volume, b"file1", &pattern(50_000, 4))),
    ("append", |volume| {
        let node = volume.lookup(b"file2")?;
        volume.append(node, &pattern(70_000, 5))
    }),
    ("truncate", |volume| {
        let node = volume.lookup(b"file3")?;
        volume.truncate(node, 100)
    }),
    ("remove", |volume| {
        let root = volume.root();
        volume.remove(root, b"file4")
    }),
    ("rename", |volume| {
        let root = volume.root();
        let directory = volume.lookup(b"directory")?;
        volume.rename(root, b"file5", directory, b"file0")
    }),
    ("directory", |volume| {
        let root = volume.root();
        volume.create_directory(root, b"another", 0o755).map(|_| ())
    }),
    ("link", |volume| {
        let root = volume.root();
        volume.create_symlink(root, b"link", &[b'x'; 1000]).map(|_| ())
    }),
    ("attribute", |volume| {
        let node = volume.lookup(b"file6")?;
        volume.set_attribute(node, b"large", 1, &pattern(30_000, 1))
    }),
    ("no attribute", |volume| {
        let node = volume.lookup(b"file7")?;
        volume.remove_attribute(node, b"large")
    }),
];

/// What goes on after [`ACTIONS`].
const MORE: &[(&str, Action)] = &[
    ("remove a new one", |volume| {
        let root = volume.root();
        volume.remove(root, b"new")
    }),
    ("make it again", |volume| put(volume, b"new", &pattern(60_000, 7))),
    ("many", |volume| {
        let root = volume.root();
        let many = volume.create_directory(root, b"many", 0o755)?;
        volume.create_file(many, b"a", 0o644).map(|_| ())
    }),
    ("empty a directory", |volume| {
        let many = volume.lookup(b"many")?;
        volume.remove(many, b"a")
    }),
    ("remove it", |volume| {
        let root = volume.root();
        volume.remove(root, b"many")
    }),
    ("replace again", |volume| put(volume, b"file1", &pattern(90_000, 8))),
    ("remove a large one", |volume| {
        let root = volume.root();
        volume.remove(root, b"file59")
    }),
    ("append again", |volume| {
        let node = volume.lookup(b"file2")?;
        volume.append(node, &pattern(7_000, 9))
    }),
];

fn filled(block_size: u32) -> Vec<u8> {
    let bytes = make(block_size, 16 << 20).into_storage();
    let mut volume = Volume::open(bytes, &options(Access::Write)).unwrap();
    let root = volume.root();
    for index in 0..60 {
        let content = pattern(index * 700, index);
        let name = format!("file{index}");
        let size = content.len() as u64;
        volume.write_file(root, name.as_bytes(), 0o644, &mut content.as_slice(), size).unwrap();
    }
    let directory = volume.create_directory(root, b"directory", 0o755).unwrap();
    volume.write_file(directory, b"file0", 0, &mut b"in the way".as_slice(), 10).unwrap();
    for name in ["file5", "file7"] {
        let node = volume.lookup(name.as_bytes()).unwrap();
        volume.set_attribute(node, b"large", 1, &pattern(30_000, 1)).unwrap();
        volume.set_attribute(node, b"BEOS:APP_SIG", 1, b"application/x-test").unwrap();
    }
    volume.into_storage()
}

#[test]
fn an_end_at_any_write_leaves_the_old_or_the_new() {
    for block_size in SIZES {
        let start = filled(block_size);
        let old = seen(&start, Access::Read);
        for (name, action) in ACTIONS {
            let left = Rc::new(Cell::new(1 << 20));
            let storage = Failing { bytes: start.clone(), left: Rc::clone(&left) };
            let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
            action(&mut volume).unwrap();
            let writes = (1 << 20) - left.get();
            let after = volume.into_storage().bytes;
            let new = seen(&after, Access::WriteClean);
            assert_ne!(old, new, "{name}");
            assert!(check(&mut after.clone()).unwrap().is_clean(), "{name}");
            let mut kinds = [0, 0];
            for count in 0..writes {
                let left = Rc::new(Cell::new(count));
                let storage = Failing { bytes: start.clone(), left };
                let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
                assert!(action(&mut volume).is_err(), "{name} {count}");
                let bytes = volume.into_storage().bytes;
                // Read with the log in place, then replayed.
                let found = seen(&bytes, Access::Read);
                assert!(found == old || found == new, "{name} after {count} of {writes}");
                kinds[usize::from(found == new)] += 1;
                let replayed = Volume::open(bytes, &options(Access::Write)).unwrap();
                let mut bytes = replayed.into_storage();
                let report = check(&mut bytes).unwrap();
                assert!(report.is_clean(), "{name} {count}: {:#?}", report.findings);
                assert_eq!(seen(&bytes, Access::WriteClean), found, "{name} {count}");
            }
            assert!(kinds[0] > 0 && kinds[1] > 0, "{name}: {kinds:?}");
        }
    }
}

/// In a batch too, what is left is the state after some operation, and after no half of one.
#[test]
fn an_end_at_any_write_of_a_batch_leaves_the_state_after_some_operation() {
    for block_size in SIZES {
        let start = filled(block_size);
        // Freed blocks are taken again, and directories are filled and emptied, within the batch.
        let steps: Vec<_> = ACTIONS.iter().chain(MORE).map(|(_, action)| *action).collect();
        let mut states = vec![seen(&start, Access::Read)];
        let mut one_by_one = Volume::open(start.clone(), &options(Access::Write)).unwrap();
        for step in &steps {
            let left = Rc::new(Cell::new(usize::MAX));
            let storage = Failing { bytes: one_by_one.into_storage(), left };
            let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
            step(&mut volume).unwrap();
            let bytes = volume.into_storage().bytes;
            states.push(seen(&bytes, Access::WriteClean));
            one_by_one = Volume::open(bytes, &options(Access::Write)).unwrap();
        }
        let run = |writes: usize| {
            let left = Rc::new(Cell::new(writes));
            let storage = Failing { bytes: start.clone(), left: Rc::clone(&left) };
            let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
            volume.batch();
            let done = steps.iter().try_for_each(|step| step(&mut volume));
            let done = done.and_then(|()| volume.sync());
            (done.is_ok(), writes - left.get(), volume.into_storage().bytes)
        };
        let (done, writes, whole) = run(1 << 20);
        assert!(done && seen(&whole, Access::WriteClean) == *states.last().unwrap());
        let mut found = vec![0; states.len()];
        for count in 0..writes {
            let (done, _, bytes) = run(count);
            assert!(!done);
            let state = seen(&bytes, Access::Read);
            let at = states.iter().position(|known| *known == state);
            found[at.unwrap_or_else(|| panic!("a half after {count} of {writes}"))] += 1;
            let replayed = Volume::open(bytes, &options(Access::Write)).unwrap();
            let report = check(&mut replayed.into_storage()).unwrap();
            assert!(report.is_clean(), "{count}: {:#?}", report.findings);
        }
        assert!(found[0] > 0 && found[states.len() - 1] > 0, "{found:?}");
        println!("blocks of {block_size}: {writes} writes, states {found:?}");
    }
}

/// What takes several transactions may leave a part under a name of its own, and nothing else.
#[test]
fn an_end_within_a_file_of_several_transactions_leaves_the_old_or_the_new() {
    for block_size in [1024, 4096] {
        let small = common::with_small_log(make(block_size, 12 << 20).into_storage(), 64);
        let mut volume = Volume::open(small, &options(Access::Write)).unwrap();
        let root = volume.root();
        volume.write_file(root, b"file", 0, &mut pattern(9000, 1).as_slice(), 9000).unwrap();
        let start = volume.into_storage();
        let without_part = |bytes: &[u8]| {
            let mut state = seen(bytes, Access::Read);
            state.remove(b"/.file.part".as_slice());
            state
        };
        let run = |writes: usize| {
            let left = Rc::new(Cell::new(writes));
            let storage = Failing { bytes: start.clone(), left: Rc::clone(&left) };
            let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
            let done = put(&mut volume, b"file", &pattern(700_000, 4)).is_ok();
            (done, writes - left.get(), volume.into_storage().bytes)
        };
        let (done, writes, after) = run(1 << 20);
        let (old, new) = (seen(&start, Access::Read), seen(&after, Access::WriteClean));
        assert!(done && old != new && new.len() == 1);
        for count in 0..writes {
            let (_, _, bytes) = run(count);
            let found = without_part(&bytes);
            assert!(found == old || found == new, "after {count} of {writes}");
            let replayed = Volume::open(bytes, &options(Access::Write)).unwrap();
            let report = check(&mut replayed.into_storage()).unwrap();
            assert!(report.is_clean(), "{count}: {:#?}", report.findings);
        }
    }
}

/// An error before a transaction counts is forgotten; one after makes the volume refuse more.
#[test]
fn a_volume_goes_on_after_an_error_or_says_that_it_cannot() {
    let start = filled(2048);
    for count in 0..12 {
        let left = Rc::new(Cell::new(count));
        let storage = Failing { bytes: start.clone(), left: Rc::clone(&left) };
        let mut volume = Volume::open(storage, &options(Access::Write)).unwrap();
        let done = put(&mut volume, b"new", &pattern(20_000, 3));
        left.set(usize::MAX);
        if done.is_err() {
            drop(put(&mut volume, b"other", b"later"));
        }
        let replayed = Volume::open(volume.into_storage().bytes, &options(Access::Write)).unwrap();
        let report = check(&mut replayed.into_storage()).unwrap();
        assert!(report.is_clean(), "{count}: {:#?}", report.findings);
    }
}

/// The end may come within a replay too, which then is begun anew.
#[test]
fn a_replay_can_be_interrupted() {
    let start = common::fixture("dirtylog2048");
    let whole = Volume::open(start.clone(), &options(Access::Write)).unwrap().into_storage();
    for count in [0, 1, 7, 100, 300] {
        let storage = Failing { bytes: start.clone(), left: Rc::new(Cell::new(count)) };
        // The storage is gone with the error: what it held is rebuilt by the same writes.
        let mut keep = storage;
        assert!(Volume::open(&mut keep, &options(Access::Write)).is_err(), "{count}");
        let report = check(&mut keep.bytes.clone()).unwrap();
        assert!(report.findings.iter().all(|finding| finding.class == Class::Log), "{count}");
        let again = Volume::open(keep.bytes, &options(Access::Write)).unwrap().into_storage();
        assert!(again == whole, "{count}");
    }
}
