//! Random moments, which can be had again from their seed.

use std::fmt;
use std::time::Duration;

/// Numerical Recipes' linear congruence: any spread over a command's time will do.
pub(super) struct Moments {
    seed: u32,
    state: u32,
}

impl Moments {
    /// Begins with a seed.
    pub(super) fn new(seed: u32) -> Self {
        Self { seed, state: seed }
    }

    /// Returns the next moment in a span of time.
    pub(super) fn within(&mut self, span: Duration) -> Duration {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        span * (self.state >> 16) / 0xffff
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)
    }
}
