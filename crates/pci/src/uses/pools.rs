//! File systems that span several disks and have no block device of their own.

use std::collections::BTreeSet;

use ::host::{ReadError, Sysroot};
use serde::Serialize;

use super::block::Blocks;
use super::mounts::Mount;

const BTRFS: &str = "/sys/fs/btrfs";
const BCACHEFS: &str = "/sys/fs/bcachefs";
/// ZFS keeps a directory here for each pool that is imported.
const ZFS: &str = "/proc/spl/kstat/zfs";

/// A file system over several disks that the kernel has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Pool {
    /// `btrfs` or `bcachefs`.
    pub kind: &'static str,
    /// Its UUID.
    pub id: String,
    /// Kernel names of its block devices.
    pub members: Vec<String>,
    /// Where it is mounted, as far as can be told.
    pub points: Vec<String>,
}

/// The pools that are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pools {
    /// Pools whose members the kernel names.
    pub listed: Vec<Pool>,
    /// Names of the ZFS pools that are imported or mounted. Which disks they are on is told only
    /// by the disks themselves.
    pub zfs: BTreeSet<String>,
}

impl Pools {
    /// Reads all pools that are in use.
    pub fn read(host: &Sysroot, blocks: &Blocks, mounts: &[Mount]) -> Result<Self, ReadError> {
        let mut listed = Vec::new();
        // Both file systems have a directory only while they are mounted, beside `features`.
        for id in host.optional_names(BTRFS)? {
            let members = host.optional_names(format!("{BTRFS}/{id}/devices"))?;
            listed.push(Pool { kind: "btrfs", id, members, points: Vec::new() });
        }
        for id in host.optional_names(BCACHEFS)? {
            let mut members = Vec::new();
            for entry in host.optional_names(format!("{BCACHEFS}/{id}"))? {
                if entry.starts_with("dev-") {
                    members.extend(host.link_name(format!("{BCACHEFS}/{id}/{entry}/block"))?);
                }
            }
            listed.push(Pool { kind: "bcachefs", id, members, points: Vec::new() });
        }
        listed.retain(|pool| !pool.members.is_empty());
        for mount in mounts {
            let Some(pool) = listed.iter_mut().find(|pool| pool.has(host, blocks, mount)) else {
                continue;
            };
            pool.points.push(mount.point.clone());
        }
        let mut zfs: BTreeSet<_> = mounts
            .iter()
            .filter(|mount| mount.file_system == "zfs")
            .filter_map(|mount| mount.source.split(['/', '@']).next().map(str::to_owned))
            .collect();
        for name in host.optional_names(ZFS)? {
            if host.names(format!("{ZFS}/{name}")).is_ok() {
                zfs.insert(name);
            }
        }
        Ok(Self { listed, zfs })
    }
}

impl Pool {
    /// Whether a mount is of this pool: its source names one member, or all with colons between.
    fn has(&self, host: &Sysroot, blocks: &Blocks, mount: &Mount) -> bool {
        mount.file_system == self.kind
            && mount.source.split(':').any(|source| {
                blocks.named_by(host, source).is_some_and(|name| self.members.contains(&name))
            })
    }
}
