//! Be File System volumes.

use std::collections::BTreeSet;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bfs::{Access, Kind, MakeOptions, NodeId, Options, Storage, Volume, check, repair};

/// Blocks of the volume that the input damages; the log and the bitmap take a third.
const BLOCKS: usize = 1500;

/// A volume with files, attributes, links and duplicates in an index.
fn sample() -> bfs::Result<Vec<u8>> {
    let clock = || Duration::new(1_795_000_000, 5);
    let options = MakeOptions { block_size: 1024, clock, ..MakeOptions::new("Fuzz") };
    let mut volume = Volume::make(vec![0; BLOCKS * 1024], &options)?;
    let root = volume.root();
    let directory = volume.create_directory(root, b"directory", 0o755)?;
    for index in 0..100 {
        let name = format!("a file {index}");
        let node = volume.write_file(directory, name.as_bytes(), 0, &mut [1; 2].as_slice(), 2)?;
        let value = format!("application/{}", index % 3);
        volume.set_attribute(node, b"BEOS:APP_SIG", 1, value.as_bytes())?;
    }
    let file = volume.write_file(root, b"file", 0, &mut [7; 9000].as_slice(), 9000)?;
    volume.set_attribute(file, b"large", 1, &[1; 5000])?;
    volume.create_symlink(root, b"link", &[b'x'; 300])?;
    Ok(volume.into_storage())
}

/// Memory that must not be written.
struct Untouched<'a>(&'a [u8]);

impl Storage for Untouched<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        panic!("a volume that is only read was written")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn visit(volume: &mut Volume<Untouched<'_>>, root: NodeId) {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![root]);
    while let Some(node) = pending.pop() {
        if !seen.insert(node) {
            continue;
        }
        for info in volume.attributes(node).unwrap_or_default() {
            let _ = volume.attribute(node, &info.name);
        }
        match volume.metadata(node).map(|metadata| metadata.kind) {
            Ok(Kind::Directory) => {
                if let Ok(entries) = volume.entries(node) {
                    pending.extend(entries.filter_map(Result::ok).map(|entry| entry.node));
                }
            }
            Ok(Kind::File) => drop(volume.read(node, 100, &mut [0; 9000])),
            Ok(Kind::Symlink) => drop(volume.read_link(node)),
            Err(_) => {}
        }
    }
}

fn write(bytes: Vec<u8>) -> bfs::Result<()> {
    let mut volume = Volume::open(bytes, &Options::default())?;
    let root = volume.root();
    let node = volume.write_file(root, b"new", 0, &mut [1; 5000].as_slice(), 5000)?;
    volume.set_attribute(node, b"BEOS:APP_SIG", 1, b"application/1")?;
    volume.rename(root, b"directory", root, b"moved")?;
    let directory = volume.lookup(b"moved")?;
    for index in 0..30 {
        volume.remove(directory, format!("a file {index}").as_bytes())?;
    }
    volume.remove(root, b"file")?;
    check(&mut volume.into_storage()).map(drop)
}

/// A sound volume, with bytes of it replaced: the input is places (three bytes, the lowest first)
/// with what is to be there. Reading it must not write, and nothing may panic or hang; what the
/// check finds clean must stay so through changes.
pub fn bfs_volume(data: &[u8]) {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut bytes = SAMPLE.get_or_init(|| sample().expect("a sound volume")).clone();
    for patch in data.chunks_exact(4) {
        let place = u32::from_le_bytes([patch[0], patch[1], patch[2], 0]) as usize;
        let place = place % bytes.len();
        bytes[place] = patch[3];
    }
    for access in [Access::Read, Access::ReadAsIs] {
        let options = Options { access, cache: 32768, ..Options::default() };
        if let Ok(mut volume) = Volume::open(Untouched(&bytes), &options) {
            let root = volume.root();
            visit(&mut volume, root);
            let _ = volume.query(b"BEOS:APP_SIG", |_, _| Ok(()));
        }
    }
    let clean = check(&mut Untouched(&bytes)).is_ok_and(|report| report.is_clean());
    let written = write(bytes.clone());
    assert!(!clean || written.is_ok(), "a clean volume: {written:?}");
    let _ = repair(&mut bytes, &Options::default());
}
