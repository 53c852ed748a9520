//! Merges that treat each value of a tensor by itself: Fisher-weighted mean, TIES, DARE.
//!
//! A tensor holds the values of M experts one after the other, `[M * n]`; the result has n. *Changes* are the differences of
//! an expert's values to its own at the start, τ_j = W_j - S_j: experts with starts of their own have no common one.

use crate::error::{Error, Result};
use crate::rng::Stream;

/// Values of one tensor of all experts, now and at the start.
#[derive(Clone, Copy, Debug)]
pub struct Changed<'a> {
    now: &'a [f32],
    start: &'a [f32],
    experts: usize,
    n: usize,
}

impl<'a> Changed<'a> {
    /// `[M * n]` each
    pub fn new(now: &'a [f32], start: &'a [f32], experts: usize) -> Result<Self> {
        let n = values_each(now.len(), experts)?;
        if start.len() != now.len() {
            let (now, start) = (now.len(), start.len());
            return Err(Error::format(format!("{now} values of experts, but {start} at their start")));
        }
        Ok(Self { now, start, experts, n })
    }

    /// τ_j of value i.
    fn change(&self, expert: usize, i: usize) -> f64 {
        let at = expert * self.n + i;
        f64::from(self.now[at]) - f64::from(self.start[at])
    }

    /// The mean of the starts of value i.
    fn start(&self, i: usize) -> f64 {
        let sum: f64 = (0..self.experts).map(|expert| f64::from(self.start[expert * self.n + i])).sum();
        sum / self.experts as f64
    }

    /// TIES (Yadav et al. 2023): of each expert the share `density` of its changes that are largest in size stays (of equal ones
    /// the first); the sign of each value is that of the sum of what stayed; the changes of that sign are averaged and added to
    /// the mean of the starts. -> `[n]`
    pub fn ties(&self, density: f64) -> Vec<f32> {
        let kept = ((density * self.n as f64).round() as usize).clamp(1, self.n.max(1));
        let mut sum = vec![0.0f64; self.n];
        let mut trimmed = Vec::with_capacity(self.experts);
        for expert in 0..self.experts {
            let changes: Vec<f64> = (0..self.n).map(|i| self.change(expert, i)).collect();
            let mut order: Vec<usize> = (0..self.n).collect();
            order.sort_by(|&a, &b| changes[b].abs().total_cmp(&changes[a].abs()).then(a.cmp(&b)));
            let mut own = vec![0.0; self.n];
            for &i in order.iter().take(kept) {
                own[i] = changes[i];
                sum[i] += changes[i];
            }
            trimmed.push(own);
        }
        let one = |i: usize| {
            let agreeing = trimmed.iter().map(|own| own[i]).filter(|change| change * sum[i] > 0.0);
            let (total, count) = agreeing.fold((0.0, 0usize), |(total, count), change| (total + change, count + 1));
            (self.start(i) + total / count.max(1) as f64) as f32
        };
        (0..self.n).map(one).collect()
    }

    /// DARE (Yu et al. 2024): each change is dropped with probability `drop` and divided by 1 - drop otherwise; their mean is
    /// added to the mean of the starts. -> `[n]`
    pub fn dare(&self, drop: f64, stream: &mut Stream) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.n];
        for expert in 0..self.experts {
            for (i, sum) in sum.iter_mut().enumerate() {
                if stream.uniform() >= drop {
                    *sum += self.change(expert, i) / (1.0 - drop);
                }
            }
        }
        (0..self.n).map(|i| (self.start(i) + sum[i] / self.experts as f64) as f32).collect()
    }
}

/// `Σ_j F_j W_j / Σ_j F_j`, value by value; where all F are 0, the mean. Both `[M * n]`, F at least 0 -> `[n]`
pub fn fisher(now: &[f32], information: &[f64], experts: usize) -> Result<Vec<f32>> {
    let n = values_each(now.len(), experts)?;
    if information.len() != now.len() {
        let (now, found) = (now.len(), information.len());
        return Err(Error::internal(format!("{now} values of experts, but Fisher information of {found}")));
    }
    let one = |i: usize| {
        let all = (0..experts).map(|expert| (f64::from(now[expert * n + i]), information[expert * n + i]));
        let (mut sum, mut weights, mut mean) = (0.0, 0.0, 0.0);
        for (value, weight) in all {
            sum += weight * value;
            weights += weight;
            mean += value / experts as f64;
        }
        let weighted = sum / weights;
        (if weights > 0.0 && weighted.is_finite() { weighted } else { mean }) as f32
    };
    Ok((0..n).map(one).collect())
}

fn values_each(all: usize, experts: usize) -> Result<usize> {
    if experts == 0 || !all.is_multiple_of(experts) {
        return Err(Error::internal(format!("{all} values of {experts} experts")));
    }
    Ok(all / experts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    /// Two experts of four values, with starts of their own.
    const START: [f32; 8] = [0.0, 0.0, 1.0, 0.0, /**/ 2.0, 0.0, 1.0, 0.0];
    const NOW: [f32; 8] = [4.0, -1.0, 1.5, 0.0, /**/ 3.0, 3.0, 0.75, 0.0];

    #[test]
    fn ties_trims_elects_and_averages_apart() {
        // Changes: [4, -1, .5, 0] and [1, 3, -.25, 0]; means of the starts: [1, 0, 1, 0].
        let changed = Changed::new(&NOW, &START, 2).unwrap();
        // All stay. Signs of the sums 5, 2, .25: +, +, +. Means of those that agree: 2.5, 3, .5.
        assert_eq!(changed.ties(1.0), [3.5, 3.0, 1.5, 0.0]);
        // The half: [4, -1, 0, 0] and [1, 3, 0, 0].
        assert_eq!(changed.ties(0.5), [3.5, 3.0, 1.0, 0.0]);
        // A quarter: [4, 0, 0, 0] and [0, 3, 0, 0]: each stands alone.
        assert_eq!(changed.ties(0.25), [5.0, 3.0, 1.0, 0.0]);
        // Less than one value is one value.
        assert_eq!(changed.ties(0.01), changed.ties(0.25));
    }

    #[test]
    fn ties_without_disagreement_is_the_mean() {
        let now: Vec<f32> = START.iter().enumerate().map(|(i, s)| s + 0.25 * (i + 1) as f32).collect();
        let merged = Changed::new(&now, &START, 2).unwrap().ties(1.0);
        let mean: Vec<f32> = (0..4).map(|i| f32::midpoint(now[i], now[i + 4])).collect();
        assert_eq!(merged, mean);
    }

    #[test]
    fn dare_drops_and_rescales_and_its_expectation_is_the_mean() {
        let changed = Changed::new(&NOW, &START, 2).unwrap();
        let stream = |seed| SeedStream::new(seed).stream(Purpose::Sampling, 0);
        assert_eq!(changed.dare(0.0, &mut stream(1)), [3.5, 1.0, 1.125, 0.0], "nothing is dropped: the mean");
        assert_eq!(changed.dare(0.5, &mut stream(3)), changed.dare(0.5, &mut stream(3)));
        let draws = 4000;
        let (mut sum, mut seen) = ([0.0f64; 4], std::collections::BTreeSet::new());
        for seed in 0..draws {
            let merged = changed.dare(0.75, &mut stream(seed));
            sum.iter_mut().zip(&merged).for_each(|(sum, value)| *sum += f64::from(*value) / draws as f64);
            seen.insert((merged[0] * 8.0) as i64);
        }
        // Value 0: the start 1, and of 4 * 4 / 2 and 1 * 4 / 2 both, one or none.
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [8, 24, 72, 88]);
        // Four standard errors of value 0: sqrt(3 (16 + 1)) / 2 / sqrt(4000) * 4 = .23.
        for (sum, mean) in sum.iter().zip([3.5, 1.0, 1.125, 0.0]) {
            assert!((sum - mean).abs() < 0.23, "{sum} instead of {mean}");
        }
    }

    #[test]
    fn fisher_weighs_each_value() {
        let information = [1.0, 0.0, 3.0, 0.0, /**/ 3.0, 2.0, 1.0, 0.0];
        // (4 + 9) / 4; 3 alone; (4.5 + .75) / 4; the mean.
        assert_eq!(fisher(&NOW, &information, 2).unwrap(), [3.25, 3.0, 1.3125, 0.0]);
        let flat = [0.5; 8];
        assert_eq!(fisher(&NOW, &flat, 2).unwrap(), [3.5, 1.0, 1.125, 0.0], "equal information: the mean");
        assert!(fisher(&NOW, &flat[1..], 2).is_err() && fisher(&NOW, &flat, 3).is_err());
        assert!(Changed::new(&NOW, &START[1..], 2).is_err());
    }
}
