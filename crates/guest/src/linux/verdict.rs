//! What a report means.

use std::fmt;

use serde::Serialize;

use super::report::{FunctionReport, Refused};

/// What became of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// A driver has it.
    Bound {
        /// The driver.
        driver: String,
    },
    /// The kernel has no driver for it; nothing was to be expected.
    NoDriver,
    /// There are drivers, and none of them has it.
    NotBound {
        /// Why, as far as the guest could tell.
        reason: String,
    },
    /// The guest saw no such function.
    Absent,
}

/// What the whole run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every function that the kernel has a driver for is bound to one, and there is such a
    /// function.
    Passed,
    /// A function is not bound, or not there.
    Failed {
        /// The functions, by their names outside, and why.
        functions: Vec<(String, Outcome)>,
    },
    /// The kernel has a driver for none of the functions, so that nothing is shown.
    NothingToShow,
    /// The guest gave up.
    GaveUp {
        /// Why.
        reason: String,
    },
    /// The guest's kernel panicked.
    Panicked {
        /// What it said.
        message: String,
    },
    /// There is no report, or not all of it came through.
    Incomplete {
        /// How far it came.
        stage: super::Stage,
        /// Lines of the report that were damaged on their way.
        damaged: u32,
    },
}

impl FunctionReport {
    /// Returns what became of the function; `refused` are the modules that the kernel refused.
    pub fn outcome(&self, refused: &[Refused]) -> Outcome {
        let Some(seen) = &self.seen else { return Outcome::Absent };
        if let Some(driver) = &seen.driver {
            return Outcome::Bound { driver: driver.clone() };
        }
        if self.candidates.is_empty() {
            return Outcome::NoDriver;
        }
        let own = refused.iter().find(|refused| self.candidates.contains(&refused.module));
        let reason = match (own, seen.log.last()) {
            (Some(Refused { module, reason }), _) => format!("cannot load {module}: {reason}"),
            (None, Some(line)) => line.clone(),
            (None, None) => format!("{} did not take it", self.candidates.join(", ")),
        };
        Outcome::NotBound { reason }
    }
}

impl Verdict {
    /// Returns what led to it.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Passed | Self::NothingToShow => Vec::new(),
            Self::Failed { functions } => {
                functions.iter().map(|(name, outcome)| format!("{name}: {outcome}")).collect()
            }
            Self::GaveUp { reason } => vec![reason.clone()],
            Self::Panicked { message } => vec![message.clone()],
            Self::Incomplete { stage, damaged } => {
                let far = format!("it came as far as {stage}");
                let damaged = (*damaged > 0).then(|| format!("{damaged} lines of it were damaged"));
                std::iter::once(far).chain(damaged).collect()
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { driver } => write!(f, "{driver} drives it"),
            Self::NoDriver => f.write_str("the kernel has no driver for it"),
            Self::NotBound { reason } => write!(f, "no driver bound it: {reason}"),
            Self::Absent => f.write_str("the guest did not see it"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "the card works in the reference guest",
            Self::Failed { .. } => "the card does not work in the reference guest",
            Self::NothingToShow => "the kernel has no driver for the card, so nothing is shown",
            Self::GaveUp { .. } => "the reference guest gave up",
            Self::Panicked { .. } => "the reference guest's kernel panicked",
            Self::Incomplete { .. } => "the reference guest ended without a whole report",
        })
    }
}
