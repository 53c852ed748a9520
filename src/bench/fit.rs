//! Models of cost by size: a power of the size, or a fixed part and a constant amount per unit.

use serde::Serialize;

/// `cost = factor * size ^ exponent`, by least squares on logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Fit {
    /// 0: flat, 1: linear, 2: quadratic.
    pub exponent: f64,
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
        let (exponent, log) = least_squares(&points.iter().map(|(x, y)| (x.ln(), y.ln(), 1.0)).collect::<Vec<_>>())?;
        let fit = Self { exponent, factor: log.exp(), worst: 0.0 };
        Some(Self { worst: largest(points, |x, y| y / fit.at(x)), ..fit })
    }

    pub fn at(&self, size: f64) -> f64 {
        self.factor * size.powf(self.exponent)
    }
}

/// `cost = base + each * size`, by least squares on relative distances. The base may be negative: the first and the last
/// layer do only a part of a layer's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    pub base: f64,
    pub each: f64,
    /// Largest distance of a point from the line, as a share of the point's value.
    pub worst: f64,
}

impl Line {
    /// Through these points (size, cost), all costs above 0; nothing without three sizes: two always fit.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 || points.iter().any(|(_, y)| *y <= 0.0) {
            return None;
        }
        // Weights 1 / y²: a percent counts the same everywhere.
        let (each, base) = least_squares(&points.iter().map(|&(x, y)| (x, y, 1.0 / (y * y))).collect::<Vec<_>>())?;
        let line = Self { base, each, worst: 0.0 };
        Some(Self { worst: largest(points, |x, y| line.at(x) / y), ..line })
    }

    pub fn at(&self, size: f64) -> f64 {
        self.base + self.each * size
    }

    /// Whether it fits clearly better than a power.
    pub fn beats(&self, fit: Option<Fit>) -> bool {
        fit.is_none_or(|fit| fit.worst > 0.1 && self.worst < 0.5 * fit.worst)
    }
}

/// Slope and value at 0 of the line through points (x, y, weight) with the least weighted squares; nothing where all x are
/// the same.
fn least_squares(points: &[(f64, f64, f64)]) -> Option<(f64, f64)> {
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, y, weight)| weight * of(x, y)).sum::<f64>();
    let weights = sum(&|_, _| 1.0);
    let (mx, my) = (sum(&|x, _| x) / weights, sum(&|_, y| y) / weights);
    let spread = sum(&|x, _| (x - mx).powi(2));
    let slope = sum(&|x, y| (x - mx) * (y - my)) / spread;
    (spread > 1e-12 * sum(&|x, _| x * x)).then_some((slope, my - slope * mx))
}

/// The largest distance of a ratio from 1.
fn largest(points: &[(f64, f64)], ratio: impl Fn(f64, f64) -> f64) -> f64 {
    points.iter().map(|&(x, y)| (ratio(x, y) - 1.0).abs()).fold(0.0, f64::max)
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
    fn what_each_costs_is_found_beside_a_fixed_part() {
        let points = [2.0, 4.0, 8.0, 16.0].map(|x: f64| (x, 27.0 * x - 35.0));
        let (line, fit) = (Line::through(&points).unwrap(), Fit::through(&points));
        assert!((line.each - 27.0).abs() < 1e-9 && (line.base + 35.0).abs() < 1e-8 && line.worst < 1e-9, "{line:?}");
        assert!(fit.unwrap().exponent > 1.3 && line.beats(fit));
        // Where both say the same, the power is enough.
        let points = [2.0, 4.0, 8.0].map(|x| (x, 3.0 * x));
        assert!(!Line::through(&points).unwrap().beats(Fit::through(&points)));
        assert_eq!(Line::through(&[(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(Line::through(&[(2.0, 1.0), (2.0, 2.0), (2.0, 3.0)]), None);
    }

    #[test]
    fn no_line_without_two_sizes() {
        assert_eq!(Fit::through(&[]), None);
        assert_eq!(Fit::through(&[(2.0, 1.0), (2.0, 3.0)]), None);
        assert_eq!(Fit::through(&[(1.0, 1.0), (2.0, 0.0)]), None);
    }
}
