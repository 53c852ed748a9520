//! How far the loss along a route is the sum of one number for each thing that was drawn.
//!
//! A *factor* is one side of one adapted module with its experts as levels. Of all routes (every combination once) the main
//! effect of a level is its mean against the mean of all, and the variance splits exactly into parts of each set of factors
//! (functional analysis of variance). A factor's *share* is its main effect's part plus an equal part of every interaction it
//! takes part in (its Shapley effect): the shares add up to 1. Of a sample of routes the main effects are a least-squares fit,
//! and the variance they explain is corrected for their number.

use super::least_squares;

/// The additive model of losses along routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Additive {
    /// Mean loss; of a sample the fit's mean over equally frequent levels.
    pub mean: f64,
    /// Main effect of each level; of each factor they add up to 0. `[factors][levels]`
    pub effects: Vec<Vec<f64>>,
    /// What the sum of mean and effects says of each route. `[routes]`
    pub predicted: Vec<f64>,
    /// Share of the variance over the routes that the sum explains, at most 1; of a sample corrected for the number of effects,
    /// and then it can be below 0. Absent where nothing varies.
    pub explained: Option<f64>,
    /// Share of the variance of each factor, interactions shared equally: they add up to 1. Absent of a sample, or where nothing
    /// varies. `[factors]`
    pub shares: Option<Vec<f64>>,
}

/// Variance over routes below this share of the squared mean is rounding.
const ROUNDING: f64 = 1e-24;

impl Additive {
    /// Of all combinations of levels, each once, in any order. `levels`: how many each factor has, each at least 2.
    /// `routes`: the levels of each. Nothing where a combination is missing or comes twice.
    pub fn of_all(levels: &[usize], routes: &[Vec<u8>], losses: &[f64]) -> Option<Self> {
        let n: usize = levels.iter().product();
        if routes.len() != n || losses.len() != n || levels.len() > 16 || levels.iter().any(|&l| l < 2) {
            return None;
        }
        let mut table = vec![f64::NAN; n];
        for (route, &loss) in routes.iter().zip(losses) {
            let place = table.get_mut(place(levels, route, usize::MAX)?)?;
            if !place.is_nan() || !loss.is_finite() {
                return None;
            }
            *place = loss;
        }
        let mean = losses.iter().sum::<f64>() / n as f64;
        let marginal = |factor: usize| means(levels, &table, 1 << factor);
        let effects: Vec<Vec<f64>> =
            (0..levels.len()).map(|f| marginal(f).into_iter().map(|value| value - mean).collect()).collect();
        let total = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / n as f64;
        let varies = total > ROUNDING * mean * mean;
        let of = |effects: &Vec<f64>| effects.iter().map(|e| e * e).sum::<f64>() / effects.len() as f64;
        let explained = varies.then(|| (effects.iter().map(of).sum::<f64>() / total).min(1.0));
        let shares = varies.then(|| shares(levels, &table, mean).into_iter().map(|part| part / total).collect());
        let predicted = predicted(mean, &effects, routes)?;
        Some(Self { mean, effects, predicted, explained, shares })
    }

    /// Of some routes. Nothing where they do not determine the effects.
    pub fn of_sample(levels: &[usize], routes: &[Vec<u8>], losses: &[f64]) -> Option<Self> {
        let row = |(route, &loss): (&Vec<u8>, &f64)| {
            let ones = route.iter().zip(levels).flat_map(|(&level, &levels)| {
                (1..levels).map(move |own| f64::from(u8::from(usize::from(level) == own)))
            });
            (ones.collect::<Vec<_>>(), loss)
        };
        let rows: Vec<(Vec<f64>, f64)> = routes.iter().zip(losses).map(row).collect();
        let fitted = least_squares::fit(&rows)?;
        let (mut mean, mut at, mut effects) = (fitted[0].value, 1, Vec::new());
        for &levels in levels {
            let against_first: Vec<f64> =
                std::iter::once(0.0).chain(fitted[at..at + levels - 1].iter().map(|e| e.value)).collect();
            let centre = against_first.iter().sum::<f64>() / levels as f64;
            mean += centre;
            effects.push(against_first.into_iter().map(|e| e - centre).collect());
            at += levels - 1;
        }
        let predicted = predicted(mean, &effects, routes)?;
        let n = losses.len() as f64;
        let centre = losses.iter().sum::<f64>() / n;
        let total = losses.iter().map(|loss| (loss - centre).powi(2)).sum::<f64>() / (n - 1.0);
        let left = losses.iter().zip(&predicted).map(|(loss, p)| (loss - p).powi(2)).sum::<f64>() / (n - at as f64);
        let explained = (total > ROUNDING * centre * centre).then(|| 1.0 - left / total);
        Some(Self { mean, effects, predicted, explained, shares: None })
    }
}

fn predicted(mean: f64, effects: &[Vec<f64>], routes: &[Vec<u8>]) -> Option<Vec<f64>> {
    let of = |route: &Vec<u8>| {
        let own = route.iter().zip(effects).map(|(&level, effects)| effects.get(usize::from(level)));
        own.sum::<Option<f64>>().map(|sum| mean + sum)
    };
    routes.iter().map(of).collect()
}

/// Where a route stands in a table of the factors in `mask`, the first one slowest; nothing where a level does not exist.
fn place(levels: &[usize], route: &[u8], mask: usize) -> Option<usize> {
    if route.len() != levels.len() {
        return None;
    }
    let mut place = 0;
    for (factor, (&level, &count)) in route.iter().zip(levels).enumerate() {
        if usize::from(level) >= count {
            return None;
        }
        if mask >> factor & 1 == 1 {
            place = place * count + usize::from(level);
        }
    }
    Some(place)
}

/// The means of a table of all factors by the levels of those in `mask`.
fn means(levels: &[usize], table: &[f64], mask: usize) -> Vec<f64> {
    let kept = |factor: &usize| mask >> factor & 1 == 1;
    let size: usize = (0..levels.len()).filter(kept).map(|factor| levels[factor]).product();
    let mut sums = vec![0.0; size];
    for (at, value) in table.iter().enumerate() {
        let (mut rest, mut stride, mut to) = (at, 1, 0);
        // Levels come off the last factor first.
        for factor in (0..levels.len()).rev() {
            let level = rest % levels[factor];
            rest /= levels[factor];
            if kept(&factor) {
                to += level * stride;
                stride *= levels[factor];
            }
        }
        sums[to] += value;
    }
    let each = table.len() as f64 / size as f64;
    sums.into_iter().map(|sum| sum / each).collect()
}

/// Each factor's part of the variance, interactions shared equally among their factors.
fn shares(levels: &[usize], table: &[f64], mean: f64) -> Vec<f64> {
    let factors = levels.len();
    // Variance of the means given the levels of each set of factors.
    let given: Vec<f64> = (0..1usize << factors)
        .map(|mask| {
            let means = means(levels, table, mask);
            means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / means.len() as f64
        })
        .collect();
    // Shapley: the mean, over all orders of the factors, of what a factor adds to those before it.
    let factorial = |n: usize| (1..=n).map(|k| k as f64).product::<f64>();
    let weight = |before: usize| factorial(before) * factorial(factors - before - 1) / factorial(factors);
    let part = |factor: usize| {
        let without = (0..1usize << factors).filter(|mask| mask >> factor & 1 == 0);
        without.map(|mask| weight(mask.count_ones() as usize) * (given[mask | 1 << factor] - given[mask])).sum()
    };
    (0..factors).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    fn all(levels: &[usize]) -> Vec<Vec<u8>> {
        let n: usize = levels.iter().product();
        let route = |mut at: usize| {
            let mut route: Vec<u8> = levels
                .iter()
                .rev()
                .map(|&count| {
                    let level = (at % count) as u8;
                    at /= count;
                    level
                })
                .collect();
            route.reverse();
            route
        };
        (0..n).map(route).collect()
    }

    #[test]
    fn a_table_of_two_by_two_is_that_of_a_hand_computation() {
        // 0 1 / 2 5: mean 2; rows 0.5 and 3.5, columns 1 and 3. Variances 3.5 in all, 2.25 of the rows, 1 of the columns, 0.25 of
        // both together.
        let found = Additive::of_all(&[2, 2], &all(&[2, 2]), &[0.0, 1.0, 2.0, 5.0]).unwrap();
        assert_eq!((found.mean, &found.effects), (2.0, &vec![vec![-1.5, 1.5], vec![-1.0, 1.0]]));
        assert_eq!(found.predicted, [-0.5, 1.5, 2.5, 4.5]);
        assert!((found.explained.unwrap() - 3.25 / 3.5).abs() < 1e-12);
        let shares = found.shares.unwrap();
        assert!((shares[0] - 2.375 / 3.5).abs() < 1e-12 && (shares[1] - 1.125 / 3.5).abs() < 1e-12, "{shares:?}");
    }

    #[test]
    fn a_planted_sum_is_explained_whole_and_a_planted_interaction_not_at_all() {
        let levels = [4, 4, 3, 2];
        let routes = all(&levels);
        let sum = |route: &Vec<u8>| {
            route.iter().enumerate().map(|(f, &l)| (f + 1) as f64 * (f64::from(l) * 1.7).sin()).sum::<f64>()
        };
        let losses: Vec<f64> = routes.iter().map(sum).collect();
        let found = Additive::of_all(&levels, &routes, &losses).unwrap();
        assert!((found.explained.unwrap() - 1.0).abs() < 1e-12);
        assert!(found.predicted.iter().zip(&losses).all(|(p, loss)| (p - loss).abs() < 1e-12));
        let shares = found.shares.unwrap();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let variance = |e: &Vec<f64>| e.iter().map(|e| e * e).sum::<f64>() / e.len() as f64;
        let total: f64 = found.effects.iter().map(variance).sum();
        assert!(found.effects.iter().zip(&shares).all(|(e, share)| (variance(e) / total - share).abs() < 1e-12));

        let sign = |route: &Vec<u8>| if (route[0] + route[1]).is_multiple_of(2) { 1.0 } else { -1.0 };
        let parity: Vec<f64> = routes.iter().map(sign).collect();
        let found = Additive::of_all(&levels, &routes, &parity).unwrap();
        assert!(found.explained.unwrap().abs() < 1e-12);
        let shares = found.shares.unwrap();
        assert!((shares[0] - 0.5).abs() < 1e-12 && (shares[1] - 0.5).abs() < 1e-12 && shares[2].abs() < 1e-12);
    }

    #[test]
    fn the_order_of_the_routes_does_not_matter_and_gaps_are_refused() {
        let (levels, routes) = ([3, 2], all(&[3, 2]));
        let losses = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let found = Additive::of_all(&levels, &routes, &losses).unwrap();
        let (mut back, mut reversed) = (routes.clone(), losses);
        back.reverse();
        reversed.reverse();
        let other = Additive::of_all(&levels, &back, &reversed).unwrap();
        assert_eq!((found.effects, found.shares), (other.effects, other.shares));
        let mut twice = routes;
        twice[0] = twice[1].clone();
        assert_eq!(Additive::of_all(&levels, &twice, &losses), None);
        assert_eq!(Additive::of_all(&levels, &twice[1..], &losses[1..]), None);
        let still = Additive::of_all(&levels, &back, &[0.7; 6]).unwrap();
        assert_eq!((still.explained, still.shares), (None, None));
    }

    #[test]
    fn a_sample_gives_the_planted_effects_and_no_more_than_there_is() {
        let mut draws = SeedStream::new(2).stream(Purpose::Sampling, 0);
        let levels = [4; 6];
        let routes: Vec<Vec<u8>> = (0..200).map(|_| (0..6).map(|_| draws.below(4) as u8).collect()).collect();
        let planted = |route: &Vec<u8>| 1.0 + route.iter().map(|&l| [0.3, -0.1, -0.1, -0.1][l as usize]).sum::<f64>();
        let losses: Vec<f64> = routes.iter().map(planted).collect();
        let found = Additive::of_sample(&levels, &routes, &losses).unwrap();
        assert!((found.explained.unwrap() - 1.0).abs() < 1e-9 && (found.mean - 1.0).abs() < 1e-9);
        assert!(found.effects.iter().all(|e| (e[0] - 0.3).abs() < 1e-9 && (e[2] + 0.1).abs() < 1e-9));
        assert_eq!(found.shares, None);
        // Pure noise is not explained by 18 effects, which would fit 9 % of it by chance.
        let noise: Vec<f64> = routes.iter().map(|_| draws.normal()).collect();
        let found = Additive::of_sample(&levels, &routes, &noise).unwrap();
        assert!(found.explained.unwrap().abs() < 0.12, "{:?}", found.explained);
        assert_eq!(Additive::of_sample(&levels, &routes[..10], &noise[..10]), None);
    }
}
