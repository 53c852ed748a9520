//! What the values of a regression are off by.

use serde::Serialize;

/// Residuals: predicted less right values.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Residuals {
    /// Their mean: above 0 the values are too large.
    pub mean: f64,
    /// Their standard deviation (n - 1); 0 for a single row.
    pub sd: f64,
    /// Mean of their sizes.
    pub mean_abs: f64,
    /// Where 5, 25, 50, 75 and 95 of 100 of them lie below.
    pub quantiles: [f64; 5],
}

impl Residuals {
    /// Of pairs of values; nothing without any.
    pub fn of(predicted: &[f64], truth: &[f64]) -> Option<Self> {
        let mut all: Vec<f64> = predicted.iter().zip(truth).map(|(p, t)| p - t).collect();
        let n = all.len() as f64;
        if all.is_empty() {
            return None;
        }
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / n;
        let squares: f64 = all.iter().map(|r| (r - mean).powi(2)).sum();
        // Between neighbours in proportion, as numpy's default.
        let quantile = |q: f64| {
            let place = q * (n - 1.0);
            let (low, share) = (place.floor() as usize, place.fract());
            let high = (low + 1).min(all.len() - 1);
            all[low] + share * (all[high] - all[low])
        };
        Some(Self {
            mean,
            sd: if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 },
            mean_abs: all.iter().map(|r| r.abs()).sum::<f64>() / n,
            quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(quantile),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Residuals -2, 0, 1, 3, 8.
    #[test]
    fn five_residuals_by_hand() {
        let found = Residuals::of(&[1.0, 2.0, 4.0, 0.0, 9.0], &[1.0, 4.0, 3.0, -3.0, 1.0]).unwrap();
        assert_eq!((found.mean, found.mean_abs), (2.0, 2.8));
        // Squares 16, 4, 1, 1, 36.
        assert!((found.sd - 14.5f64.sqrt()).abs() < 1e-12);
        for (found, want) in found.quantiles.iter().zip([-1.6, 0.0, 1.0, 3.0, 7.0]) {
            assert!((found - want).abs() < 1e-12, "{found} {want}");
        }
        let one = Residuals::of(&[2.0], &[1.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.quantiles), (0.5, 0.0, [0.5; 5]));
        assert_eq!(Residuals::of(&[], &[]), None);
    }
}
