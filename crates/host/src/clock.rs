//! Time, asked for through one seam.

use std::time::SystemTime;

/// Tells the wall-clock time.
pub trait Clock {
    /// Returns the present wall-clock time.
    fn now(&self) -> SystemTime;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
