//! How long it takes, on files of the directory for temporary ones.
//!
//! `cargo bench -p kireji-bfs`. What is to be compared with each other is in one group: a file of
//! 256 MiB through a volume, and by the operating system.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use bfs::{MakeOptions, NodeId, Options, Volume};
use divan::Bencher;
use divan::counter::BytesCount;

const MIB: u64 = 1 << 20;

fn main() {
    divan::main();
}

fn disk(size: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file
}

/// A volume without flushes, for it is compared with copies that have none.
fn open(file: File) -> Volume<File> {
    Volume::open(file, &Options { barriers: false, ..Options::default() }).unwrap()
}

fn made(size: u64) -> File {
    Volume::make(disk(size), &MakeOptions::new("Bench")).unwrap().into_storage()
}

/// A driver of 200 kB in an image of 1.4 GB, opened anew each time.
#[divan::bench]
fn replace_a_driver(bencher: Bencher<'_, '_>) {
    let mut file = Some(made(1400 * MIB));
    let driver = vec![1; 200_000];
    bencher.bench_local(|| {
        let mut volume = open(file.take().unwrap());
        let root = volume.root();
        volume.write_file(root, b"driver", 0o755, &mut driver.as_slice(), 200_000).unwrap();
        file = Some(volume.into_storage());
    });
}

fn directory(count: usize) -> (Volume<File>, NodeId) {
    let mut volume = open(made(600 * MIB));
    let root = volume.root();
    let directory = volume.create_directory(root, b"many", 0o755).unwrap();
    for index in 0..count {
        volume.create_file(directory, format!("entry{index:06}").as_bytes(), 0o644).unwrap();
    }
    (volume, directory)
}

#[divan::bench(args = [1000, 10_000, 100_000], sample_count = 5)]
fn list_a_directory(bencher: Bencher<'_, '_>, count: usize) {
    let (mut volume, directory) = directory(count);
    bencher.bench_local(|| volume.entries(directory).unwrap().count());
}

mod sequential {
    use super::*;

    const SIZE: u64 = 256 * MIB;

    fn source() -> File {
        let mut file = disk(0);
        let piece: Vec<u8> = (0..MIB).map(|at| at.to_le_bytes()[0]).collect();
        for _ in 0..SIZE / MIB {
            file.write_all(&piece).unwrap();
        }
        file
    }

    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn write_to_a_volume(bencher: Bencher<'_, '_>) {
        let mut source = source();
        let mut file = Some(made(1024 * MIB));
        bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
            let mut volume = open(file.take().unwrap());
            let root = volume.root();
            source.seek(SeekFrom::Start(0)).unwrap();
            volume.write_file(root, b"large", 0, &mut source, SIZE).unwrap();
            file = Some(volume.into_storage());
        });
    }

    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn write_to_a_file(bencher: Bencher<'_, '_>) {
        let mut source = source();
        let mut target = disk(SIZE);
        bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
            source.seek(SeekFrom::Start(0)).unwrap();
            target.seek(SeekFrom::Start(0)).unwrap();
            copy(&mut source, &mut target);
        });
    }

    /// As `cp` does where the file system cannot share blocks.
    fn copy(source: &mut File, target: &mut File) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = source.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            target.write_all(&buffer[..length]).unwrap();
        }
    }

    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn read_from_a_volume(bencher: Bencher<'_, '_>) {
        let mut volume = open(made(1024 * MIB));
        let root = volume.root();
        let mut from = source();
        from.seek(SeekFrom::Start(0)).unwrap();
        let node = volume.write_file(root, b"large", 0, &mut from, SIZE).unwrap();
        let mut target = disk(SIZE);
        let mut buffer = vec![0; 1 << 20];
        bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
            let mut reader = volume.reader(node).unwrap();
            target.seek(SeekFrom::Start(0)).unwrap();
            for offset in (0..SIZE).step_by(1 << 20) {
                let length = volume.read_on(&mut reader, offset, &mut buffer).unwrap();
                target.write_all(&buffer[..length]).unwrap();
            }
        });
    }
}
