//! How long it takes, on files of the directory for temporary ones.
//!
//! `cargo bench -p kireji-bfs`. What is to be compared with each other is in one group: a driver put
//! into a volume, and by `mcopy` (of the package mtools, without which that is left out) into a FAT
//! of the same size; a file of 1 GiB through a volume, and by the operating system.

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

/// A driver of 200 kB in an image of 1.4 GB.
mod driver {
    use std::process::{Command, Stdio};

    use super::*;

    const SIZE: u64 = 200_000;

    fn disk_on(path: &std::path::Path) -> File {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.unwrap();
        file.set_len(1400 * MIB).unwrap();
        file
    }

    /// Opened anew each time, and flushed as often as safety demands.
    #[divan::bench]
    fn replace_in_a_volume(bencher: Bencher<'_, '_>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        Volume::make(disk_on(&path), &MakeOptions::new("Bench")).unwrap();
        let driver = vec![1; 200_000];
        bencher.bench_local(|| {
            let mut volume = Volume::open(disk_on(&path), &Options::default()).unwrap();
            let root = volume.root();
            volume.write_file(root, b"driver", 0o755, &mut driver.as_slice(), SIZE).unwrap();
            volume.sync().unwrap();
        });
    }

    /// The same without flushes, of which `mcopy` has none.
    #[divan::bench]
    fn replace_without_flushes(bencher: Bencher<'_, '_>) {
        let mut file = Some(made(1400 * MIB));
        let driver = vec![1; 200_000];
        bencher.bench_local(|| {
            let mut volume = open(file.take().unwrap());
            let root = volume.root();
            volume.write_file(root, b"driver", 0o755, &mut driver.as_slice(), SIZE).unwrap();
            file = Some(volume.into_storage());
        });
    }

    /// With the start of a process, which is about a millisecond of it.
    #[divan::bench]
    fn replace_by_mcopy(bencher: Bencher<'_, '_>) {
        let directory = tempfile::tempdir().unwrap();
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).current_dir(directory.path()).stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        disk_on(&directory.path().join("disk"));
        std::fs::write(directory.path().join("driver"), vec![1; 200_000]).unwrap();
        if run("mformat", &["-i", "disk", "::"]) {
            bencher.bench_local(|| assert!(run("mcopy", &["-o", "-i", "disk", "driver", "::/"])));
        }
    }
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

    const SIZE: u64 = 1024 * MIB;

    fn source() -> File {
        let mut file = disk(0);
        let piece: Vec<u8> = (0..MIB).map(|at| at.to_le_bytes()[0]).collect();
        for _ in 0..SIZE / MIB {
            file.write_all(&piece).unwrap();
        }
        file
    }

    /// Into a new image each time, as the copy goes into a new file.
    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn write_to_a_volume(bencher: Bencher<'_, '_>) {
        let mut source = source();
        let bencher = bencher.counter(BytesCount::new(SIZE));
        bencher.with_inputs(|| open(made(1100 * MIB))).bench_local_values(|mut volume| {
            let root = volume.root();
            source.seek(SeekFrom::Start(0)).unwrap();
            volume.write_file(root, b"large", 0, &mut source, SIZE).unwrap();
            volume
        });
    }

    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn write_to_a_file(bencher: Bencher<'_, '_>) {
        let mut source = source();
        let bencher = bencher.counter(BytesCount::new(SIZE));
        bencher.with_inputs(|| disk(0)).bench_local_values(|mut target| {
            source.seek(SeekFrom::Start(0)).unwrap();
            copy(&mut source, &mut target);
            target
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
        let mut volume = open(made(1100 * MIB));
        let root = volume.root();
        let mut from = source();
        from.seek(SeekFrom::Start(0)).unwrap();
        let node = volume.write_file(root, b"large", 0, &mut from, SIZE).unwrap();
        let mut target = disk(0);
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
