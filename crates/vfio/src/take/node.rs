//! The device nodes through which user space drives a function.

use std::io;
use std::path::PathBuf;

use host::{ReadError, Sysroot};
use pci::{Address, Function};
use serde::{Deserialize, Serialize};

/// The user to whom the nodes of a card are given, to drive it without root's rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The user's name, where it is known.
    pub name: Option<String>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "user {}", self.uid),
        }
    }
}

/// A node could not be given to a user.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The owner could not be changed.
    #[error("cannot give {} to user {uid}", path.display())]
    Chown {
        /// The node.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The node or sysfs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A node with who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The nodes through which functions that are on vfio-pci are driven, by path: those of their
/// groups, and their own where the kernel makes them. They go away when the functions leave
/// vfio-pci.
///
/// # Errors
/// sysfs cannot be read.
pub fn nodes(host: &Sysroot, functions: &[Address]) -> Result<Vec<String>, ReadError> {
    let mut found = Vec::new();
    for address in functions {
        let path = Function::path(*address);
        let group = host.link_name(format!("{path}/iommu_group"))?;
        found.extend(group.map(|group| format!("/dev/vfio/{group}")));
        let own = host.optional_names(format!("{path}/vfio-dev"))?;
        found.extend(own.into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    }
    found.retain(|node| host.exists(node));
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The same, each with who owns it now.
pub(super) fn owned(host: &Sysroot, functions: &[Address]) -> Result<Vec<Node>, ReadError> {
    let owned = |path: String| {
        let node = host.node(&path)?;
        Ok(Node { path, uid: node.uid, gid: node.gid })
    };
    nodes(host, functions)?.into_iter().map(owned).collect()
}
