//! What counts of uniform draws are, exactly: the central part of a binomial distribution.

use std::collections::HashMap;

/// Where a count of uniform draws lies in all but a small share of cases, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Smallest count inside.
    pub low: u64,
    /// Largest count inside.
    pub high: u64,
}

impl Band {
    /// Of `n` draws that each hit with probability `p` (0 to 1): below `low` and above `high` lie at most `outside / 2` each.
    pub fn binomial(n: u64, p: f64, outside: f64) -> Self {
        if n == 0 || p <= 0.0 {
            return Self { low: 0, high: 0 };
        }
        if p >= 1.0 {
            return Self { low: n, high: n };
        }
        // Weights relative to that of the most likely count; what is far from it does not count in double precision.
        let mode = (((n + 1) as f64 * p) as u64).min(n);
        let odds = p / (1.0 - p);
        let above = walk(mode, n, |k| odds * (n - k) as f64 / (k + 1) as f64, |k| k + 1);
        let below = walk(mode, 0, |k| k as f64 / (odds * (n - k + 1) as f64), |k| k - 1);
        let all = 1.0 + above.iter().chain(&below).sum::<f64>();
        let far = |weights: &[f64]| {
            // How many counts from the far end on are in the tail.
            let mut tail = 0.0;
            let cut = weights.iter().rev().take_while(|weight| {
                tail += **weight / all;
                tail <= 0.5 * outside
            });
            (weights.len() - cut.count()) as u64
        };
        Self { low: mode - far(&below), high: mode + far(&above) }
    }

    /// Whether a count is inside.
    pub fn holds(self, count: u64) -> bool {
        (self.low..=self.high).contains(&count)
    }
}

/// Weights of the counts from the one after `from` to `end`, each the one before times `ratio`, as far as they matter.
fn walk(from: u64, end: u64, ratio: impl Fn(u64) -> f64, next: impl Fn(u64) -> u64) -> Vec<f64> {
    let (mut at, mut weight, mut weights) = (from, 1.0, Vec::new());
    while at != end && weight > 1e-20 {
        weight *= ratio(at);
        at = next(at);
        weights.push(weight);
    }
    weights
}

/// Bands that were computed already, for one probability.
#[derive(Clone, Debug)]
pub struct Bands {
    p: f64,
    outside: f64,
    known: HashMap<u64, Band>,
}

impl Bands {
    /// For draws that hit with probability `p`; a band holds all but the share `outside`.
    pub fn new(p: f64, outside: f64) -> Self {
        Self { p, outside, known: HashMap::new() }
    }

    /// The band of `n` draws.
    pub fn of(&mut self, n: u64) -> Band {
        *self.known.entry(n).or_insert_with(|| Band::binomial(n, self.p, self.outside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bands_are_those_of_a_hand_computation() {
        // Four throws of a coin: 1 4 6 4 1 of 16. A tail of 1/16 each fits into 0.125, one of 5/16 does not.
        assert_eq!(Band::binomial(4, 0.5, 0.126), Band { low: 1, high: 3 });
        assert_eq!(Band::binomial(4, 0.5, 0.12), Band { low: 0, high: 4 });
        assert_eq!(Band::binomial(4, 0.5, 0.63), Band { low: 2, high: 2 });
        // Eight draws of 3/4: none or one is 25 in 65,536 (0.00038), two 0.0038; all eight are 0.1.
        assert_eq!(Band::binomial(8, 0.75, 0.001), Band { low: 2, high: 8 });
        assert_eq!(Band::binomial(8, 1.0, 0.001), Band { low: 8, high: 8 });
        assert_eq!(
            (Band::binomial(0, 0.75, 0.001), Band::binomial(5, 0.0, 0.1)),
            (Band { low: 0, high: 0 }, Band { low: 0, high: 0 })
        );
        assert!(Band { low: 1, high: 3 }.holds(1) && !Band { low: 1, high: 3 }.holds(4));
    }

    #[test]
    fn large_bands_are_near_those_of_the_normal_distribution() {
        // 3.2905 standard deviations leave 0.001 outside; sd of 10,000 draws of 3/4 is 43.3.
        let Band { low, high } = Band::binomial(10_000, 0.75, 0.001);
        assert!((7355..=7360).contains(&low) && (7640..=7645).contains(&high), "{low} {high}");
        let mut bands = Bands::new(0.875, 0.001);
        let wide = bands.of(1_000_000);
        assert!((wide.high - wide.low) as f64 / (2.0 * 3.2905 * (1e6f64 * 0.875 * 0.125).sqrt()) < 1.01);
        assert_eq!(bands.of(1_000_000), wide);
    }
}
