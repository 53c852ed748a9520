//! Numbers as people read them, in the window and on the command line: units always, sizes in powers of ten.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// 71682 as `71,682`; `?` for a negative number.
pub fn count(number: impl TryInto<u64>) -> String {
    let Ok(number) = number.try_into() else { return "?".to_owned() };
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A number of things: `1 input`, `71,682 inputs`. The plural ends in s.
pub fn counted(number: impl TryInto<u64>, thing: &str) -> String {
    let number: Option<u64> = number.try_into().ok();
    let ending = if number == Some(1) { "" } else { "s" };
    format!("{} {thing}{ending}", number.map_or_else(|| "?".to_owned(), count))
}

/// 1310720 as `1.31 M`: three significant digits with k, M, G.
pub fn short_count(n: f64) -> String {
    match n.abs() {
        x if !x.is_finite() => "-".to_owned(),
        x if x >= 1e9 => format!("{} G", significant(n / 1e9, 3)),
        x if x >= 1e6 => format!("{} M", significant(n / 1e6, 3)),
        x if x >= 1e4 => format!("{} k", significant(n / 1e3, 3)),
        _ => format!("{n:.0}"),
    }
}

/// A size in powers of ten, as disks, the Hugging Face hub and the `_mb` fields of results count it: `512 B`,
/// `1.5 MB`, `3.10 GB`.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        v if v < 1e3 => format!("{n} B"),
        v if v < 999_950.0 => format!("{:.1} kB", v / 1e3),
        v if v < 999_950_000.0 => format!("{:.1} MB", v / 1e6),
        v => format!("{:.2} GB", v / 1e9),
    }
}

/// Seconds as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`; `-` where they are not known.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "-".to_owned(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 59.5 => format!("{s:.0} s"),
        s if s < 3599.5 => {
            let whole = s.round() as u64;
            format!("{} min {:02} s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

/// A share of 1 as per cent with one decimal.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".to_owned() }
}

/// A metric between -1 and 1 (or a loss), four decimals.
pub fn metric(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "-".to_owned() }
}

/// So many significant digits, without exponent where that is readable.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return if value.is_nan() { "NaN" } else { "infinite" }.to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..=6).contains(&magnitude) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A learning rate or similar: `1e-3`, `2.5e-4`.
pub fn scientific(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
            format!("{mantissa}e{exponent}")
        }
        None => text,
    }
}

/// A round number on an axis, without needless zeros: `0.25`, `150`, `20 k`, `5e-5`.
pub fn tick(value: f64) -> String {
    match value.abs() {
        x if x < 1e-12 => "0".to_owned(),
        x if x < 1e-4 => scientific(value),
        x if x < 1e4 => format!("{}", (value * 1e6).round() / 1e6),
        x => {
            let (scale, unit) = match x {
                x if x >= 1e9 => (1e9, "G"),
                x if x >= 1e6 => (1e6, "M"),
                _ => (1e3, "k"),
            };
            format!("{} {unit}", (value / scale * 1e3).round() / 1e3)
        }
    }
}

/// Seconds since 1970 as local time with its zone: `2026-09-21 16:13 CEST`.
pub fn date_time(unix: u64) -> String {
    date_time_in(unix, TimeZone::system())
}

fn date_time_in(unix: u64, zone: TimeZone) -> String {
    let time = i64::try_from(unix).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M %Z").to_string())
}

/// The first `max` characters, with an ellipsis if something was cut off.
pub fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(71_682usize), "71,682");
        assert_eq!(count(1_310_720u64), "1,310,720");
        assert_eq!(count(-1), "?");
        assert_eq!([0, 1, 71_682].map(|n| counted(n, "input")), ["0 inputs", "1 input", "71,682 inputs"]);
        assert_eq!(short_count(1_310_720.0), "1.31 M");
        assert_eq!(short_count(950.0), "950");
        assert_eq!([12, 999, 1000, 999_960].map(bytes), ["12 B", "999 B", "1.0 kB", "1.0 MB"]);
        assert_eq!([1_500_000, 190 << 20, 3_100_000_000].map(bytes), ["1.5 MB", "199.2 MB", "3.10 GB"]);
        assert_eq!(duration(0.44), "0.4 s");
        assert_eq!(duration(59.9), "1 min 00 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(7620.0), "2 h 07 min");
        assert_eq!([f64::NAN, -1.0].map(duration), ["-", "-"]);
        assert_eq!(percent(0.764), "76.4 %");
        assert_eq!(significant(0.012_345, 3), "0.0123");
        assert_eq!(significant(1e-9, 3), "1.00e-9");
        assert_eq!(scientific(1e-3), "1e-3");
        assert_eq!(scientific(2.5e-4), "2.5e-4");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        let ticks = [0.0, 0.1 + 0.2, 150.0, -2.5, 20_000.0, 12_500.0, 3e6, 5e-5].map(tick);
        assert_eq!(ticks, ["0", "0.3", "150", "-2.5", "20 k", "12.5 k", "3 M", "5e-5"]);
    }

    #[test]
    fn times_carry_their_zone() {
        let utc = |unix| date_time_in(unix, TimeZone::UTC);
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_790_000_000), "2026-09-21 14:13 UTC");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(date_time_in(1_790_000_000, east), "2026-09-21 16:13 +02");
        assert_eq!(utc(u64::MAX), "-");
    }
}
