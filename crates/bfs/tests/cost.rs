//! What an operation costs in reads and writes: as much as it changes, whatever the volume.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::rc::Rc;

use bfs::{MakeOptions, Options, Storage, Volume};

/// Reads and writes, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    reads: u64,
    read: u64,
    writes: u64,
    written: u64,
    flushes: u64,
}

#[derive(Clone)]
struct Counting {
    file: Rc<File>,
    cost: Rc<Cell<Cost>>,
}

impl Storage for Counting {
    fn size(&self) -> io::Result<u64> {
        Storage::size(&*self.file)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut cost = self.cost.get();
        (cost.reads, cost.read) = (cost.reads + 1, cost.read + buffer.len() as u64);
        self.cost.set(cost);
        Storage::read_at(&*self.file, buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut cost = self.cost.get();
        (cost.writes, cost.written) = (cost.writes + 1, cost.written + bytes.len() as u64);
        self.cost.set(cost);
        std::os::unix::fs::FileExt::write_all_at(&*self.file, bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut cost = self.cost.get();
        cost.flushes += 1;
        self.cost.set(cost);
        Ok(())
    }
}

/// A volume of so many bytes on a sparse file, with a driver, and as many files as given.
fn volume(size: u64, files: usize) -> Counting {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    let storage = Counting { file: Rc::new(file), cost: Rc::default() };
    let mut volume = Volume::make(storage.clone(), &MakeOptions::new("Haiku")).unwrap();
    let root = volume.root();
    let directory = volume.create_directory(root, b"bin", 0o755).unwrap();
    volume.batch();
    for index in 0..files {
        // Not files, all of which would have the same size: finding its place in a long list of
        // duplicates takes time in proportion to that, as it does in Haiku.
        let name = format!("link{index}");
        volume.create_symlink(directory, name.as_bytes(), b"target").unwrap();
    }
    let driver = vec![1; 200_000];
    volume.write_file(directory, b"driver", 0o755, &mut driver.as_slice(), 200_000).unwrap();
    volume.sync().unwrap();
    storage
}

/// Opens a volume, replaces the driver in it, and says what that cost.
fn replace(storage: &Counting) -> Cost {
    storage.cost.set(Cost::default());
    let mut volume = Volume::open(storage.clone(), &Options::default()).unwrap();
    let directory = volume.lookup(b"bin").unwrap();
    let driver = vec![2; 200_000];
    volume.write_file(directory, b"driver", 0o755, &mut driver.as_slice(), 200_000).unwrap();
    storage.cost.get()
}

#[test]
fn replacing_a_file_costs_the_file_not_the_volume() {
    let small = replace(&volume(64 << 20, 100));
    let large = replace(&volume(1400 << 20, 100));
    let full = replace(&volume(1400 << 20, 3000));
    println!("{small:?}\n{large:?}\n{full:?}");
    for cost in [small, large, full] {
        assert!(cost.reads < 60, "{cost:?}");
        assert!(cost.read < 200_000, "{cost:?}");
        assert!(cost.writes < 40, "{cost:?}");
        // The content, what changed in the log and in place.
        assert!(cost.written < 200_000 + 2 * 40 * 2048, "{cost:?}");
    }
    assert!(large.reads <= small.reads + 4 && large.writes <= small.writes + 4);
}

#[test]
fn many_files_in_a_batch_share_their_flushes() {
    let storage = volume(400 << 20, 10);
    let put = |name: char| {
        storage.cost.set(Cost::default());
        let mut volume = Volume::open(storage.clone(), &Options::default()).unwrap();
        if name == 'b' {
            volume.batch();
        }
        let directory = volume.lookup(b"bin").unwrap();
        let content = [1; 3000];
        for index in 0..1500 {
            let name = format!("{name}{index}");
            let mut source = content.as_slice();
            volume.write_file(directory, name.as_bytes(), 0o644, &mut source, 3000).unwrap();
        }
        volume.sync().unwrap();
        storage.cost.get()
    };
    let (alone, together) = (put('a'), put('b'));
    println!("{alone:?}\n{together:?}");
    assert!(alone.flushes > 3 * 1500, "{alone:?}");
    assert!(together.flushes < 60, "{together:?}");
    // Of a file there is its content and its inode, which lie together or nearly so.
    assert!(together.writes < 3 * 1500 && together.writes * 3 < alone.writes, "{together:?}");
}

#[test]
fn listing_a_directory_reads_each_of_its_blocks_once() {
    let mut costs = Vec::new();
    for count in [10_000, 100_000] {
        let storage = volume(600 << 20, count);
        storage.cost.set(Cost::default());
        let mut volume = Volume::open(storage.clone(), &Options::default()).unwrap();
        let directory = volume.lookup(b"bin").unwrap();
        assert_eq!(volume.entries(directory).unwrap().count(), count + 1);
        let tree = volume.metadata(directory).unwrap().size;
        let cost = storage.cost.get();
        assert!(cost.reads <= tree / 2048 + 16, "{cost:?} for a tree of {tree} bytes");
        costs.push(cost.reads);
    }
    assert!(costs[1] < costs[0] * 11, "{costs:?}");
}
