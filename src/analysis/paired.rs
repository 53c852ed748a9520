//! Two ways of running a model on the same rows: is the difference more than the choice of the rows?
//!
//! ```text
//! interval   rows are drawn with replacement, the same ones for both ways, B times; the middle 95 % of the differences
//! p          share of the draws on the other side of 0, twice; for right and wrong answers McNemar's exact test:
//!            of the b + c rows that only one way has right, b ~ Binomial(b + c, 1/2) where neither is better
//! Holm       p of several comparisons, adjusted so that one of them is wrongly shown in 1 case of 20
//! ```
//! What training would do with another seed is no part of it.

use crate::error::{Error, Result};
use crate::records::Interval;
use crate::rng::{Purpose, SeedStream};

/// B: resamples of the rows.
pub const RESAMPLES: usize = 2000;
/// Number of the random stream of the resamples: no route and no step is near it.
const STREAM: u64 = 1 << 50;

/// A paired bootstrap over rows.
#[derive(Clone, Copy)]
pub struct Bootstrap<'a> {
    /// Number of rows.
    pub rows: usize,
    /// B, at least 40.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: SeedStream,
    /// Called with the share done, 0 to 1; false cancels.
    pub go_on: &'a dyn Fn(f64) -> bool,
}

impl Bootstrap<'_> {
    /// The intervals of some differences. `differences` appends them, always as many, for the rows it is given by number: first
    /// all of them, then each resample.
    ///
    /// # Errors
    /// It was cancelled, or there are fewer than two rows.
    pub fn intervals(&self, differences: &mut dyn FnMut(&[usize], &mut Vec<f64>)) -> Result<Vec<Interval>> {
        let &Self { rows, seed, .. } = self;
        if rows < 2 {
            return Err(Error::data("a difference between two ways needs two rows or more"));
        }
        let resamples = self.resamples.max(40);
        let mut found = Vec::new();
        let mut chosen: Vec<usize> = (0..rows).collect();
        differences(&chosen, &mut found);
        let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(resamples); found.len()];
        let mut stream = seed.stream(Purpose::Sampling, STREAM);
        let mut values = Vec::with_capacity(found.len());
        for done in 0..resamples {
            if done % 64 == 0 && !(self.go_on)(done as f64 / resamples as f64) {
                return Err(Error::cancelled());
            }
            chosen.iter_mut().for_each(|row| *row = stream.below(rows));
            values.clear();
            differences(&chosen, &mut values);
            drawn.iter_mut().zip(&values).for_each(|(list, value)| list.push(*value));
        }
        Ok(found.into_iter().zip(drawn).map(|(value, drawn)| interval(value, drawn)).collect())
    }
}

/// The middle 95 % of the resamples, and twice the share of them on the other side of 0.
fn interval(value: f64, mut drawn: Vec<f64>) -> Interval {
    drawn.sort_by(f64::total_cmp);
    // Ends that leave out 0 just where p is below 0.05.
    let (n, cut) = (drawn.len(), (drawn.len() / 40).saturating_sub(1));
    let at = |index: usize| drawn.get(index).copied().unwrap_or(f64::NAN);
    let count = |is: fn(f64) -> bool| drawn.iter().filter(|&&value| is(value)).count();
    let beyond = count(|v| v <= 0.0).min(count(|v| v >= 0.0));
    let p = ((1 + 2 * beyond) as f64 / (n + 1) as f64).min(1.0);
    Interval { value, low: at(cut), high: at(n.saturating_sub(1 + cut)), p }
}

/// McNemar's exact test, two-sided: the p of rows that only one of two ways has right, `first` of them the one and `second` the
/// other, where neither is better. 1 where they have the same rows right.
pub fn mcnemar(first: usize, second: usize) -> f64 {
    let n = first + second;
    // ln of C(n, k) / 2^n, from k = 0 upwards.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for k in 1..=first.min(second) {
        term += ((n - k + 1) as f64 / k as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The p of several tests, adjusted after Holm: each may be compared with the level as if it were the only one.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut least) = (vec![1.0; p.len()], 0.0_f64);
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p.len() - rank) as f64 * p[index]).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}

/// These intervals with their p adjusted after [`holm`].
pub fn adjusted(intervals: &[Interval]) -> Vec<Interval> {
    let p: Vec<f64> = intervals.iter().map(|interval| interval.p).collect();
    intervals.iter().zip(holm(&p)).map(|(interval, p)| interval.with_p(p)).collect()
}

/// The 95 % interval of a share (Wilson's): of `right` of `rows`.
pub fn wilson(right: usize, rows: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_985;
    if rows == 0 {
        return [0.0, 1.0];
    }
    let (n, share) = (rows as f64, right as f64 / rows as f64);
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    [middle - half, middle + half].map(|end| (end / (1.0 + Z * Z / n)).clamp(0.0, 1.0))
}

/// Ranges of some values with about as many values each: `[from, to]`, both inside, from the smallest. Equal values are never in
/// two ranges, so that there may be fewer than `wanted`.
pub fn quantile_bins(values: &[f64], wanted: usize) -> Vec<[f64; 2]> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (n, mut bins) = (sorted.len(), Vec::new());
    let mut start = 0;
    for part in 1..=wanted.max(1) {
        let mut end = (part * n).div_ceil(wanted.max(1)).max(start + 1).min(n);
        while end < n && sorted[end] == sorted[end - 1] {
            end += 1;
        }
        if start < end {
            bins.push([sorted[start], sorted[end - 1]]);
            start = end;
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(rows: usize, resamples: usize, seed: u64) -> Bootstrap<'static> {
        Bootstrap { rows, resamples, seed: SeedStream::new(seed), go_on: &|_| true }
    }

    fn mean(of: &[f64], rows: &[usize]) -> f64 {
        rows.iter().map(|&row| of[row]).sum::<f64>() / rows.len() as f64
    }

    fn mean_interval(differences: &[f64], resamples: usize, seed: u64) -> Interval {
        let found = bootstrap(differences.len(), resamples, seed)
            .intervals(&mut |rows, out| out.push(mean(differences, rows)))
            .unwrap();
        found[0]
    }

    #[test]
    fn intervals_cover_the_true_difference_as_often_as_they_say() {
        // 200 pairs of ways whose losses differ by 0.1 on average, in rows of their own difficulty.
        let inside = (0..200).filter(|&set| {
            let mut stream = SeedStream::new(set).stream(Purpose::Sampling, 7);
            let differences: Vec<f64> = (0..80).map(|_| 0.1 + 0.5 * stream.normal()).collect();
            let found = mean_interval(&differences, 400, set);
            (found.low..=found.high).contains(&0.1)
        });
        // Binomial(200, 0.95) lies between 181 and 198 in 99 of 100 cases; percentiles are a little narrow at 80 rows.
        let inside = inside.count();
        assert!((178..=198).contains(&inside), "{inside} of 200");
    }

    #[test]
    fn no_difference_is_shown_in_one_of_twenty_sets_without_one() {
        let shown = (0..200).filter(|&set| {
            let mut stream = SeedStream::new(1000 + set).stream(Purpose::Sampling, 7);
            let differences: Vec<f64> = (0..80).map(|_| stream.normal()).collect();
            let found = mean_interval(&differences, 400, set);
            assert_eq!(found.low > 0.0 || found.high < 0.0, found.p < 0.05, "{found:?}: interval and p say the same");
            found.is_shown()
        });
        let shown = shown.count();
        assert!((2..=22).contains(&shown), "{shown} of 200");
    }

    #[test]
    fn equal_ways_have_an_interval_of_nothing() {
        assert_eq!(mean_interval(&[0.0; 30], 200, 1), Interval::default());
        assert_eq!(mcnemar(0, 0), 1.0);
        assert!(bootstrap(1, 100, 0).intervals(&mut |_, _| ()).is_err(), "one row says nothing about others");
        let cancelled = Bootstrap { go_on: &|share| share < 0.5, ..bootstrap(10, 1000, 0) };
        let error = cancelled.intervals(&mut |_, out| out.push(0.0)).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Cancelled);
    }

    #[test]
    fn the_same_seed_draws_the_same_rows_for_all_differences() {
        let differences: Vec<f64> = (0..50).map(|i| f64::from(i % 7) - 2.0).collect();
        let of = |seed| {
            let mut both = |rows: &[usize], out: &mut Vec<f64>| {
                out.extend([mean(&differences, rows), -mean(&differences, rows)]);
            };
            bootstrap(50, 200, seed).intervals(&mut both).unwrap()
        };
        let found = of(3);
        assert_eq!(found, of(3));
        assert_ne!(found, of(4));
        // Percentiles are cut at both ends alike.
        assert!((found[0].low + found[1].high).abs() < 1e-15 && (found[0].high + found[1].low).abs() < 1e-15);
    }

    /// Sums of binomial probabilities, in whole numbers.
    #[test]
    fn mcnemar_is_the_binomial_test() {
        for (first, second, want) in [
            (5, 0, 2.0 / 32.0),
            (0, 6, 2.0 / 64.0),
            (8, 2, 2.0 * (1.0 + 10.0 + 45.0) / 1024.0),
            (3, 3, 1.0),
            (10, 9, 1.0),
            (15, 5, 2.0 * (1.0 + 20.0 + 190.0 + 1140.0 + 4845.0 + 15504.0) / 1_048_576.0),
        ] {
            let got = mcnemar(first, second);
            assert!((got - want).abs() < 1e-12, "{first} and {second}: {got} instead of {want}");
            assert_eq!(got, mcnemar(second, first));
        }
        // Of 10,000 rows a normal number with continuity correction: z = (5,200 - 4,800 - 1) / 100.
        let want = 2.0 * super::super::routing_stats::upper_tail(3.99);
        assert!((mcnemar(5200, 4800) / want - 1.0).abs() < 0.01);
    }

    #[test]
    fn holm_multiplies_the_smallest_by_all() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, want) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - want).abs() < 1e-12, "{found} {want}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
        let there = Interval { value: 0.1, low: 0.05, high: 0.15, p: 0.03 };
        assert!(there.is_shown() && !adjusted(&[there, there])[0].is_shown());
    }

    /// Wilson (1927): 8 of 10 give 0.490 to 0.943.
    #[test]
    fn a_share_has_the_interval_of_wilson() {
        let [low, high] = wilson(8, 10);
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0, 20)[0], 0.0);
        assert!((wilson(0, 20)[1] - 0.1611).abs() < 1e-4);
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn quantile_bins_hold_as_many_values_each_and_part_no_equal_ones() {
        let values: Vec<f64> = (1..=8).map(f64::from).collect();
        assert_eq!(quantile_bins(&values, 4), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]);
        assert_eq!(quantile_bins(&[5.0, 5.0, 5.0, 5.0, 9.0], 4), [[5.0, 5.0], [9.0, 9.0]]);
        assert_eq!(quantile_bins(&[2.0, 1.0], 4), [[1.0, 1.0], [2.0, 2.0]]);
        assert!(quantile_bins(&[], 4).is_empty());
    }
}
