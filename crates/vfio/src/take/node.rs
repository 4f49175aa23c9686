//! The device node through which user space drives a function.

use std::io;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use host::{ReadError, Sysroot};
use pci::{Address, Function};

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
    /// Sysfs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Gives the nodes of a function that is on vfio-pci to a user: its group's, and its own where the
/// kernel has one. They go away when the function leaves vfio-pci.
///
/// # Errors
/// A node's owner could not be changed.
pub fn hand_over(
    host: &Sysroot,
    address: Address,
    uid: u32,
    gid: u32,
) -> Result<(), HandOverError> {
    let path = Function::path(address);
    let group = host.link_name(format!("{path}/iommu_group"))?;
    let own = host.optional_names(format!("{path}/vfio-dev"))?;
    let nodes = group
        .map(|group| format!("/dev/vfio/{group}"))
        .into_iter()
        .chain(own.into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    for node in nodes.filter(|node| host.exists(node)) {
        let path = host.locate(&node);
        chown(&path, Some(uid), Some(gid)).map_err(|source| HandOverError::Chown {
            path,
            uid,
            source,
        })?;
    }
    Ok(())
}
