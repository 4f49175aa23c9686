//! What the host does with each PCI function, beyond its driver: what would be lost with it.
//!
//! Everything here is a fact that was read; what follows from it is decided in
//! [`refusal`](crate::refusal). Each fact names the functions that a device *needs*, so that a
//! disk behind a bridge or a controller is found from any of them.

mod block;
mod contents;
mod device;
mod display;
mod edid;
mod input;
mod mounts;
mod network;
mod pools;
mod session;
mod signature;
mod storage;

#[cfg(test)]
mod tests;

pub use block::Node;
pub use contents::{Content, Found};
pub use display::{Display, Screen};
pub use input::{Input, InputKind};
pub use mounts::{Mention, Mount};
pub use network::{Interface, Network, NetworkPurpose, NetworkUse};
pub use session::session_address;
pub use signature::{GptPartition, PartitionTable, Signature, SignatureKind};
pub use storage::{Disk, DiskUse, Purpose, Storage};

pub(crate) use device::functions_on;

use std::collections::BTreeSet;

use ::host::{Measured, Sysroot};
use serde::Serialize;

use crate::{Address, Host};

/// How closely to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The functions whose disks are read: it takes root, and wakes disks that sleep.
    pub examined: BTreeSet<Address>,
    /// The host's own address in the remote session that kireji was started from, as
    /// [`session_address`] finds it.
    pub session: Option<String>,
}

/// What the host does with its PCI functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uses {
    /// Disks, with what is mounted from them and what is on them.
    pub storage: Measured<Storage>,
    /// Network interfaces.
    pub network: Measured<Network>,
    /// Displays and their screens.
    pub displays: Measured<Vec<Display>>,
    /// Keyboards and pointing devices.
    pub inputs: Measured<Vec<Input>>,
}

impl Uses {
    /// Reads what the host does with its PCI functions. What cannot be read is unmeasured.
    pub fn read(host: &Sysroot, functions: &Host, scope: &Scope) -> Self {
        let storage = Measured::from(Storage::read(host, &scope.examined));
        let mounts = storage.known().and_then(|storage| storage.mounts.known());
        let mounts = mounts.map_or(&[][..], Vec::as_slice);
        Self {
            network: Measured::from(Network::read(host, mounts, scope.session.as_deref())),
            displays: Measured::from(display::read(host, functions)),
            inputs: input::read(host),
            storage,
        }
    }
}

/// Returns the numbers of all processes.
pub(crate) fn processes(host: &Sysroot) -> Vec<u32> {
    let names = host.names("/proc").unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
