//! What a captured host says beside its files: what a directory tree cannot hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Where the manifest of a captured host lies, in its root.
pub const MANIFEST: &str = "kireji.json";
/// What a manifest may hold at most, in bytes.
pub(super) const LIMIT: u64 = 16 << 20;

/// What a captured host says beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// Version of this document.
    pub schema: u32,
    /// Where the capture comes from, in words.
    pub source: String,
    /// Files that were there and could not be read, by path.
    pub unreadable: BTreeSet<String>,
    /// Device nodes, by path: whether who captured might read and write them.
    pub nodes: BTreeMap<String, bool>,
}

impl Manifest {
    /// The version that this program writes and reads.
    pub const SCHEMA: u32 = 1;
}
