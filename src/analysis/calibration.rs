//! Whether a classifier knows how sure it may be: its confidence (the largest of its probabilities) against its right answers.
//!
//! ```text
//! ECE    Σ_b n_b / n |accuracy_b - confidence_b|      over B bins of equal width
//! Brier  mean over rows of Σ_k (p_k - y_k)²           0 to 2; y_k: 1 for the right class, else 0
//! risk   share of wrong answers among the rows with the largest confidence, as many as are covered
//! AURC   mean of the risks at coverages 1/n, 2/n, ... 1
//! ```

use super::paired::wilson;
use serde::Serialize;

/// Bins of confidence.
pub const BINS: usize = 10;
/// Points of a risk-coverage curve at most.
const POINTS: usize = 100;

/// The rows whose confidence lies in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Smallest confidence, inside; of the first bin 0.
    pub from: f64,
    /// Largest confidence; outside but for the last bin.
    pub to: f64,
    /// Rows.
    pub rows: usize,
    /// Their mean confidence; 0 without rows.
    pub confidence: f64,
    /// Their share of right answers; 0 without rows.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson).
    pub interval: [f64; 2],
}

/// Calibration of a classifier on some rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// Bins of equal width, from the smallest confidence.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error, 0 to 1.
    pub ece: f64,
    /// Brier score, 0 to 2.
    pub brier: f64,
    /// Mean confidence less accuracy: above 0 the model is too sure.
    pub overconfidence: f64,
    /// `[coverage, risk]`, some of them, the coverage ascending to 1.
    pub risk_coverage: Vec<[f64; 2]>,
    /// Area under the risk-coverage curve.
    pub aurc: f64,
}

impl Calibration {
    /// Of rows with probabilities `[rows, classes]` and right classes, in [`BINS`] bins. Nothing without rows.
    pub fn of(probabilities: &[f64], classes: usize, truth: &[u32]) -> Option<Self> {
        let classes = classes.max(1);
        if truth.is_empty() || probabilities.len() != truth.len() * classes {
            return None;
        }
        let rows = || probabilities.chunks_exact(classes).zip(truth);
        // The first of equal maxima, as everywhere.
        let top = |row: &[f64]| (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        let sure: Vec<(f64, bool)> = rows().map(|(row, &class)| (row[top(row)], top(row) == class as usize)).collect();
        let squares = |(row, &class): (&[f64], &u32)| {
            let of = |(k, p): (usize, &f64)| (p - f64::from(u8::from(k == class as usize))).powi(2);
            row.iter().enumerate().map(of).sum::<f64>()
        };
        let n = truth.len() as f64;
        let bins = reliability(&sure, BINS);
        let ece = bins.iter().map(|bin| bin.rows as f64 / n * (bin.accuracy - bin.confidence).abs()).sum();
        let (risk_coverage, aurc) = risk_coverage(&sure);
        Some(Self {
            ece,
            bins,
            brier: rows().map(squares).sum::<f64>() / n,
            overconfidence: sure.iter().map(|(p, right)| p - f64::from(u8::from(*right))).sum::<f64>() / n,
            risk_coverage,
            aurc,
        })
    }
}

fn reliability(sure: &[(f64, bool)], bins: usize) -> Vec<ReliabilityBin> {
    let of = |confidence: f64| ((confidence * bins as f64) as usize).min(bins - 1);
    let bin = |bin: usize| {
        let own: Vec<&(f64, bool)> = sure.iter().filter(|(confidence, _)| of(*confidence) == bin).collect();
        let right = own.iter().filter(|(_, right)| *right).count();
        let share = |sum: f64| if own.is_empty() { 0.0 } else { sum / own.len() as f64 };
        ReliabilityBin {
            from: bin as f64 / bins as f64,
            to: (bin + 1) as f64 / bins as f64,
            rows: own.len(),
            confidence: share(own.iter().map(|(confidence, _)| confidence).sum()),
            accuracy: share(right as f64),
            interval: wilson(right, own.len()),
        }
    };
    (0..bins).map(bin).collect()
}

/// The curve at some coverages, and the mean of all its risks. Rows of equal confidence are taken in every order at once: each
/// has the wrong answers of all of them in equal shares.
fn risk_coverage(sure: &[(f64, bool)]) -> (Vec<[f64; 2]>, f64) {
    let mut sorted: Vec<(f64, bool)> = sure.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = sorted.len();
    let mut risks = Vec::with_capacity(n);
    let mut wrong = 0.0;
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let each = equal.iter().filter(|(_, right)| !right).count() as f64 / equal.len() as f64;
        for _ in equal {
            wrong += each;
            risks.push(wrong / (risks.len() + 1) as f64);
        }
    }
    let aurc = risks.iter().sum::<f64>() / n as f64;
    let points = POINTS.min(n);
    let at = |point: usize| {
        let covered = (point * n).div_ceil(points);
        [covered as f64 / n as f64, risks[covered - 1]]
    };
    ((1..=points).map(at).collect(), aurc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} instead of {want}");
    }

    /// Four rows of two classes: confidences .9 (right), .9 (wrong), .6 (right), .8 (right).
    #[test]
    fn four_rows_by_hand() {
        let p = [0.9, 0.1, 0.1, 0.9, 0.6, 0.4, 0.2, 0.8];
        let found = Calibration::of(&p, 2, &[0, 0, 0, 1]).unwrap();
        let bin = |i: usize| found.bins[i];
        assert_eq!((bin(9).rows, bin(9).accuracy, bin(6).rows, bin(8).rows, bin(7).rows), (2, 0.5, 1, 1, 0));
        near(bin(9).confidence, 0.9);
        // 2/4 |.5 - .9| + 1/4 |1 - .6| + 1/4 |1 - .8|
        near(found.ece, 0.2 + 0.1 + 0.05);
        near(found.brier, (0.02 + 1.62 + 0.32 + 0.08) / 4.0);
        near(found.overconfidence, 0.8 - 0.75);
        // The two of .9 share their one mistake: risks 1/2, 1/2, 1/3, 1/4.
        near(found.aurc, (0.5 + 0.5 + 1.0 / 3.0 + 0.25) / 4.0);
        assert_eq!(found.risk_coverage, [[0.25, 0.5], [0.5, 0.5], [0.75, 1.0 / 3.0], [1.0, 0.25]]);
    }

    #[test]
    fn three_classes_and_a_sure_model() {
        let sure = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let found = Calibration::of(&sure, 3, &[0, 1]).unwrap();
        assert_eq!((found.ece, found.brier, found.aurc, found.overconfidence), (0.0, 0.0, 0.0, 0.0));
        assert_eq!(found.bins[9].rows, 2, "1 belongs to the last bin");
        let wrong = Calibration::of(&sure, 3, &[1, 2]).unwrap();
        assert_eq!((wrong.ece, wrong.brier, wrong.aurc, wrong.overconfidence), (1.0, 2.0, 1.0, 1.0));
        let even = Calibration::of(&[1.0 / 3.0; 3], 3, &[2]).unwrap();
        near(even.brier, 4.0 / 9.0 + 2.0 / 9.0);
        assert_eq!(Calibration::of(&[], 3, &[]), None);
        assert_eq!(Calibration::of(&sure, 2, &[0, 1]), None, "probabilities of other rows");
    }

    #[test]
    fn sorting_right_answers_first_is_the_best_curve() {
        // Ten rows, two wrong: last in the best order, first in the worst.
        let sure = |wrong_first: bool| {
            let row = |i: usize| {
                let confidence = 0.9 - 0.01 * i as f64;
                let wrong = if wrong_first { i < 2 } else { i >= 8 };
                (confidence, !wrong)
            };
            risk_coverage(&(0..10).map(row).collect::<Vec<_>>())
        };
        let (best, worst) = (sure(false), sure(true));
        near(best.1, (1.0 / 9.0 + 2.0 / 10.0) / 10.0);
        near(worst.1, (2..=10).map(|k| 2.0 / f64::from(k)).sum::<f64>() / 10.0 + 0.1);
        assert_eq!(best.0.last(), worst.0.last());
        assert_eq!(best.0.len(), 10);
        // Long curves are thinned; the area is that of all rows.
        let long: Vec<(f64, bool)> = (0..1234).map(|i| (1.0 / f64::from(i + 1), i % 3 > 0)).collect();
        let (points, _) = risk_coverage(&long);
        assert_eq!((points.len(), points[99][0]), (100, 1.0));
        assert!(points.windows(2).all(|pair| pair[0][0] < pair[1][0]));
    }
}
