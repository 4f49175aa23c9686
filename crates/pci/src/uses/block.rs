//! The block devices of the host and what is built on top of them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use ::host::{ReadError, Sysroot};
use serde::Serialize;

use super::device::functions_on;
use crate::Address;

/// Where sysfs lists block devices, partitions included.
const BLOCKS: &str = "/sys/class/block";
/// The disks of NVMe with several paths (drivers/nvme/host/multipath.c) hang on no controller.
const NVME_SUBSYSTEMS: &str = "/sys/devices/virtual/nvme-subsystem";

/// One block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Major and minor number, as `259:2`.
    pub number: Option<String>,
    /// The PCI functions that it needs, the nearest first.
    pub functions: Vec<Address>,
    /// The disk of a partition.
    pub disk: Option<String>,
    /// What it calls itself, where that is more than its kernel name: of a device mapper's.
    pub label: Option<String>,
    /// What is built on it: its partitions, and devices that hold it.
    pub above: Vec<String>,
    /// Whether it is a mere path to a disk that is shown elsewhere.
    pub hidden: bool,
}

/// A block device on the way from a disk to what uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its kernel name, such as `dm-0`.
    pub name: String,
    /// What the device mapper calls it, such as `cryptroot`.
    pub label: Option<String>,
}

/// All block devices, by kernel name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocks(BTreeMap<String, Block>);

impl Blocks {
    /// Reads all block devices.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let mut blocks = BTreeMap::new();
        let mut edges = Vec::new();
        let names = host.optional_names(BLOCKS)?;
        for name in &names {
            let path = format!("{BLOCKS}/{name}");
            let Ok(target) = host.link(&path) else { continue };
            // A partition lies in the directory of its disk.
            let above = target.parent().and_then(Path::file_name);
            let disk = above
                .map(|above| above.to_string_lossy().into_owned())
                .filter(|above| names.binary_search(above).is_ok());
            if let Some(disk) = &disk {
                edges.push((disk.clone(), name.clone()));
            }
            for holder in host.optional_names(format!("{path}/holders"))? {
                edges.push((name.clone(), holder));
            }
            // A loop device holds no claim that sysfs shows; its file may be a block device.
            if name.starts_with("loop")
                && let Some(file) = host.optional_text(format!("{path}/loop/backing_file"))?
                && let Some(below) = file.strip_prefix("/dev/")
            {
                edges.push((below.to_owned(), name.clone()));
            }
            let functions = match nvme_subsystem(&target) {
                Some(subsystem) => controllers_of(host, &subsystem)?,
                None => functions_on(&target),
            };
            let block = Block {
                number: host.optional_text(format!("{path}/dev"))?,
                functions,
                disk,
                label: host.optional_text(format!("{path}/dm/name")).ok().flatten(),
                above: Vec::new(),
                hidden: host.optional_text(format!("{path}/hidden"))?.as_deref() == Some("1"),
            };
            blocks.insert(name.clone(), block);
        }
        for (below, above) in edges {
            if let Some(block) = blocks.get_mut(&below)
                && below != above
            {
                block.above.push(above);
            }
        }
        Ok(Self(blocks))
    }

    /// Returns the disks that hang on a PCI function, with their names.
    pub fn disks(&self) -> impl Iterator<Item = (&str, &Block)> {
        self.0
            .iter()
            .filter(|(_, block)| block.disk.is_none() && !block.functions.is_empty())
            .filter(|(_, block)| !block.hidden)
            .map(|(name, block)| (name.as_str(), block))
    }

    /// Returns one block device.
    pub fn get(&self, name: &str) -> Option<&Block> {
        self.0.get(name)
    }

    /// Returns the name of the block device that a path below `/dev` leads to.
    pub fn named_by(&self, host: &Sysroot, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        // Links of udev lead to the device in one step, those of LVM in two.
        for _ in 0..4 {
            let name = path.strip_prefix("/dev/")?;
            if self.0.contains_key(&name.replace('/', "!")) {
                return Some(name.replace('/', "!"));
            }
            if let Some(label) = name.strip_prefix("mapper/")
                && let Some((name, _)) =
                    self.0.iter().find(|(_, block)| block.label.as_deref() == Some(label))
            {
                return Some(name.clone());
            }
            let target = host.link(&path).ok()?;
            path = join(&path, target.to_str()?);
        }
        None
    }

    /// Returns all devices that are built on a disk, itself included, each with the way to it.
    pub fn above<'a>(&'a self, disk: &'a str) -> Vec<Vec<&'a str>> {
        let mut ways: Vec<Vec<&str>> = Vec::new();
        let mut waiting = VecDeque::from([vec![disk]]);
        let mut seen = BTreeMap::from([(disk, ())]);
        while let Some(way) = waiting.pop_front() {
            let top = way.last().copied().unwrap_or_default();
            for above in self.0.get(top).into_iter().flat_map(|block| &block.above) {
                if seen.insert(above.as_str(), ()).is_none() {
                    let mut further = way.clone();
                    further.push(above);
                    waiting.push_back(further);
                }
            }
            ways.push(way);
        }
        ways
    }

    /// Names the devices of a way.
    pub fn nodes(&self, way: &[&str]) -> Vec<Node> {
        let node = |name: &&str| Node {
            name: (*name).to_owned(),
            label: self.0.get(*name).and_then(|block| block.label.clone()),
        };
        way.iter().map(node).collect()
    }
}

fn nvme_subsystem(target: &Path) -> Option<String> {
    let (_, below) = target.to_str()?.split_once("/virtual/nvme-subsystem/")?;
    Some(format!("{NVME_SUBSYSTEMS}/{}", below.split('/').next()?))
}

/// The PCI functions of all controllers of an NVMe subsystem: the controllers themselves first.
fn controllers_of(host: &Sysroot, subsystem: &str) -> Result<Vec<Address>, ReadError> {
    let mut ways = Vec::new();
    for name in host.optional_names(subsystem)? {
        let digits = name.strip_prefix("nvme").unwrap_or_default();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            ways.extend(host.link(format!("{subsystem}/{name}")).ok());
        }
    }
    let ways: Vec<_> = ways.iter().map(|target| functions_on(target)).collect();
    let nearest = ways.iter().filter_map(|way| way.first());
    let others = ways.iter().flat_map(|way| way.iter().skip(1));
    let mut functions: Vec<Address> = Vec::new();
    for function in nearest.chain(others) {
        if !functions.contains(function) {
            functions.push(*function);
        }
    }
    Ok(functions)
}

/// Resolves the text of a link against the path of the link, by words alone.
fn join(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
