//! Times as BFS keeps them.

use std::time::Duration;

/// A point in time: seconds since 1970 in the upper 48 bits, and below them a coarse fraction of a
/// second with a counter that makes times different (Haiku, .../bfs/bfs.h, bfs_inode::ToInode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// Takes over the number as it is on the volume.
    pub fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the number as it is on the volume.
    pub fn raw(self) -> i64 {
        self.0
    }

    /// Makes a time; of the nanoseconds, about a 61,000th of a second remains.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        let fraction = i64::from((nanoseconds.min(999_999_999) + 16383) >> 14) & 0xfff0;
        Self(seconds.clamp(-(1 << 46), 1 << 46) << 16 | fraction)
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0 >> 16
    }

    /// Nanoseconds within the second, as far as they are kept.
    pub fn nanoseconds(self) -> u32 {
        let fraction = (self.0 & 0xffff) as u32;
        // A time of whole seconds has a counter of 12 bits in place of the fraction.
        if fraction & 0xf000 == 0xf000 { 0 } else { (fraction & 0xfff0) << 14 }
    }

    /// The time of a clock, made different from others by a counter.
    pub(crate) fn unique(since: Duration, counter: u16) -> Self {
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let time = Self::new(seconds, since.subsec_nanos());
        if since.subsec_nanos() == 0 {
            return Self(time.0 | 0xf000 | i64::from(counter & 0xfff));
        }
        Self(time.0 | i64::from(counter & 0xf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_and_fractions_nearly() {
        for (seconds, nanoseconds) in [(0, 0), (1_795_689_426, 999_999_999), (-5, 500_000_000)] {
            let time = Time::new(seconds, nanoseconds);
            assert_eq!(time.seconds(), seconds);
            assert!(time.nanoseconds().abs_diff(nanoseconds) < 1 << 18, "{time:?}");
            assert_eq!(Time::from_raw(time.raw()), time);
        }
        let whole = Time::unique(Duration::from_secs(7), 3);
        assert_eq!((whole.seconds(), whole.nanoseconds()), (7, 0));
        assert_ne!(whole, Time::unique(Duration::from_secs(7), 4));
    }
}
