//! Times in files are UTC, to the second.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, with fractions; 0 on a clock set before that.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Such as `2026-03-01T07:04:09Z`.
pub fn stamp(secs: f64) -> String {
    written(secs, "%Y-%m-%dT%H:%M:%SZ")
}

/// Such as `20260301-070409`: sorts by time and fits into a file name.
pub fn compact(secs: f64) -> String {
    written(secs, "%Y%m%d-%H%M%S")
}

/// Seconds since 1970 of a time that [`stamp`] wrote.
pub fn parse(stamp: &str) -> Option<u64> {
    stamp.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok())
}

fn written(secs: f64, format: &str) -> String {
    Timestamp::from_second(secs.max(0.0) as i64).unwrap_or_default().strftime(format).to_string()
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

    #[test]
    fn times_are_read_as_they_are_written() {
        for seconds in [0u64, 951_782_399, 951_782_400, 1_709_164_800, 1_772_348_649, 4_107_542_399] {
            assert_eq!(parse(&stamp(seconds as f64)), Some(seconds));
        }
        for wrong in ["", "2026-03-01", "2026-13-01T00:00:00Z", "1960-01-01T00:00:00Z", "x"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
