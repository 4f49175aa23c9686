//! What happens while QEMU runs.

use std::time::{Duration, Instant};

use haiku::loading::Place;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::guests::{Sign, Verdict};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The launcher's process exists.
    Spawned,
    /// The launcher has done its work and becomes QEMU.
    Executed,
    /// The machine is made and its control channel in use: the guest starts.
    Up,
    /// The guest has sent its first byte over the serial line.
    FirstByte,
    /// QEMU has ended.
    Ended,
}

/// When each stage was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages {
    requested: Instant,
    reached: Vec<(Stage, Instant)>,
}

impl Stages {
    pub(super) fn new(requested: Instant) -> Self {
        Self { requested, reached: Vec::new() }
    }

    /// Records a stage; false if it was reached before.
    pub(super) fn reach(&mut self, stage: Stage, at: Instant) -> bool {
        let new = self.at(stage).is_none();
        if new {
            self.reached.push((stage, at));
        }
        new
    }

    /// Returns the time from the request to a stage, if it was reached.
    pub fn at(&self, stage: Stage) -> Option<Duration> {
        let found = self.reached.iter().find(|(reached, _)| *reached == stage);
        found.map(|(_, at)| at.saturating_duration_since(self.requested))
    }

    /// When the guest started.
    pub(super) fn up(&self) -> Option<Instant> {
        self.reached.iter().find(|(stage, _)| *stage == Stage::Up).map(|(_, at)| *at)
    }

    /// Returns the stages that were reached, with the time since the request.
    pub fn all(&self) -> impl Iterator<Item = (Stage, Duration)> {
        self.reached
            .iter()
            .map(|(stage, at)| (*stage, at.saturating_duration_since(self.requested)))
    }

    pub(super) fn since_request(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.requested)
    }
}

/// Something that happened, for the run's events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage was reached.
    Stage {
        /// Which.
        stage: Stage,
        /// Milliseconds since the request.
        ms: u64,
    },
    /// A port of the host's loopback interface leads to the guest.
    Forward {
        /// Port of the host.
        host: u16,
        /// Port of the guest.
        guest: u16,
    },
    /// QEMU reported something.
    Qemu {
        /// QEMU's name for it.
        name: String,
        /// What belongs to it.
        data: Value,
        /// Milliseconds since the request.
        ms: u64,
    },
    /// The guest said something over its serial line.
    Sign {
        /// What.
        #[serde(flatten)]
        sign: Sign,
        /// Milliseconds since the request.
        ms: u64,
    },
    /// QEMU said where the guest sees the functions that were asked for.
    Places {
        /// Where, in their order.
        #[serde(serialize_with = "in_words")]
        places: Vec<Place>,
        /// Milliseconds since the request.
        ms: u64,
    },
    /// What the run means is known, and its guest is kept.
    Concluded {
        /// What.
        #[serde(flatten)]
        verdict: Verdict,
        /// Milliseconds since the request.
        ms: u64,
    },
    /// QEMU is being stopped.
    Stopping {
        /// How: `power-down`, `quit`, `SIGTERM` or `SIGKILL`.
        how: &'static str,
        /// Milliseconds since the request.
        ms: u64,
    },
}

fn in_words<S: Serializer>(places: &[Place], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(places.iter().map(ToString::to_string))
}
