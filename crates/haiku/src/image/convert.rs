//! Disks written into new image files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bfs::Storage;

/// Clusters of 64 KiB, the size that `qemu-img` uses too.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of eight bytes in a cluster.
const PER_TABLE: u64 = CLUSTER / 8;
/// Reference counts of two bytes in a cluster.
const PER_COUNTS: u64 = CLUSTER / 2;
/// The largest disk that is written: its tables stay in memory, at 8 bytes a cluster that is used.
const LARGEST: u64 = 16 << 40;
/// An entry whose cluster nothing else has (docs/interop/qcow2.txt of QEMU, `OFLAG_COPIED`).
const COPIED: u64 = 1 << 63;
const HEADER: u32 = 104;

/// How a disk is kept in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The file is the disk; what is zero takes no room where the file system has holes.
    Raw,
    /// QEMU's own format, without what is zero.
    Qcow2,
}

/// Writes a disk into an empty file. `progress` is told how many of its bytes are done.
///
/// # Errors
/// The disk cannot be read, the file cannot be written, or the disk is larger than 16 TiB.
pub fn write<S: Storage>(
    disk: &S,
    file: &File,
    format: Format,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let size = disk.size()?;
    if size > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a disk of more than 16 TiB"));
    }
    match format {
        Format::Raw => {
            for_each(disk, size, progress, |index, bytes| {
                file.write_all_at(bytes, index * CLUSTER)
            })?;
            file.set_len(size)?;
        }
        Format::Qcow2 => qcow2(disk, size, file, progress)?,
    }
    file.sync_all()
}

/// Gives every cluster that is not zero, with its number.
fn for_each<S: Storage>(
    disk: &S,
    size: u64,
    progress: &mut dyn FnMut(u64),
    mut action: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << CLUSTER_BITS];
    let zeroes = buffer.clone();
    for index in 0..size.div_ceil(CLUSTER) {
        let left = usize::try_from(size - index * CLUSTER).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let bytes = &mut buffer[..length];
        disk.read_at(bytes, index * CLUSTER)?;
        if *bytes != zeroes[..length] {
            action(index, bytes)?;
        }
        progress((index * CLUSTER).saturating_add(length as u64));
    }
    Ok(())
}

/// Clusters in the order of the file: the header, the disk's, its tables, the reference counts. The
/// header comes last, so that half a file is no image.
fn qcow2<S: Storage>(
    disk: &S,
    size: u64,
    file: &File,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let l1_entries = size.div_ceil(CLUSTER * PER_TABLE);
    let mut next = 1;
    // The second-level tables by their place in the first, each when the first cluster needs it.
    let mut tables: Vec<(u64, Vec<u64>)> = Vec::new();
    for_each(disk, size, progress, |index, bytes| {
        let (table, entry) = (index / PER_TABLE, index % PER_TABLE);
        if tables.last().is_none_or(|(known, _)| *known != table) {
            tables.push((table, vec![0; 1 << (CLUSTER_BITS - 3)]));
        }
        let entry = usize::try_from(entry).unwrap_or_default();
        if let Some((_, entries)) = tables.last_mut() {
            entries[entry] = (next * CLUSTER) | COPIED;
        }
        file.write_all_at(bytes, next * CLUSTER)?;
        next += 1;
        Ok(())
    })?;
    let mut l1 = vec![0_u64; usize::try_from(l1_entries).unwrap_or_default()];
    for (place, entries) in &tables {
        file.write_all_at(&big_endian(entries), next * CLUSTER)?;
        l1[usize::try_from(*place).unwrap_or_default()] = (next * CLUSTER) | COPIED;
        next += 1;
    }
    let l1_at = next * CLUSTER;
    file.write_all_at(&big_endian(&l1), l1_at)?;
    next += (l1_entries * 8).div_ceil(CLUSTER);

    // The counts count themselves: as many blocks and clusters of their table as that takes.
    let (mut blocks, mut table_clusters) = (1, 1);
    loop {
        let wanted = (next + blocks + table_clusters).div_ceil(PER_COUNTS);
        let wanted_table = wanted.div_ceil(PER_TABLE);
        if (wanted, wanted_table) == (blocks, table_clusters) {
            break;
        }
        (blocks, table_clusters) = (wanted, wanted_table);
    }
    let table_at = next * CLUSTER;
    let first_block = next + table_clusters;
    let used = first_block + blocks;
    let table: Vec<u64> = (first_block..used).map(|block| block * CLUSTER).collect();
    file.write_all_at(&big_endian(&table), table_at)?;
    for block in 0..blocks {
        let counted = (used - block * PER_COUNTS).min(PER_COUNTS);
        let ones: Vec<u8> = (0..counted).flat_map(|_| 1_u16.to_be_bytes()).collect();
        file.write_all_at(&ones, (first_block + block) * CLUSTER)?;
    }
    file.set_len(used * CLUSTER)?;
    let sizes = (u32::try_from(l1_entries), u32::try_from(table_clusters));
    let (Ok(l1_entries), Ok(table_clusters)) = sizes else {
        return Err(io::ErrorKind::FileTooLarge.into());
    };
    file.write_all_at(&header(size, l1_entries, l1_at, table_at, table_clusters), 0)
}

fn header(size: u64, l1_entries: u32, l1_at: u64, table_at: u64, table_clusters: u32) -> Vec<u8> {
    let mut bytes = b"QFI\xfb".to_vec();
    bytes.extend(3_u32.to_be_bytes()); // version
    bytes.extend([0; 12]); // no backing file
    bytes.extend(CLUSTER_BITS.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes()); // no encryption
    bytes.extend(l1_entries.to_be_bytes());
    bytes.extend(l1_at.to_be_bytes());
    bytes.extend(table_at.to_be_bytes());
    bytes.extend(table_clusters.to_be_bytes());
    bytes.extend([0; 12]); // no snapshots
    bytes.extend([0; 24]); // no features
    bytes.extend(4_u32.to_be_bytes()); // reference counts of 2^4 bits
    bytes.extend(HEADER.to_be_bytes());
    bytes.extend([0; 8]); // the end of the header's extensions
    bytes
}

fn big_endian(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::image::Disk;

    fn qemu_img(args: &[&std::ffi::OsStr]) -> String {
        let output = Command::new("qemu-img").args(args).output().expect("tests need qemu-img");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Zeroes with something at some places.
    fn disk(size: usize, places: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0; size];
        for place in places {
            bytes[*place] = 1 + u8::try_from(place % 200).unwrap();
        }
        bytes
    }

    #[test]
    fn disks_are_what_qemu_says_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let mib = 1 << 20;
        for (number, disk) in [
            disk(0, &[]),
            disk(512, &[511]),
            disk(65_536, &[0]),
            disk(65_537 + 511, &[65_536]),
            disk(3 * mib, &[]),
            disk(20 * mib, &[5, mib, 7 * mib + 3, 20 * mib - 1]),
            (0..4 * mib).map(|at| u8::try_from(at % 251).unwrap()).collect(),
        ]
        .iter()
        .enumerate()
        {
            // QEMU counts sectors.
            let mut disk = disk.clone();
            disk.resize(disk.len().next_multiple_of(512), 0);
            let [raw, qcow2] =
                ["raw", "qcow2"].map(|end| directory.path().join(format!("{number}.{end}")));
            let mut told = 0;
            for (path, format) in [(&raw, Format::Raw), (&qcow2, Format::Qcow2)] {
                let file = File::create_new(path).unwrap();
                write(&disk, &file, format, &mut |bytes| told = bytes).unwrap();
                assert_eq!(told, disk.len() as u64);
            }
            assert!(std::fs::read(&raw).unwrap() == disk);
            qemu_img(&["check".as_ref(), "-f".as_ref(), "qcow2".as_ref(), qcow2.as_os_str()]);
            let options = ["compare", "-f", "raw", "-F", "qcow2"].map(std::ffi::OsStr::new);
            qemu_img(&[&options[..], &[raw.as_os_str(), qcow2.as_os_str()]].concat());
            // And what we read of it ourselves.
            if disk.len() > 65_536 {
                let read = Disk::open(&qcow2).unwrap();
                let mut bytes = vec![0; disk.len()];
                read.read_at(&mut bytes, 0).unwrap();
                assert!(bytes == disk);
            }
        }
    }

    #[test]
    fn a_disk_that_is_mostly_empty_makes_a_small_file() {
        /// Zeroes, with one byte at the end.
        struct Large;

        impl Storage for Large {
            fn size(&self) -> io::Result<u64> {
                Ok(3 << 30)
            }

            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
                buffer.fill(0);
                if offset + buffer.len() as u64 == 3 << 30 {
                    buffer[buffer.len() - 1] = 1;
                }
                Ok(())
            }

            fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
                Err(io::ErrorKind::Unsupported.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        write(&Large, &File::create_new(&path).unwrap(), Format::Qcow2, &mut |_| {}).unwrap();
        assert!(path.metadata().unwrap().len() < 1 << 20);
        qemu_img(&["check".as_ref(), "-f".as_ref(), "qcow2".as_ref(), path.as_os_str()]);
    }
}
