//! The partitions of an image, and the BFS volume that is meant.

use serde::Serialize;

use super::source::Source;
use super::{Disk, Extent, ImageError, SECTOR, bfs, gpt, mbr};

/// A partition of a disk in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number, as partitioning tools count.
    pub number: usize,
    /// What the table says that it is.
    pub kind: PartitionKind,
    /// Where it lies on the disk.
    pub extent: Extent,
    /// Whether there is a BFS volume in it.
    pub has_bfs: bool,
}

/// What a partition table says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKind {
    /// A Be File System.
    Bfs,
    /// An EFI system partition.
    Efi,
    /// Another type.
    Other,
}

impl Disk {
    /// Lists the partitions; a disk that is one volume has none.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn partitions(&self) -> Result<Vec<Partition>, ImageError> {
        let read = |source| ImageError::Open { path: self.path().to_owned(), source };
        let record = self.read_up_to(0, 2 * SECTOR).map_err(read)?;
        if is_bfs(self, 0).map_err(read)? || !mbr::is_signed(&record) {
            return Ok(Vec::new());
        }
        let table = mbr::read(self, &record).map_err(read)?;
        let found: Vec<_> = if table.iter().any(|entry| entry.kind == mbr::PROTECTIVE) {
            let entries = gpt::entries(self).map_err(read)?.unwrap_or_default();
            let kind = |kind| match kind {
                gpt::BFS => PartitionKind::Bfs,
                gpt::ESP => PartitionKind::Efi,
                _ => PartitionKind::Other,
            };
            let part = |entry: gpt::Entry| (entry.number, kind(entry.kind), entry.extent);
            entries.into_iter().map(part).collect()
        } else {
            let kind = |kind| match kind {
                mbr::BFS => PartitionKind::Bfs,
                mbr::ESP => PartitionKind::Efi,
                _ => PartitionKind::Other,
            };
            table.into_iter().map(|entry| (entry.number, kind(entry.kind), entry.extent)).collect()
        };
        let mut partitions = Vec::new();
        for (number, kind, extent) in found {
            let has_bfs = is_bfs(self, extent.start).map_err(read)?;
            partitions.push(Partition { number, kind, extent, has_bfs });
        }
        Ok(partitions)
    }

    /// Finds where a BFS volume can be made: in the partition `number`, if its type says that it is
    /// for one or there is one in it; without a number in the place of the only volume.
    ///
    /// # Errors
    /// As [`Disk::find_volume`].
    pub fn find_place(&self, number: Option<usize>) -> Result<Extent, ImageError> {
        let partitions = self.partitions()?;
        let is_empty = |found: &&Partition| {
            Some(found.number) == number && found.kind == PartitionKind::Bfs && !found.has_bfs
        };
        match partitions.iter().find(is_empty) {
            Some(partition) => Ok(partition.extent),
            None => self.find_volume(number),
        }
    }

    /// Finds a BFS volume: that of the partition `number`, or the only one. The place is that of
    /// the partition.
    ///
    /// # Errors
    /// There is no such partition, no BFS, or more than one; the image cannot be read.
    pub fn find_volume(&self, number: Option<usize>) -> Result<Extent, ImageError> {
        let owned = || self.path().to_owned();
        let partitions = self.partitions()?;
        if let Some(number) = number {
            let found = partitions.iter().find(|partition| partition.number == number);
            let partition =
                found.ok_or_else(|| ImageError::NoSuchPartition { path: owned(), number })?;
            if !partition.has_bfs {
                return Err(ImageError::NotBfs { path: owned(), number });
            }
            return Ok(partition.extent);
        }
        if partitions.is_empty() {
            // Says what it is where it is no bare volume.
            let image = self.image()?;
            return Ok(Extent { start: 0, size: image.disk_size });
        }
        let volumes: Vec<_> = partitions.iter().filter(|partition| partition.has_bfs).collect();
        match volumes.as_slice() {
            [only] => Ok(only.extent),
            [] => Err(ImageError::NoBfs { path: owned(), partitions: partitions.len() }),
            several => {
                let numbers = several.iter().map(|partition| partition.number).collect();
                Err(ImageError::SeveralBfs { path: owned(), numbers })
            }
        }
    }
}

fn is_bfs(disk: &dyn Source, start: u64) -> std::io::Result<bool> {
    let block = disk.read_up_to(start.saturating_add(SECTOR), SECTOR)?;
    Ok(bfs::Volume::parse(&block).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn disk(bytes: &[u8]) -> Disk {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Disk::open(file.path()).unwrap()
    }

    #[test]
    fn the_volume_of_every_kind_of_image_is_found() {
        let gpt = samples::gpt_disk();
        for (name, bytes, start) in [
            ("anyboot", samples::anyboot(), samples::BFS.start),
            ("bare", samples::bfs(32), 0),
            ("mbr", samples::mbr(), samples::BFS.start),
            ("gpt", gpt, samples::BFS.start),
            ("vmdk", samples::vmdk(), 0),
        ] {
            assert_eq!(disk(&bytes).find_volume(None).unwrap().start, start, "{name}");
        }
        let empty = disk(&samples::qcow2(3));
        assert!(matches!(
            empty.find_volume(None),
            Err(ImageError::Text { .. } | ImageError::Unrecognised { .. })
        ));
    }

    #[test]
    fn partitions_are_numbered_as_tools_do() {
        let disk = disk(&samples::anyboot());
        let found: Vec<_> = disk
            .partitions()
            .unwrap()
            .into_iter()
            .map(|partition| (partition.number, partition.kind, partition.has_bfs))
            .collect();
        assert_eq!(found, [(1, PartitionKind::Bfs, true), (2, PartitionKind::Efi, false)]);
        assert_eq!(disk.find_volume(Some(1)).unwrap(), samples::BFS);
        let error = |number| disk.find_volume(Some(number)).unwrap_err();
        assert!(matches!(error(2), ImageError::NotBfs { number: 2, .. }));
        assert!(matches!(error(3), ImageError::NoSuchPartition { number: 3, .. }));
        assert_eq!(self::disk(&samples::logical()).partitions().unwrap()[0].number, 5);
    }

    #[test]
    fn a_volume_is_made_only_in_a_partition_for_one() {
        let mut bytes = samples::anyboot();
        let block = usize::try_from(samples::BFS.start + SECTOR).unwrap();
        bytes[block..block + 512].fill(0);
        let disk = disk(&bytes);
        assert!(matches!(disk.find_volume(Some(1)), Err(ImageError::NotBfs { .. })));
        assert_eq!(disk.find_place(Some(1)).unwrap(), samples::BFS);
        for number in [None, Some(2), Some(3)] {
            assert!(disk.find_place(number).is_err(), "{number:?}");
        }
    }

    #[test]
    fn of_several_volumes_one_must_be_named() {
        let mut bytes = samples::mbr();
        samples::entry(&mut bytes, 2, false, 0x83, samples::BFS);
        let disk = disk(&bytes);
        let error = disk.find_volume(None).unwrap_err();
        assert!(
            matches!(&error, ImageError::SeveralBfs { numbers, .. } if numbers == &[1, 3]),
            "{error}"
        );
        assert_eq!(disk.find_volume(Some(3)).unwrap(), samples::BFS);
    }
}
