//! What each expert adds to the merged model, and which two are nearly one.
//!
//! The worth is measured on losses of the same rows under the merges of all subsets of the experts (Shapley values), or of all
//! experts but one. Experts of a random law are equal before they are drawn, so small differences are luck: the band is what equal
//! experts show, from shuffling them within each row (see [`super::pins`]). Twins stand out where the same two experts are close in
//! many modules: the band is what shuffling the experts within each module gives.

use super::least_squares::Estimate;
use super::pins::{SHUFFLES, null_band, of_shuffles};
use crate::error::{Error, Result};
use crate::rng::{Purpose, SeedStream};
use serde::Serialize;

/// Where the streams of these shuffles begin, apart from those of [`super::pins`].
const KEYS: u64 = 1 << 32;

/// Most experts whose subsets are all merged.
pub const MOST_EXPERTS: usize = 8;

/// A number for each expert, with the band that equal experts would show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExpertEffects {
    /// In nats (or the squared error), means over the rows. `[experts]`
    pub values: Vec<f64>,
    /// Standard errors over the rows. `[experts]`
    pub standard_errors: Vec<f64>,
    /// Where equal experts lie, all of them, in 95 of 100 shuffles.
    pub null_band: [f64; 2],
    /// Share of the shuffles in which one lies at least as far from the mean of all.
    pub p: f64,
}

impl ExpertEffects {
    /// Of a value for each expert and row. `[experts][rows]`; `key`: of the shuffles
    fn of(values: &[Vec<f64>], seed: SeedStream, key: u64) -> Result<Self> {
        let estimate = |list: &Vec<f64>| {
            Estimate::mean(list).ok_or_else(|| Error::data("the worth of an expert needs two rows or more"))
        };
        let own: Vec<Estimate> = values.iter().map(estimate).collect::<Result<_>>()?;
        let (null_band, p) = null_band(values, &own, seed, KEYS + key);
        let (values, standard_errors) = own.into_iter().map(|own| (own.value, own.se)).unzip();
        Ok(Self { values, standard_errors, null_band, p })
    }

    /// Whether an expert lies outside of the band.
    pub fn is_special(&self) -> bool {
        let [low, high] = self.null_band;
        self.values.iter().any(|&value| value < low || value > high)
    }

    /// What leaving each expert out of the merge adds to the loss: the losses without it minus those with all. `without`:
    /// `[experts][rows]`, all: `[rows]`
    pub fn leave_one_out(without: &[Vec<f64>], all: &[f64], seed: SeedStream) -> Result<Self> {
        let differences = |list: &Vec<f64>| list.iter().zip(all).map(|(without, with)| without - with).collect();
        Self::of(&without.iter().map(differences).collect::<Vec<_>>(), seed, 0)
    }

    /// The Shapley values of what each expert takes from the loss; they sum to the loss of no expert minus that of all.
    /// `losses`: of each subset of the experts, numbered by its bits. `[2^experts][rows]`
    pub fn shapley(losses: &[Vec<f64>], experts: usize, seed: SeedStream) -> Result<Self> {
        if losses.len() != 1 << experts {
            return Err(Error::internal("Shapley values need the losses of every subset"));
        }
        let rows = losses.first().map_or(0, Vec::len);
        let mut values = vec![Vec::with_capacity(rows); experts];
        for row in 0..rows {
            let worth: Vec<f64> = losses.iter().map(|losses| -losses[row]).collect();
            values.iter_mut().zip(shapley(&worth, experts)).for_each(|(list, value)| list.push(value));
        }
        Self::of(&values, seed, 1)
    }
}

/// Shapley values: of each player the mean, over all orders, of what they add to those before them. `worth`: of each subset,
/// numbered by its bits. `[2^players]` -> `[players]`
pub fn shapley(worth: &[f64], players: usize) -> Vec<f64> {
    // Weight of a subset of s others: s! (n - 1 - s)! / n!.
    let mut weights = vec![1.0 / players.max(1) as f64; players.max(1)];
    for s in 1..players {
        weights[s] = weights[s - 1] * s as f64 / (players - s) as f64;
    }
    let adds = |player: usize| {
        let others = (0..worth.len()).filter(|subset| subset & (1 << player) == 0);
        others.map(|s| weights[s.count_ones() as usize] * (worth[s | 1 << player] - worth[s])).sum()
    };
    (0..players).map(adds).collect()
}

/// How alike the experts are, pair by pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Twins {
    /// The pairs, lower number first.
    pub pairs: Vec<[usize; 2]>,
    /// Mean cosine of each pair over the modules. `[pairs]`
    pub cosines: Vec<f64>,
    /// What the largest mean cosine of a pair stays below in 95 of 100 shuffles of the experts within each module.
    pub null_limit: f64,
    /// Share of the shuffles whose closest pair is at least as close as the closest one found.
    pub p: f64,
}

impl Twins {
    /// Of the cosines of every two experts in each module. `[modules][experts * experts]`
    pub fn of(modules: &[Vec<f64>], experts: usize, seed: SeedStream) -> Self {
        let pairs: Vec<[usize; 2]> = (0..experts).flat_map(|j| (0..j).map(move |i| [i, j])).collect();
        let mean = |orders: &[Vec<usize>], [i, j]: [usize; 2]| {
            let cosines = modules.iter().zip(orders).map(|(cosines, order)| cosines[order[i] * experts + order[j]]);
            cosines.sum::<f64>() / modules.len().max(1) as f64
        };
        let largest =
            |orders: &[Vec<usize>]| pairs.iter().map(|&pair| mean(orders, pair)).fold(f64::NEG_INFINITY, f64::max);
        let mut orders: Vec<Vec<usize>> = vec![(0..experts).collect(); modules.len()];
        let cosines: Vec<f64> = pairs.iter().map(|&pair| mean(&orders, pair)).collect();
        let own = largest(&orders);
        let mut draws = seed.stream(Purpose::Sampling, (1 << 48) + KEYS + 2);
        let chance = (0..SHUFFLES).map(|_| {
            orders.iter_mut().for_each(|order| draws.shuffle(order));
            largest(&orders)
        });
        let (null_limit, p) = of_shuffles(chance.collect(), own);
        Self { pairs, cosines, null_limit, p }
    }

    /// The closest pair, and whether it is closer than chance.
    pub fn closest(&self) -> Option<([usize; 2], f64, bool)> {
        let best = (0..self.pairs.len()).max_by(|&a, &b| self.cosines[a].total_cmp(&self.cosines[b]))?;
        Some((self.pairs[best], self.cosines[best], self.p < 0.05))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn shapley_values_of_a_game_known_by_hand() {
        // Gloves: players 0 and 1 have a left one, 2 a right one; a pair is worth 1. Values 1/6, 1/6, 2/3.
        let worth: Vec<f64> = (0..8usize).map(|s| f64::from(u8::from(s & 4 != 0 && s & 3 != 0))).collect();
        let found = shapley(&worth, 3);
        assert!(near(found[0], 1.0 / 6.0) && near(found[1], 1.0 / 6.0) && near(found[2], 2.0 / 3.0), "{found:?}");
        // What everybody adds alone is their value.
        let sums: Vec<f64> =
            (0..16usize).map(|s| (0..4).filter(|p| s & 1 << p != 0).map(|p| f64::from(p + 1)).sum()).collect();
        assert!(shapley(&sums, 4).iter().zip([1.0, 2.0, 3.0, 4.0]).all(|(a, b)| near(*a, b)));
        assert_eq!(shapley(&[0.5, 2.0], 1), [1.5]);
    }

    /// Losses of every subset: the row's own, minus what the members bring, plus a little that depends on the row and subset.
    fn losses(gains: &[f64], noise: f64, seed: u64) -> Vec<Vec<f64>> {
        let mut draws = SeedStream::new(seed).stream(Purpose::Sampling, 9);
        let base: Vec<f64> = (0..64).map(|_| draws.uniform()).collect();
        let gain = |s: usize| (0..gains.len()).filter(|e| s & 1 << e != 0).map(|e| gains[e]).sum::<f64>();
        let of = |s: usize| base.iter().map(|loss| loss - gain(s) + noise * draws.uniform()).collect();
        (0..1usize << gains.len()).map(of).collect()
    }

    #[test]
    fn values_sum_to_what_all_bring_and_equal_experts_are_equal() {
        let losses = losses(&[0.1, 0.1, 0.1, 0.1], 0.0, 1);
        let found = ExpertEffects::shapley(&losses, 4, SeedStream::new(0)).unwrap();
        assert!(found.values.iter().all(|value| (value - 0.1).abs() < 1e-9), "{found:?}");
        let mean = |list: &Vec<f64>| list.iter().sum::<f64>() / list.len() as f64;
        let all = mean(&losses[0]) - mean(&losses[15]);
        assert!((found.values.iter().sum::<f64>() - all).abs() < 1e-9);
        let noisy = self::losses(&[0.1, 0.1, 0.1, 0.1], 0.05, 2);
        let found = ExpertEffects::shapley(&noisy, 4, SeedStream::new(0)).unwrap();
        let all = mean(&noisy[0]) - mean(&noisy[15]);
        assert!((found.values.iter().sum::<f64>() - all).abs() < 1e-9, "also with noise");
        assert!(!found.is_special() && found.p > 0.05, "{found:?}");
        assert!(ExpertEffects::shapley(&noisy[..7], 4, SeedStream::new(0)).is_err());
        let one_row: Vec<Vec<f64>> = noisy.iter().map(|losses| losses[..1].to_vec()).collect();
        assert!(ExpertEffects::shapley(&one_row, 4, SeedStream::new(0)).is_err());
    }

    #[test]
    fn a_bad_expert_is_found_by_both_measures() {
        let losses = losses(&[0.1, 0.1, -0.2, 0.1], 0.05, 3);
        let found = ExpertEffects::shapley(&losses, 4, SeedStream::new(0)).unwrap();
        assert!(found.is_special() && found.p < 0.01 && found.values[2] < found.null_band[0], "{found:?}");
        let without: Vec<Vec<f64>> = (0..4).map(|expert| losses[15 ^ (1 << expert)].clone()).collect();
        let left = ExpertEffects::leave_one_out(&without, &losses[15], SeedStream::new(0)).unwrap();
        assert!(left.values[2] < -0.15 && left.values[0] > 0.05, "without the bad one the loss falls: {left:?}");
        assert!(left.values[2] < left.null_band[0] && left.p < 0.01);
    }

    /// Cosines of this many modules; all pairs are alike but for noise, and the twins where they are planted.
    fn cosines(modules: usize, experts: usize, twins: Option<[usize; 2]>, seed: u64) -> Vec<Vec<f64>> {
        let mut draws = SeedStream::new(seed).stream(Purpose::Sampling, 4);
        let module = |_: usize| {
            let mut all = vec![1.0; experts * experts];
            for i in 0..experts {
                for j in 0..i {
                    let planted = twins.is_some_and(|pair| pair == [j, i]);
                    let cosine = if planted { 0.99 } else { 0.5 + 0.1 * draws.uniform() };
                    (all[i * experts + j], all[j * experts + i]) = (cosine, cosine);
                }
            }
            all
        };
        (0..modules).map(module).collect()
    }

    #[test]
    fn planted_twins_are_found_and_equal_experts_have_none() {
        let found = Twins::of(&cosines(8, 4, Some([1, 3]), 1), 4, SeedStream::new(5));
        let (pair, cosine, beyond) = found.closest().unwrap();
        assert_eq!((pair, beyond), ([1, 3], true), "{found:?}");
        assert!((cosine - 0.99).abs() < 1e-12 && found.null_limit < 0.9 && found.pairs.len() == 6);
        let beyond = (0..100).filter(|&seed| {
            let found = Twins::of(&cosines(8, 4, None, seed), 4, SeedStream::new(seed));
            found.closest().is_some_and(|(.., beyond)| beyond)
        });
        let beyond = beyond.count();
        assert!(beyond <= 14, "{beyond} of 100 without twins: 5 are expected");
        // In one module a close pair may be any of six: nothing can be said.
        let single = Twins::of(&cosines(1, 4, Some([0, 1]), 2), 4, SeedStream::new(5));
        assert_eq!((single.p, single.closest().unwrap().2), (1.0, false));
        assert_eq!(Twins::of(&[], 1, SeedStream::new(0)).closest(), None);
    }
}
