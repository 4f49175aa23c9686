//! Processes that have a card open.
//!
//! A driver that is unbound while a process has its device open may wait for that process without
//! end, so that this is looked for before the first write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::host::{DeviceNumber, Sysroot};
use serde::Serialize;

use crate::uses::{Storage, functions_on, processes};
use crate::{Address, Function, Host};

/// A process that has a device node of a function open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of its command.
    pub command: String,
    /// The function.
    pub function: Address,
    /// The device node, or the attribute of sysfs through which it has a region.
    pub node: String,
    /// Whether it drives the function through VFIO.
    pub is_vfio: bool,
}

/// The processes that have a card open, as far as they can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Holders {
    /// Those that were found, by process id.
    pub found: Vec<Holder>,
    /// How many processes could not be looked into, for want of rights.
    pub unseen: usize,
}

impl Holders {
    /// Looks through the open files of all processes but this one and `ignored`.
    pub fn read(
        host: &Sysroot,
        functions: &Host,
        wanted: &[Address],
        storage: Option<&Storage>,
        ignored: &[u32],
    ) -> Self {
        let nodes = Nodes::of(host, functions, wanted, storage);
        let mut holders = Self::default();
        let this = host.is_live().then(std::process::id);
        for pid in processes(host) {
            if Some(pid) == this || ignored.contains(&pid) {
                continue;
            }
            let directory = format!("/proc/{pid}/fd");
            let descriptors = match host.names(&directory) {
                Ok(descriptors) => descriptors,
                // It ended meanwhile.
                Err(error) if error.is_absent() => continue,
                Err(_) => {
                    holders.unseen += 1;
                    continue;
                }
            };
            let mut seen = BTreeSet::new();
            for descriptor in descriptors {
                let Ok(target) = host.link(format!("{directory}/{descriptor}")) else { continue };
                let Some((function, node)) =
                    nodes.find(host, wanted, &format!("{directory}/{descriptor}"), &target)
                else {
                    continue;
                };
                if seen.insert((function, node.clone())) {
                    let command = host.text(format!("/proc/{pid}/comm")).unwrap_or_default();
                    let is_vfio = node.starts_with("/dev/vfio/");
                    holders.found.push(Holder { pid, command, function, node, is_vfio });
                }
            }
        }
        holders.found.sort_by(|one, other| (one.pid, &one.node).cmp(&(other.pid, &other.node)));
        holders
    }
}

/// The device nodes of some functions.
#[derive(Default)]
struct Nodes {
    by_path: BTreeMap<String, Address>,
    by_number: BTreeMap<DeviceNumber, (Address, String)>,
}

impl Nodes {
    fn of(host: &Sysroot, functions: &Host, wanted: &[Address], storage: Option<&Storage>) -> Self {
        let mut nodes = Self::default();
        for kind in ["char", "block"] {
            let directory = format!("/sys/dev/{kind}");
            for number in host.names(&directory).unwrap_or_default() {
                let path = format!("{directory}/{number}");
                let Ok(target) = host.link(&path) else { continue };
                let Some(function) = functions_on(&target).into_iter().find(|f| wanted.contains(f))
                else {
                    continue;
                };
                if let Some(node) = device_name(host, &path) {
                    nodes.by_path.insert(node.clone(), function);
                    if let Some(number) = device_number(kind == "block", &number) {
                        nodes.by_number.insert(number, (function, node));
                    }
                }
            }
        }
        // The disks of NVMe with several paths hang on no function.
        for disk in storage.into_iter().flat_map(|storage| storage.behind(wanted)) {
            let Some(function) = disk.functions.iter().find(|f| wanted.contains(f)) else {
                continue;
            };
            let entries = host.names(format!("/sys/class/block/{}", disk.name)).unwrap_or_default();
            let partitions = entries.into_iter().filter(|entry| entry.starts_with(&disk.name));
            for node in partitions.chain([disk.name.clone()]) {
                nodes
                    .by_path
                    .entry(format!("/dev/{}", node.replace('!', "/")))
                    .or_insert(*function);
            }
        }
        for function in wanted.iter().filter_map(|address| functions.function(*address)) {
            nodes.add_unlisted(host, function);
        }
        nodes
    }

    /// Adds the nodes that sysfs does not tie to a function.
    fn add_unlisted(&mut self, host: &Sysroot, function: &Function) {
        let address = function.address;
        // A group is one node whatever is in it (Documentation/driver-api/vfio.rst).
        let path = format!("{}/iommu_group", Function::path(address));
        if let Ok(Some(group)) = host.link_name(path) {
            self.by_path.insert(format!("/dev/vfio/{group}"), address);
            self.by_path.insert(format!("/dev/vfio/noiommu-{group}"), address);
        }
        // NVIDIA's own driver registers its nodes with nobody, but tells their minor number.
        let path = format!("/proc/driver/nvidia/gpus/{address}/information");
        let text = host.text(path).unwrap_or_default();
        let minor = text.lines().find_map(|line| line.strip_prefix("Device Minor:"));
        if let Some(minor) = minor {
            self.by_path.insert(format!("/dev/nvidia{}", minor.trim()), address);
        }
    }

    /// Returns the function and node that an open file is of.
    fn find(
        &self,
        host: &Sysroot,
        wanted: &[Address],
        descriptor: &str,
        target: &Path,
    ) -> Option<(Address, String)> {
        let path = target.to_str()?;
        if path.starts_with("/sys/devices/") {
            let function = *functions_on(target).first()?;
            let is_region = target.file_name()?.to_str()?.starts_with("resource");
            return (is_region && wanted.contains(&function)).then(|| (function, path.to_owned()));
        }
        if let Some(function) = self.by_path.get(path) {
            return Some((*function, path.to_owned()));
        }
        // In a container a node may have another name; its number is the same.
        if !path.starts_with("/dev/") || path.starts_with("/dev/pts/") || path == "/dev/null" {
            return None;
        }
        let number = host.device_number(descriptor).ok()??;
        self.by_number.get(&number).cloned()
    }
}

fn device_number(is_block: bool, text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber { is_block, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Path of a device's node, from its `uevent`.
fn device_name(host: &Sysroot, path: &str) -> Option<String> {
    let uevent = host.text(format!("{path}/uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(format!("/dev/{name}"))
}

#[cfg(test)]
mod tests;
