//! The partitions of an image, and the BFS volume that is meant.

use std::path::Path;

use serde::Serialize;

use super::source::{Source, Window};
use super::{Container, Extent, Image, ImageError, SECTOR, bfs, gpt, identify, mbr, open};

/// A partition of a disk in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number, as partitioning tools count.
    pub number: usize,
    /// What the table says that it is.
    pub kind: PartitionKind,
    /// Where it lies in the file.
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

/// Lists the partitions of the disk in an image file; a bare volume has none.
///
/// # Errors
/// It is no image, or a qcow2 file.
pub fn partitions(path: &Path) -> Result<Vec<Partition>, ImageError> {
    let file = open(path)?;
    let (disk, header) = disk(path, &file)?;
    let read = |source| ImageError::Open { path: path.to_owned(), source };
    let record = disk.read_up_to(0, 2 * SECTOR).map_err(read)?;
    if is_bfs(&disk, 0).map_err(read)? || !mbr::is_signed(&record) {
        return Ok(Vec::new());
    }
    let table = mbr::read(&disk, &record).map_err(read)?;
    let found: Vec<_> = if table.iter().any(|entry| entry.kind == mbr::PROTECTIVE) {
        let entries = gpt::entries(&disk).map_err(read)?.unwrap_or_default();
        let kind = |kind| match kind {
            gpt::BFS => PartitionKind::Bfs,
            gpt::ESP => PartitionKind::Efi,
            _ => PartitionKind::Other,
        };
        entries.into_iter().map(|entry| (entry.number, kind(entry.kind), entry.extent)).collect()
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
        let has_bfs = is_bfs(&disk, extent.start).map_err(read)?;
        let extent = Extent { start: extent.start.saturating_add(header), ..extent };
        partitions.push(Partition { number, kind, extent, has_bfs });
    }
    Ok(partitions)
}

/// Finds a BFS volume in an image file: that of the partition `number`, or the only one. The place
/// is that of the partition, in the file.
///
/// # Errors
/// It is no image, or a qcow2 file; there is no such partition, no BFS, or more than one.
pub fn find_volume(path: &Path, number: Option<usize>) -> Result<Extent, ImageError> {
    let owned = || path.to_owned();
    let partitions = partitions(path)?;
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
        let file = open(path)?;
        // Says what it is where it is no bare volume.
        identify(path, &file)?;
        let (disk, header) = disk(path, &file)?;
        let size =
            disk.size().map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
        return Ok(Extent { start: header, size });
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

/// The disk in a file, and where it begins there.
fn disk<'a>(path: &Path, file: &'a std::fs::File) -> Result<(Window<'a>, u64), ImageError> {
    let read = |source| ImageError::Open { path: path.to_owned(), source };
    let size = file.size().map_err(read)?;
    // A disk with damaged or foreign partitions may be looked at too; its container must be known.
    let header = match identify(path, file) {
        Ok(Image { container: Container::Qcow2 { .. }, .. }) => {
            return Err(ImageError::Qcow2 { path: path.to_owned() });
        }
        Ok(Image { container: Container::Vmdk { header }, .. }) => header,
        Ok(_)
        | Err(
            ImageError::NoBfs { .. } | ImageError::Damaged { .. } | ImageError::Truncated { .. },
        ) => 0,
        Err(other) => return Err(other),
    };
    Ok((Window::new(file, header, size.saturating_sub(header)), header))
}

fn is_bfs(disk: &dyn Source, start: u64) -> std::io::Result<bool> {
    let block = disk.read_up_to(start.saturating_add(SECTOR), SECTOR)?;
    Ok(bfs::Volume::parse(&block).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn the_volume_of_every_kind_of_image_is_found() {
        let gpt = samples::gpt_disk();
        for (name, bytes, start) in [
            ("anyboot", samples::anyboot(), samples::BFS.start),
            ("bare", samples::bfs(32), 0),
            ("mbr", samples::mbr(), samples::BFS.start),
            ("gpt", gpt, samples::BFS.start),
            ("vmdk", samples::vmdk(), 65536),
        ] {
            let file = written(&bytes);
            assert_eq!(find_volume(file.path(), None).unwrap().start, start, "{name}");
        }
        let file = written(&samples::qcow2(3));
        assert!(matches!(find_volume(file.path(), None), Err(ImageError::Qcow2 { .. })));
    }

    #[test]
    fn partitions_are_numbered_as_tools_do() {
        let file = written(&samples::anyboot());
        let found: Vec<_> = partitions(file.path())
            .unwrap()
            .into_iter()
            .map(|partition| (partition.number, partition.kind, partition.has_bfs))
            .collect();
        assert_eq!(found, [(1, PartitionKind::Bfs, true), (2, PartitionKind::Efi, false)]);
        assert_eq!(find_volume(file.path(), Some(1)).unwrap(), samples::BFS);
        let error = |number| find_volume(file.path(), Some(number)).unwrap_err();
        assert!(matches!(error(2), ImageError::NotBfs { number: 2, .. }));
        assert!(matches!(error(3), ImageError::NoSuchPartition { number: 3, .. }));
        let logical = written(&samples::logical());
        assert_eq!(partitions(logical.path()).unwrap()[0].number, 5);
    }

    #[test]
    fn of_several_volumes_one_must_be_named() {
        let mut bytes = samples::mbr();
        samples::entry(&mut bytes, 2, false, 0x83, samples::BFS);
        let file = written(&bytes);
        let error = find_volume(file.path(), None).unwrap_err();
        assert!(
            matches!(&error, ImageError::SeveralBfs { numbers, .. } if numbers == &[1, 3]),
            "{error}"
        );
        assert_eq!(find_volume(file.path(), Some(3)).unwrap(), samples::BFS);
    }
}
