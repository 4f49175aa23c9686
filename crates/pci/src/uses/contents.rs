//! What is on a disk: read from the disk itself, or else told by udev's database and by the
//! kernel's list of partitions.

use std::collections::BTreeMap;

use ::host::{Measured, ReadError, Sysroot};
use serde::Serialize;

use super::block::Blocks;
use super::signature::{Ends, HEAD, PartitionTable, Signature, SignatureKind, TAIL};

/// Partitions beyond this number are not looked into: the table is reason enough.
const MOST_PARTITIONS: usize = 128;

/// Something found on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Content {
    /// The disk or partition that it is on, by kernel name.
    pub node: String,
    /// What it is.
    #[serde(flatten)]
    pub found: Found,
}

/// What was found on a disk or partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Found {
    /// A partition table.
    Table(PartitionTable),
    /// A file system, or a part of one.
    Signature(Signature),
    /// Bytes that are neither blank nor recognised.
    Unknown,
}

impl Content {
    /// The UUID that it has.
    pub fn uuid(&self) -> Option<&str> {
        match &self.found {
            Found::Signature(signature) => signature.uuid.as_deref(),
            _ => None,
        }
    }

    /// The label that it has.
    pub fn label(&self) -> Option<&str> {
        match &self.found {
            Found::Signature(signature) => signature.label.as_deref(),
            _ => None,
        }
    }

    pub(super) fn zfs_member(&self) -> Option<&Signature> {
        match &self.found {
            Found::Signature(signature) if signature.what == "zfs_member" => Some(signature),
            _ => None,
        }
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.found {
            Found::Table(table) => write!(f, "{} partition table", table.kind)?,
            Found::Signature(signature) => {
                f.write_str(&signature.what)?;
                if let Some(label) = &signature.label {
                    write!(f, " \"{label}\"")?;
                }
            }
            Found::Unknown => f.write_str("data of an unknown kind")?,
        }
        write!(f, " on {}", self.node)
    }
}

/// Reads what is on a disk.
///
/// The disk itself is read only if `examine`: that takes root, and wakes a disk that sleeps.
pub(super) fn read(
    host: &Sysroot,
    blocks: &Blocks,
    disk: &str,
    size: u64,
    examine: bool,
) -> Measured<Vec<Content>> {
    // Nothing is in the drive, or nothing that a guest could destroy.
    if size == 0 || is_optical(disk) {
        return Measured::Known(Vec::new());
    }
    let partitions: Vec<_> = blocks
        .get(disk)
        .into_iter()
        .flat_map(|block| &block.above)
        .filter(|name| blocks.get(name).is_some_and(|block| block.disk.as_deref() == Some(disk)))
        .take(MOST_PARTITIONS)
        .collect();
    let examined = if examine {
        examine_disk(host, disk, size, &partitions).map_err(|error| match error.is_denied() {
            true => format!("no permission to read /dev/{disk}, which root has as a rule"),
            false => format!("/dev/{disk} cannot be read: {}", error.source),
        })
    } else {
        Err("disks of functions that were not named are not read".to_owned())
    };
    examined.map_or_else(
        |why| match told(host, blocks, disk, &partitions) {
            told if told.is_empty() => Measured::unmeasured(why),
            told => Measured::Known(told),
        },
        Measured::Known,
    )
}

/// SCSI CD-ROMs (Documentation/admin-guide/devices.txt, block major 11).
fn is_optical(disk: &str) -> bool {
    disk.strip_prefix("sr").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn examine_disk(
    host: &Sysroot,
    disk: &str,
    size: u64,
    partitions: &[&String],
) -> Result<Vec<Content>, ReadError> {
    let mut contents = look(host, disk, Some(size))?;
    if contents.iter().any(|content| content.found != Found::Unknown) {
        contents.retain(|content| content.found != Found::Unknown);
    }
    for partition in partitions {
        let sectors = host.optional_text(format!("/sys/class/block/{partition}/size"))?;
        let size = sectors.and_then(|sectors| sectors.parse::<u64>().ok());
        // That the table is there is known already; a partition that cannot be read adds nothing.
        let found = look(host, partition, size.map(|sectors| sectors.saturating_mul(512)));
        let found = found.unwrap_or_default();
        contents.extend(found.into_iter().filter(|content| content.found != Found::Unknown));
    }
    // Without a table on the disk the kernel still knows partitions where one was read earlier.
    if contents.is_empty() && !partitions.is_empty() {
        contents.push(Content { node: disk.to_owned(), found: Found::Unknown });
    }
    Ok(contents)
}

fn look(host: &Sysroot, node: &str, size: Option<u64>) -> Result<Vec<Content>, ReadError> {
    let path = format!("/dev/{}", node.replace('!', "/"));
    let size = size.unwrap_or(0);
    let whole = usize::try_from(size).unwrap_or(usize::MAX);
    let tail_length = whole.min(TAIL);
    let head = host.read_at(&path, 0, whole.min(HEAD))?;
    let tail_at = size.saturating_sub(u64::try_from(tail_length).unwrap_or(size));
    let tail = host.read_at(&path, tail_at, tail_length)?;
    // What was not read must not pass for blank.
    if head.len() < whole.min(HEAD) || tail.len() < tail_length {
        let source = std::io::ErrorKind::UnexpectedEof.into();
        return Err(ReadError { path: path.into(), source });
    }
    let ends = Ends { head: &head, tail: &tail, size };
    let table = ends.table().map(Found::Table);
    let signatures = ends.signatures().into_iter().map(Found::Signature);
    let mut found: Vec<_> = table.into_iter().chain(signatures).collect();
    if found.is_empty() && !ends.are_blank() {
        found.push(Found::Unknown);
    }
    Ok(found.into_iter().map(|found| Content { node: node.to_owned(), found }).collect())
}

/// What can be told without reading the disk. That nothing is told proves nothing.
fn told(host: &Sysroot, blocks: &Blocks, disk: &str, partitions: &[&String]) -> Vec<Content> {
    let mut contents = Vec::new();
    for node in std::iter::once(disk).chain(partitions.iter().map(|name| name.as_str())) {
        let number = blocks.get(node).and_then(|block| block.number.as_deref());
        let udev = Udev::read(host, number);
        if node == disk
            && let Some(kind) = table_kind(&udev, !partitions.is_empty())
        {
            let table = PartitionTable { kind, partitions: Vec::new(), count: partitions.len() };
            contents.push(Content { node: node.to_owned(), found: Found::Table(table) });
        }
        if let Some(signature) = udev.signature() {
            contents.push(Content { node: node.to_owned(), found: Found::Signature(signature) });
        }
    }
    contents
}

fn table_kind(udev: &Udev, has_partitions: bool) -> Option<&'static str> {
    match udev.get("ID_PART_TABLE_TYPE") {
        Some("gpt") => Some("gpt"),
        Some("dos") => Some("dos"),
        Some("mac") => Some("mac"),
        Some("bsd") => Some("bsd"),
        Some(_) => Some("other"),
        None => has_partitions.then_some("other"),
    }
}

/// The properties of a device in udev's database, which everybody may read.
///
/// Its format is not promised (systemd, sd-device/device-private.c), so that it only ever adds
/// evidence.
#[derive(Debug, Default)]
pub(super) struct Udev(BTreeMap<String, String>);

impl Udev {
    /// Reads the properties of the block device `number`, written `259:2`; none where there are
    /// none.
    pub fn read(host: &Sysroot, number: Option<&str>) -> Self {
        let Some(number) = number else { return Self::default() };
        let text = host.text(format!("/run/udev/data/b{number}")).unwrap_or_default();
        let properties = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        Self(properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Returns one property, unless it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn signature(&self) -> Option<Signature> {
        let kind = match self.get("ID_FS_USAGE")? {
            "crypto" => SignatureKind::Encrypted,
            "raid" => SignatureKind::Member,
            _ if self.get("ID_FS_TYPE") == Some("swap") => SignatureKind::Swap,
            _ => SignatureKind::FileSystem,
        };
        Some(Signature {
            kind,
            what: self.get("ID_FS_TYPE")?.to_owned(),
            label: self.get("ID_FS_LABEL").map(str::to_owned),
            uuid: self.get("ID_FS_UUID").map(str::to_owned),
        })
    }
}
