//! Times in files are UTC, to the second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, with fractions; 0 on a clock set before that.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Such as `2026-03-01T07:04:09Z`.
pub fn stamp(secs: f64) -> String {
    let [year, month, day, hour, minute, second] = fields(secs);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Such as `20260301-070409`: sorts by time and fits into a file name.
pub fn compact(secs: f64) -> String {
    let [year, month, day, hour, minute, second] = fields(secs);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Year, month, day, hour, minute and second in the Gregorian calendar, for times from 1970 on.
fn fields(secs: f64) -> [u64; 6] {
    let secs = secs.max(0.0) as u64;
    let (mut days, time) = (secs / 86_400, secs % 86_400);
    // 400 years have 146,097 days; within them, years and months are counted off one by one.
    let mut year = 1970 + 400 * (days / 146_097);
    days %= 146_097;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    [year, month as u64 + 1, days + 1, time / 3600, time / 60 % 60, time % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(stamp(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(stamp(951_782_400.0), "2000-02-29T00:00:00Z");
        assert_eq!(stamp(951_868_799.9), "2000-02-29T23:59:59Z");
        assert_eq!(stamp(1_709_251_199.0), "2024-02-29T23:59:59Z");
        assert_eq!(stamp(4_107_542_400.0), "2100-03-01T00:00:00Z");
        assert_eq!(compact(1_234_567_890.0), "20090213-233130");
        assert_eq!(stamp(f64::NAN), "1970-01-01T00:00:00Z");
    }
}
