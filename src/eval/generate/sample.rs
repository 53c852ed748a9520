//! One token out of scores: the best, or drawn from what temperature, top-k and top-p leave.

use crate::error::{Error, Result};

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Scores are divided by it; above 0.
    pub temperature: f32,
    /// Only the k best tokens (and ties of the last one); 0: all.
    pub top_k: usize,
    /// Only the likeliest tokens whose probabilities sum up to this; 1: all.
    pub top_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0 }
    }
}

impl Sampling {
    pub(super) fn check(&self) -> Result<()> {
        let Self { temperature, top_p, .. } = *self;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::config(format!(
                "temperature is {temperature}; choose a number above 0, or greedy for the likeliest token"
            )));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::config(format!("top_p is {top_p}; choose a number above 0, at most 1 for all tokens")));
        }
        Ok(())
    }

    /// The tokens that are left with their probabilities, likeliest first.
    pub fn candidates(&self, scores: &[f32]) -> Vec<(u32, f64)> {
        let mut left: Vec<(u32, f32)> = scores.iter().enumerate().map(|(id, &z)| (id as u32, z)).collect();
        left.retain(|(_, z)| *z > f32::NEG_INFINITY);
        let better = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.top_k > 0 && self.top_k < left.len() {
            let (_, last, _) = left.select_nth_unstable_by(self.top_k - 1, better);
            let least = last.1;
            left.retain(|(_, z)| *z >= least);
        }
        left.sort_unstable_by(better);
        let max = left.first().map_or(0.0, |(_, z)| *z);
        let weight = |z: f32| f64::from((z - max) / self.temperature).exp();
        let total: f64 = left.iter().map(|(_, z)| weight(*z)).sum();
        let mut found: Vec<(u32, f64)> = left.into_iter().map(|(id, z)| (id, weight(z) / total)).collect();
        if self.top_p < 1.0 {
            // A token stays while those before it have not reached the sum.
            let mut before = 0.0;
            let keep = found.iter().take_while(|(_, p)| {
                let stays = before < f64::from(self.top_p);
                before += p;
                stays
            });
            let keep = keep.count().max(1);
            found.truncate(keep);
            let total: f64 = found.iter().map(|(_, p)| p).sum();
            found.iter_mut().for_each(|(_, p)| *p /= total);
        }
        found
    }

    /// The token that a uniform number in `[0, 1)` falls on; nothing where no token is left.
    pub fn draw(&self, scores: &[f32], uniform: f64) -> Option<u32> {
        let candidates = self.candidates(scores);
        let mut sum = 0.0;
        let found = candidates.iter().find(|(_, p)| {
            sum += p;
            uniform < sum
        });
        found.or(candidates.last()).map(|(id, _)| *id)
    }
}

/// The best token, the first of equal ones; nothing where all are forbidden.
pub fn best(scores: &[f32]) -> Option<u32> {
    let mut found: Option<(u32, f32)> = None;
    for (id, &score) in scores.iter().enumerate() {
        if score > found.map_or(f32::NEG_INFINITY, |(_, best)| best) {
            found = Some((id as u32, score));
        }
    }
    found.map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(sampling: Sampling, scores: &[f32]) -> Vec<u32> {
        sampling.candidates(scores).iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn what_is_left_to_draw_from() {
        let log = |p: &[f32]| p.iter().map(|p| p.ln()).collect::<Vec<_>>();
        let scores = log(&[0.1, 0.4, 0.2, 0.2, 0.1]);
        let with = |top_k: usize, top_p: f32| ids(Sampling { top_k, top_p, ..Sampling::default() }, &scores);
        assert_eq!(with(0, 1.0), [1, 2, 3, 0, 4]);
        assert_eq!(with(1, 1.0), [1]);
        assert_eq!(with(2, 1.0), [1, 2, 3], "ties of the last one stay");
        assert_eq!(with(0, 0.5), [1, 2]);
        assert_eq!(with(0, 0.01), [1]);
        assert_eq!(with(0, 0.7), [1, 2, 3]);
        assert_eq!(with(2, 0.45), [1], "top-p looks at what top-k left: 0.5, 0.25, 0.25");
        let forbidden = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
        assert_eq!(ids(Sampling::default(), &forbidden), [1]);
        assert_eq!(Sampling::default().draw(&[f32::NEG_INFINITY; 3], 0.5), None);
        assert_eq!(best(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(best(&[0.0, 2.0, 2.0]), Some(1));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let scores = [0.0, 1.0, 2.0f32];
        let sampling = Sampling { temperature: 0.5, ..Sampling::default() };
        let mut counts = [0.0f64; 3];
        for i in 0..10_000 {
            counts[sampling.draw(&scores, f64::from(i) / 1e4).unwrap() as usize] += 1e-4;
        }
        let weights = [0.0f64, 2.0, 4.0].map(f64::exp);
        for (count, weight) in counts.iter().zip(weights) {
            assert!((count - weight / weights.iter().sum::<f64>()).abs() < 2e-4, "{counts:?}");
        }
        assert_eq!(sampling.draw(&scores, 0.999_999_999), Some(0));
    }
}
