//! Whether it matters which expert runs in a layer: the layer on one expert, all others merged, row by row.
//!
//! Every expert of a random law sees the same distribution, so small differences between them are luck. The band is what M
//! equal experts would show: within each row the experts' losses are shuffled, which keeps the rows' own spread, and the means
//! are taken again.

use super::least_squares::Estimate;
use crate::error::{Error, Result};
use crate::rng::{Purpose, SeedStream};
use serde::Serialize;

/// Shuffles of the experts.
pub(super) const SHUFFLES: usize = 500;
/// The band holds all experts of a layer in this share of the shuffles.
const INSIDE: f64 = 0.95;

/// Losses of the same rows under several models. `[rows]` each
#[derive(Clone, Debug, Default)]
pub struct PinnedLosses {
    /// Everything merged.
    pub merged: Vec<f64>,
    /// This layer on each expert, the others merged. `[experts][rows]`
    pub pinned: Vec<Vec<f64>>,
    /// This layer without its modules, the others merged.
    pub off: Vec<f64>,
}

/// What one layer's experts do to the loss, against everything merged; means over the rows, paired row by row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PinEffects {
    /// Of each expert. `[experts]`
    pub experts: Vec<Estimate>,
    /// Where `experts` of equal experts lie, all of them, in 95 of 100 shuffles: the lower and the upper end.
    pub null_band: [f64; 2],
    /// Share of the shuffles in which an expert is at least as far from the mean of all: small where one is special.
    pub p: f64,
    /// Of the layer without its modules.
    pub adapter_off: Estimate,
}

impl PinEffects {
    /// Whether an expert lies outside of the band.
    pub fn is_special(&self) -> bool {
        let [low, high] = self.null_band;
        self.experts.iter().any(|effect| effect.value < low || effect.value > high)
    }

    /// Of these losses; the shuffles depend on the seed and the number of the layer alone.
    pub fn of(losses: &PinnedLosses, seed: SeedStream, layer: u64) -> Result<Self> {
        let against = |other: &[f64]| -> Result<Vec<f64>> {
            if other.len() != losses.merged.len() {
                return Err(Error::internal("losses of different rows cannot be compared"));
            }
            Ok(other.iter().zip(&losses.merged).map(|(a, b)| a - b).collect())
        };
        let estimate = |values: &[f64]| {
            Estimate::mean(values).ok_or_else(|| Error::data("effects of an expert need two rows or more"))
        };
        let differences: Vec<Vec<f64>> = losses.pinned.iter().map(|list| against(list)).collect::<Result<_>>()?;
        let experts: Vec<Estimate> = differences.iter().map(|list| estimate(list)).collect::<Result<_>>()?;
        let (null_band, p) = null_band(&differences, &experts, seed, layer);
        Ok(Self { experts, null_band, p, adapter_off: estimate(&against(&losses.off)?)? })
    }
}

/// Where the means of equal experts lie, all of them, in 95 of 100 shuffles of the experts within each row, and the share of the
/// shuffles in which one is at least as far from the mean of all. `[experts][rows]` and the experts' own means; `key`: of the shuffles
pub(super) fn null_band(values: &[Vec<f64>], own: &[Estimate], seed: SeedStream, key: u64) -> ([f64; 2], f64) {
    let centre = own.iter().map(|effect| effect.value).sum::<f64>() / own.len().max(1) as f64;
    let farthest = |means: &mut dyn Iterator<Item = f64>| means.map(|mean| (mean - centre).abs()).fold(0.0, f64::max);
    let own = farthest(&mut own.iter().map(|effect| effect.value));
    let chance = shuffled(values, seed, key).map(|means| farthest(&mut means.into_iter())).collect();
    let (half, p) = of_shuffles(chance, own);
    ([centre - half, centre + half], p)
}

/// What 95 of 100 shuffles stay below, and the share of them that reach what was found.
pub(super) fn of_shuffles(mut chance: Vec<f64>, own: f64) -> (f64, f64) {
    chance.sort_by(f64::total_cmp);
    let limit = chance.get((INSIDE * chance.len() as f64) as usize).copied().unwrap_or(0.0);
    // Sums in another order differ in the last bits.
    let at_least = chance.iter().filter(|&&far| far >= own - 1e-9 * own.abs()).count();
    (limit, (at_least + 1) as f64 / (chance.len() + 1) as f64)
}

/// The means of the experts after shuffling them within each row, again and again. `[experts][rows]` -> `[experts]` each
fn shuffled(values: &[Vec<f64>], seed: SeedStream, layer: u64) -> impl Iterator<Item = Vec<f64>> {
    let (experts, rows) = (values.len(), values.first().map_or(0, Vec::len));
    let by_row: Vec<Vec<f64>> = (0..rows).map(|row| values.iter().map(|own| own[row]).collect()).collect();
    let mut draws = seed.stream(Purpose::Sampling, (1 << 48) + layer);
    (0..SHUFFLES).map(move |_| {
        let mut sums = vec![0.0; experts];
        let mut order: Vec<usize> = (0..experts).collect();
        for row in &by_row {
            for i in (1..experts).rev() {
                order.swap(i, draws.below(i + 1));
            }
            sums.iter_mut().zip(&order).for_each(|(sum, &expert)| *sum += row[expert]);
        }
        sums.into_iter().map(|sum| sum / rows.max(1) as f64).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of equal experts: the row's own, and a small number of each expert.
    fn equal(seed: u64, experts: usize, rows: usize) -> PinnedLosses {
        let mut draws = SeedStream::new(seed).stream(Purpose::Sampling, 0);
        let merged: Vec<f64> = (0..rows).map(|_| draws.uniform()).collect();
        let pinned = (0..experts).map(|_| merged.iter().map(|loss| loss + 0.02 * (draws.uniform() - 0.5)).collect());
        PinnedLosses { pinned: pinned.collect(), off: merged.iter().map(|loss| loss + 0.1).collect(), merged }
    }

    #[test]
    fn the_band_holds_equal_experts_as_often_as_it_says() {
        let outside =
            (0..200).filter(|&run| PinEffects::of(&equal(run, 4, 64), SeedStream::new(run), 0).unwrap().is_special());
        // 5 % of 200 is 10, with a standard deviation of 3.1.
        let outside = outside.count();
        assert!((2..=20).contains(&outside), "{outside} of 200 mixtures outside of the band");
    }

    #[test]
    fn a_bad_expert_is_outside_and_the_layer_switched_off_is_seen() {
        let mut losses = equal(3, 4, 64);
        losses.pinned[2].iter_mut().for_each(|loss| *loss += 0.01);
        let found = PinEffects::of(&losses, SeedStream::new(1), 0).unwrap();
        assert!(found.is_special() && found.p < 0.01, "{found:?}");
        assert!(found.experts[2].value > found.null_band[1]);
        assert!((found.adapter_off.value - 0.1).abs() < 1e-9);
        let good = PinEffects::of(&equal(3, 4, 64), SeedStream::new(1), 0).unwrap();
        assert!(good.p > 0.02, "{good:?}");
        let again = PinEffects::of(&losses, SeedStream::new(1), 0).unwrap();
        assert_eq!(found, again, "the same seed gives the same band");
    }

    #[test]
    fn effects_are_paired_means_by_hand() {
        let losses = PinnedLosses {
            merged: vec![1.0, 2.0, 4.0],
            pinned: vec![vec![1.5, 2.0, 4.7], vec![1.0, 2.0, 4.0]],
            off: vec![2.0, 2.0, 5.0],
        };
        let found = PinEffects::of(&losses, SeedStream::new(0), 0).unwrap();
        assert!((found.experts[0].value - 0.4).abs() < 1e-12 && found.experts[1] == Estimate::default());
        // Differences 0.5 0 0.7: squares of distances from 0.4 are 0.01 0.16 0.09; 0.26 / 2 / 3.
        assert!((found.experts[0].se - (0.26f64 / 6.0).sqrt()).abs() < 1e-12);
        assert!((found.adapter_off.value - 2.0 / 3.0).abs() < 1e-12);
        let centre = (found.null_band[0] + found.null_band[1]) / 2.0;
        assert!((centre - 0.2).abs() < 1e-12, "the band lies around the mean of the experts");
        let one = PinnedLosses { merged: vec![1.0, 2.0], pinned: vec![vec![1.1, 2.1]], off: vec![1.0, 2.0] };
        let one = PinEffects::of(&one, SeedStream::new(0), 0).unwrap();
        assert!(one.null_band[1] - one.null_band[0] < 1e-12 && one.p >= 1.0, "one expert cannot be special");
        assert!(
            PinEffects::of(&PinnedLosses { merged: vec![1.0], ..PinnedLosses::default() }, SeedStream::new(0), 0)
                .is_err()
        );
    }
}
