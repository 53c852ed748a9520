//! How cost grows: a straight line through logarithms.

use serde::Serialize;

/// `cost = factor * size ^ exponent`, by least squares on logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Fit {
    /// 0: flat, 1: linear, 2: quadratic.
    pub exponent: f64,
    /// Cost at size 1.
    pub factor: f64,
    /// Largest distance of a point from the line, as a share of the line's value.
    pub worst: f64,
}

impl Fit {
    /// Through these points (size, cost), all above 0; nothing without two sizes.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.iter().any(|(x, y)| *x <= 0.0 || *y <= 0.0) {
            return None;
        }
        let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let n = logs.len() as f64;
        let (sx, sy) = logs.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
        let (mx, my) = (sx / n, sy / n);
        let spread: f64 = logs.iter().map(|(x, _)| (x - mx).powi(2)).sum();
        if spread.is_nan() || spread < 1e-12 {
            return None;
        }
        let exponent = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / spread;
        let fit = Self { exponent, factor: (my - exponent * mx).exp(), worst: 0.0 };
        let off = |&(x, y): &(f64, f64)| (y / fit.at(x) - 1.0).abs();
        Some(Self { worst: points.iter().map(off).fold(0.0, f64::max), ..fit })
    }

    /// The line's value.
    pub fn at(&self, size: f64) -> f64 {
        self.factor * size.powf(self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_found() {
        for (exponent, factor) in [(0.0, 3.0), (1.0, 0.25), (2.0, 7.0), (-0.5, 1.0)] {
            let points: Vec<_> = [1.0, 2.0, 4.0, 10.0].map(|x: f64| (x, factor * x.powf(exponent))).to_vec();
            let fit = Fit::through(&points).unwrap();
            assert!((fit.exponent - exponent).abs() < 1e-12 && (fit.factor - factor).abs() < 1e-9 && fit.worst < 1e-9);
        }
        // One point 10 % above a flat line of many.
        let points: Vec<_> = (1..=100).map(|x| (f64::from(x), if x == 10 { 1.1 } else { 1.0 })).collect();
        let fit = Fit::through(&points).unwrap();
        assert!(fit.exponent.abs() < 0.01 && (fit.worst - 0.1).abs() < 0.01, "{fit:?}");
    }

    #[test]
    fn no_line_without_two_sizes() {
        assert_eq!(Fit::through(&[]), None);
        assert_eq!(Fit::through(&[(2.0, 1.0), (2.0, 3.0)]), None);
        assert_eq!(Fit::through(&[(1.0, 1.0), (2.0, 0.0)]), None);
    }
}
