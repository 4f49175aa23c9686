//! The disks behind a function: what the host does with them, and what is on them.

use std::collections::BTreeSet;

use ::host::{Measured, ReadError, Sysroot};
use serde::Serialize;

use super::block::{Block, Blocks, Node};
use super::contents::{self, Content};
use super::mounts::{self, Mention, Mount};
use super::pools::Pools;
use crate::Address;

/// A disk that hangs on a PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its kernel name, such as `nvme0n1`.
    pub name: String,
    /// The PCI functions that it needs, the nearest first.
    pub functions: Vec<Address>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number, or else its world-wide name.
    pub serial: Option<String>,
    /// Its size, in bytes.
    pub size: u64,
    /// What the host does with it now. Unmeasured where the table of mounts cannot be read.
    pub uses: Measured<Vec<DiskUse>>,
    /// What is on it; nothing where it is blank.
    pub contents: Measured<Vec<Content>>,
    /// Lines of `/etc/fstab` and `/etc/crypttab` that name it or what is built on it.
    pub mentions: Vec<Mention>,
}

impl Disk {
    /// The name by which a person allows the loss of its data: its serial number where it has one,
    /// or else its kernel name.
    pub fn identity(&self) -> &str {
        self.serial.as_deref().unwrap_or(&self.name)
    }
}

/// One use of a disk, with the way from the disk to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// The block devices on the way, the disk itself first.
    pub way: Vec<Node>,
    /// What the last of them is used for.
    pub purpose: Purpose,
}

/// What a block device is used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Purpose {
    /// A file system on it is mounted.
    Mounted {
        /// Where, `/` first. Empty where only the kernel's own list tells.
        points: Vec<String>,
        /// The kind of file system.
        file_system: String,
    },
    /// The host swaps to it.
    Swap,
    /// It is a member of a ZFS pool that is imported, or may be one.
    Zfs {
        /// The pool, where the disk tells its name.
        pool: Option<String>,
    },
    /// It is the EFI system partition that this boot started from.
    BootPartition,
    /// It is open as a mapped, assembled or encrypted device of which no use is known.
    Active,
}

/// What the host does with all its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// The disks that hang on PCI functions, by name.
    pub disks: Vec<Disk>,
    /// All mounts.
    pub mounts: Measured<Vec<Mount>>,
}

/// Where systemd-boot and its stub say which partition they were started from
/// (systemd, Boot Loader Interface).
const BOOT_PARTITION: &str =
    "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

impl Storage {
    /// Reads what the host does with its disks, and what is on those that hang on a function of
    /// `examined`.
    ///
    /// # Errors
    /// Sysfs cannot be read.
    pub fn read(host: &Sysroot, examined: &BTreeSet<Address>) -> Result<Self, ReadError> {
        let blocks = Blocks::read(host)?;
        let mounts = mounts::read(host);
        let swaps = mounts::swaps(host);
        let known = mounts.known().map_or(&[][..], Vec::as_slice);
        let in_use = InUse {
            pools: Pools::read(host, &blocks, known)?,
            swaps: swaps
                .known()
                .into_iter()
                .flatten()
                .filter_map(|path| blocks.named_by(host, path))
                .collect(),
            mounts: known,
            boot: boot_partition(host, &blocks),
            blocks: &blocks,
        };
        let mentions = mounts::mentions(host)?;
        let mut disks = Vec::new();
        for (name, block) in blocks.disks() {
            let examine = block.functions.iter().any(|function| examined.contains(function));
            let mut disk = describe(host, &blocks, name, block, examine)?;
            let unread = [mounts.known().is_none(), swaps.known().is_none()];
            disk.uses = match unread {
                [false, false] => Measured::Known(in_use.of(&disk)),
                _ => Measured::unmeasured("/proc/self/mountinfo or /proc/swaps cannot be read"),
            };
            disk.mentions = mentions
                .iter()
                .filter(|mention| is_meant(host, &blocks, &disk, mention))
                .cloned()
                .collect();
            disks.push(disk);
        }
        Ok(Self { disks, mounts })
    }

    /// Returns the disks that need one of `functions`.
    pub fn behind<'a>(&'a self, functions: &'a [Address]) -> impl Iterator<Item = &'a Disk> {
        self.disks
            .iter()
            .filter(|disk| disk.functions.iter().any(|function| functions.contains(function)))
    }
}

fn describe(
    host: &Sysroot,
    blocks: &Blocks,
    name: &str,
    block: &Block,
    examine: bool,
) -> Result<Disk, ReadError> {
    let path = format!("/sys/class/block/{name}");
    let sectors = host.optional_text(format!("{path}/size"))?;
    // In units of 512 bytes whatever the disk's own (block/genhd.c, part_size_show).
    let size = sectors.and_then(|sectors| sectors.parse().ok()).unwrap_or(0u64).saturating_mul(512);
    let udev = contents::Udev::read(host, block.number.as_deref());
    let text = |attribute: &str| {
        let text = host.text(format!("{path}/{attribute}")).ok()?;
        printable(&text)
    };
    let serial = text("serial")
        .or_else(|| text("device/serial"))
        .or_else(|| vital_serial(host, &path))
        .or_else(|| udev.get("ID_SERIAL_SHORT").map(str::to_owned))
        .or_else(|| text("wwid"))
        .or_else(|| text("device/wwid"));
    Ok(Disk {
        name: name.to_owned(),
        functions: block.functions.clone(),
        model: text("device/model"),
        serial,
        size,
        uses: Measured::Known(Vec::new()),
        contents: contents::read(host, blocks, name, size, examine),
        mentions: Vec::new(),
    })
}

fn printable(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The serial number from a SCSI disk's vital product data, page 0x80 (SPC-4, 7.8.15), which
/// libata makes up for ATA disks.
fn vital_serial(host: &Sysroot, path: &str) -> Option<String> {
    let page = host.read(format!("{path}/device/vpd_pg80")).ok()?;
    printable(&String::from_utf8_lossy(page.get(4..)?))
}

/// What decides whether a block device is in use.
struct InUse<'a> {
    pools: Pools,
    swaps: BTreeSet<String>,
    mounts: &'a [Mount],
    boot: Option<String>,
    blocks: &'a Blocks,
}

impl InUse<'_> {
    fn of(&self, disk: &Disk) -> Vec<DiskUse> {
        let mut uses = Vec::new();
        for way in self.blocks.above(&disk.name) {
            let top = way.last().copied().unwrap_or_default();
            for purpose in self.purposes(disk, &way, top) {
                uses.push(DiskUse { way: self.blocks.nodes(&way), purpose });
            }
        }
        uses
    }

    fn purposes(&self, disk: &Disk, way: &[&str], top: &str) -> Vec<Purpose> {
        let mut purposes = Vec::new();
        let Some(block) = self.blocks.get(top) else { return purposes };
        let mut here =
            self.mounts.iter().filter(|mount| Some(&mount.device) == block.number.as_ref());
        if let Some(mount) = here.next() {
            let points = std::iter::once(mount).chain(here).map(|mount| mount.point.clone());
            purposes.push(Purpose::Mounted {
                points: sorted(points.collect()),
                file_system: mount.file_system.clone(),
            });
        }
        if self.swaps.contains(top) {
            purposes.push(Purpose::Swap);
        }
        for pool in &self.pools.listed {
            if pool.members.iter().any(|member| member == top) {
                let points = sorted(pool.points.clone());
                purposes.push(Purpose::Mounted { points, file_system: pool.kind.to_owned() });
            }
        }
        if self.boot.as_deref() == Some(top) {
            purposes.push(Purpose::BootPartition);
        }
        let members = disk.contents.known().into_iter().flatten();
        for content in members.filter(|content| content.node == top) {
            let Some(signature) = content.zfs_member() else { continue };
            let pool = signature.label.clone();
            // A label that does not tell its pool may be of any pool.
            let may_be = pool.as_ref().is_none_or(|pool| self.pools.zfs.contains(pool));
            if may_be && !self.pools.zfs.is_empty() {
                purposes.push(Purpose::Zfs { pool });
            }
        }
        let is_built = way.len() > 1 && block.functions.is_empty();
        if purposes.is_empty() && is_built && block.above.is_empty() {
            purposes.push(Purpose::Active);
        }
        purposes
    }
}

/// Puts the root first, then what is nearest to it.
fn sorted(mut points: Vec<String>) -> Vec<String> {
    points.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    points.dedup();
    points
}

fn boot_partition(host: &Sysroot, blocks: &Blocks) -> Option<String> {
    // Four bytes of attributes, then UTF-16 (Documentation/filesystems/efivarfs.rst).
    let bytes = host.read(BOOT_PARTITION).ok()?;
    let units = bytes.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let id: String =
        char::decode_utf16(units).map_while(Result::ok).take_while(|char| *char != '\0').collect();
    blocks.named_by(host, &format!("/dev/disk/by-partuuid/{}", id.to_lowercase()))
}

/// Whether a line of a table names the disk or something built on it.
fn is_meant(host: &Sysroot, blocks: &Blocks, disk: &Disk, mention: &Mention) -> bool {
    let contents = disk.contents.known().map_or(&[][..], Vec::as_slice);
    let (path, listed) = match mention.device.split_once('=') {
        None => (mention.device.clone(), false),
        Some((key, value)) => {
            let has = |of: fn(&Content) -> Option<&str>| {
                contents.iter().any(|content| of(content) == Some(value))
            };
            let listed = match key {
                "UUID" => has(Content::uuid),
                "LABEL" => has(Content::label),
                _ => false,
            };
            (format!("/dev/disk/by-{}/{value}", key.to_lowercase()), listed)
        }
    };
    listed
        || blocks.named_by(host, &path).is_some_and(|name| {
            blocks.above(&disk.name).iter().any(|way| way.last() == Some(&name.as_str()))
        })
}
