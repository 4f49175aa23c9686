//! What the reference guest reports: a record for its start, one for each function, and one for
//! the end.

use serde::{Deserialize, Serialize};

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first process runs.
    Started {
        /// The kernel's release.
        kernel: String,
        /// The guest's own uptime, in milliseconds.
        uptime_ms: u64,
    },
    /// The modules are loaded.
    Loaded {
        /// Those that the kernel refused.
        refused: Vec<Refused>,
        /// The guest's own uptime, in milliseconds.
        uptime_ms: u64,
    },
    /// What became of one function. They come in the order of the plan.
    Function(Box<FunctionReport>),
    /// Everything that could be said has been said.
    Ended {
        /// How many functions there were to report on.
        functions: usize,
        /// The guest's own uptime, in milliseconds.
        uptime_ms: u64,
    },
    /// The first process gave up.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A module that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// Its name.
    pub module: String,
    /// What the kernel said.
    pub reason: String,
}

/// What became of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FunctionReport {
    /// Its place in the plan, from zero.
    pub index: usize,
    /// Its name outside.
    pub name: String,
    /// The modules that say that they drive it.
    pub candidates: Vec<String>,
    /// What the guest saw of it, if it was there.
    pub seen: Option<SeenFunction>,
}

/// A function as the guest saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SeenFunction {
    /// Its address in the guest.
    pub address: String,
    /// Its vendor and device id, as `8086:10d3`.
    pub ids: String,
    /// Its class code, as `020000`.
    pub class: String,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its interrupts that are in use.
    pub interrupts: Vec<Interrupt>,
    /// The network interfaces that its driver made.
    pub networks: Vec<Network>,
    /// The block devices that its driver made.
    pub blocks: Vec<Block>,
    /// What the kernel logged about it.
    pub log: Vec<String>,
}

/// An interrupt in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interrupt {
    /// The kernel's number for it.
    pub number: u32,
    /// `msi-x`, `msi` or `intx`.
    pub kind: InterruptKind,
    /// What the driver calls it.
    pub name: String,
    /// How often it has come.
    pub count: u64,
}

/// How a function interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptKind {
    /// By messages from a table of its own.
    MsiX,
    /// By messages.
    Msi,
    /// By a pin.
    Intx,
}

impl InterruptKind {
    /// Returns the name that the PCI specifications use.
    pub fn name(self) -> &'static str {
        match self {
            Self::MsiX => "MSI-X",
            Self::Msi => "MSI",
            Self::Intx => "INTx",
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// Its name in the guest.
    pub interface: String,
    /// Its hardware address.
    pub mac: String,
    /// Whether it has a link.
    pub carrier: bool,
    /// Packets sent, of any kind.
    pub sent: u64,
    /// Packets received, of any kind.
    pub received: u64,
    /// What came of talking to its network.
    pub talk: Talk,
}

/// What came of talking to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Talk {
    /// It was not wanted.
    NotTried,
    /// No link came up.
    NoLink,
    /// Nobody gave us an address (DHCP).
    NoAddress {
        /// How long it was asked for, in milliseconds of the guest.
        asked_ms: u64,
    },
    /// The network gave us an address, so packets passed both ways.
    Address {
        /// The address.
        address: String,
        /// Who gave it.
        server: String,
        /// Who was asked for an echo: the gateway, or without one the server.
        peer: String,
        /// Echo requests sent.
        echoes_sent: u32,
        /// Echo replies received.
        echoes_received: u32,
    },
    /// The guest's kernel did not let us.
    Failed {
        /// What it said.
        reason: String,
    },
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Block {
    /// Its name in the guest.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What came of reading its beginning.
    pub read: BlockRead,
}

/// What came of reading the beginning of a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum BlockRead {
    /// Data came.
    Read {
        /// How many bytes.
        bytes: u64,
        /// Their SHA-256, in hexadecimal digits.
        sha256: String,
    },
    /// The device has no medium: its size is zero.
    Empty,
    /// It failed or took too long.
    Failed {
        /// Why.
        reason: String,
    },
}
