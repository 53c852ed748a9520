//! Numbers as people read them: fixed width where they change live, units always.

/// 71682 as `71,682`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
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

/// A size in binary units.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(value, 3), UNITS[unit])
}

/// Seconds as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
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
        _ => short_tick(value),
    }
}

fn short_tick(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        x if x >= 1e9 => (value / 1e9, "G"),
        x if x >= 1e6 => (value / 1e6, "M"),
        _ => (value / 1e3, "k"),
    };
    format!("{} {unit}", (scaled * 1e3).round() / 1e3)
}

/// Seconds since 1970 as `2026-09-21 14:13` (UTC).
pub fn date_time(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Civil date from a day count, after Howard Hinnant's public description of the calendar's 400-year cycle.
    let shifted = days as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest % 3600 / 60)
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
        assert_eq!(count(71_682), "71,682");
        assert_eq!(count(1_310_720), "1,310,720");
        assert_eq!(short_count(1_310_720.0), "1.31 M");
        assert_eq!(short_count(950.0), "950");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(190 << 20), "190 MiB");
        assert_eq!(duration(0.44), "0.4 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(7620.0), "2 h 07 min");
        assert_eq!(duration(f64::NAN), "-");
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
    fn dates_follow_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01 00:00");
        assert_eq!(date_time(951_782_400), "2000-02-29 00:00");
        assert_eq!(date_time(1_790_000_000), "2026-09-21 14:13");
    }
}
