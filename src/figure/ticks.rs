//! Round numbers for axes.

/// Round numbers between two ends, about `wanted` of them.
pub fn linear(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return vec![low];
    }
    let raw = span / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= raw * 0.999).unwrap_or(raw);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Round numbers on a logarithmic axis, whose ends are powers of ten: 1, 2 and 5 of each decade, or only 1 where
/// there are many decades, or evenly spaced ones where there is less than one. The answer is powers of ten too.
pub fn logarithmic(from: f64, to: f64, wanted: usize) -> Vec<f64> {
    if !(to - from).is_finite() || to - from < 1.0 || to - from > 60.0 {
        let even = linear(10f64.powf(from), 10f64.powf(to), wanted);
        return even.into_iter().filter(|&value| value > 0.0).map(f64::log10).collect();
    }
    let few: &[f64] = if to - from < wanted as f64 / 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = from.floor() as i32..=to.ceil() as i32;
    let all = decades.flat_map(|decade| few.iter().map(move |digit| f64::from(decade) + digit.log10()));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(linear(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        let fine = linear(0.731, 0.768, 8);
        assert!(fine.len() >= 4 && fine.iter().all(|t| (0.731..=0.768).contains(t)), "{fine:?}");
        assert_eq!(linear(1.0, 1.0, 8), [1.0]);
        assert_eq!(linear(f64::NAN, 1.0, 8).len(), 1);
    }

    #[test]
    fn a_logarithmic_axis_has_round_numbers_too() {
        let values = |from, to, n| logarithmic(from, to, n).into_iter().map(|t: f64| 10f64.powf(t)).collect::<Vec<_>>();
        let near =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a / b - 1.0).abs() < 1e-9);
        assert!(near(&values(-2.0, 0.0, 6), &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]));
        assert!(near(&values(-4.0, 0.0, 4), &[1e-4, 1e-3, 1e-2, 1e-1, 1.0]));
    }
}
