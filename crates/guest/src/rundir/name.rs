//! Times as names and as text.

use std::time::{SystemTime, UNIX_EPOCH};

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    seconds: u64,
    millis: u32,
}

/// Converts to the Gregorian calendar in UTC. Time before 1970 counts as 1970.
fn civil(time: SystemTime) -> Civil {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March, so that the leap day is a year's last: 400 years of 146 097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Civil { year, month, day, seconds, millis: since.subsec_millis() }
}

/// Returns a time as a name that sorts: `20261122-164233-123`.
pub(super) fn stem(time: SystemTime) -> String {
    let Civil { year, month, day, seconds, millis } = civil(time);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{millis:03}")
}

/// Returns a time in UTC as RFC 3339 writes it: `2026-11-22T16:42:33.123Z`.
pub fn timestamp(time: SystemTime) -> String {
    let Civil { year, month, day, seconds, millis } = civil(time);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        // What `date -u -d @SECONDS` says.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_795_365_753, "2026-11-22T16:42:33.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn names_sort_by_time() {
        let at = |millis| stem(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(1_795_365_753_007), "20261122-164233-007");
        assert!(at(1_795_365_753_999) < at(1_795_365_754_000));
    }
}
