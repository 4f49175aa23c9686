//! What kireji outside tells kireji inside a rig to do: one file in the initramfs.

use serde::{Deserialize, Serialize};

/// Where the plan is, from the root of the initramfs.
pub const PLAN_PATH: &str = "/kireji-rig.json";

/// What the first process of a rig is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The program to run, and its arguments.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Whether there is a tools disk to mount.
    pub tools: bool,
    /// Whether the command talks to a person: it gets the channel as its terminal.
    pub terminal: Option<Terminal>,
}

/// The terminal of the person outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Its height in lines.
    pub rows: u16,
    /// Its width in columns.
    pub columns: u16,
}
