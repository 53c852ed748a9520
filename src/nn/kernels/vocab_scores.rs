//! Scores of next-token predictions for several ways of running one model and for the mean of their probabilities:
//!
//! ```text
//! way r:     -log p_r[target],   argmax p_r == target
//! ensemble:  -log mean_r p_r[target],   argmax mean_r p_r == target
//! ```
//!
//! Memory: logits, and with several ways the sum of the probabilities, of at most `max_logits` values or one target's rows.

use super::cuda::{has_kernels, lm_ops};
use super::gpu;
use super::host::{self, HostRef};
use super::simd;
use super::vocab_loss::log_sum_exp;
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Tensor};
use rayon::prelude::*;

/// Scores of a target, or their sums over several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenScores {
    /// -log p, in nats.
    pub nll: f64,
    /// Targets that are the likeliest token; of equally likely ones, the first counts.
    pub right: usize,
}

impl TokenScores {
    /// Adds those of other targets.
    pub fn add(&mut self, other: Self) {
        self.nll += other.nll;
        self.right += other.right;
    }

    /// The sums over these.
    pub fn sum(targets: &[Self]) -> Self {
        let mut sum = Self::default();
        targets.iter().for_each(|one| sum.add(*one));
        sum
    }
}

/// Log probability of the target, and the likeliest token: a whole number of at most 2^24, which f32 holds exactly.
const PARTS: usize = 2;

/// The scores of each target in each way, and by the mean of their probabilities. `logits` makes `[n, vocab]` of `[n, d]`.
/// hidden: each `[targets, d]` -> `[ways][targets]`, `[targets]`
pub fn vocab_scores(
    hidden: &[Tensor],
    targets: &[u32],
    vocab: usize,
    max_logits: usize,
    logits: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<(Vec<Vec<TokenScores>>, Vec<TokenScores>)> {
    let (n, ways) = (targets.len(), hidden.len());
    if n == 0 || ways == 0 || targets.iter().any(|&t| t as usize >= vocab) {
        return Err(Error::internal(format!("{n} targets for {ways} ways with a vocabulary of {vocab}")));
    }
    let several = ways > 1;
    let most = hidden.first().map_or(n, |hidden| gpu::losses::most_targets(hidden, vocab));
    let chunk = (max_logits / (vocab * if several { 2 } else { 1 })).min(most).clamp(1, n);
    let mut each = vec![Vec::with_capacity(n); ways];
    let mut ensemble = Vec::with_capacity(if several { n } else { 0 });
    let mut mixed: Vec<f32> = Vec::new();
    for start in (0..n).step_by(chunk) {
        let targets = &targets[start..(start + chunk).min(n)];
        let c = targets.len();
        mixed.clear();
        let mut there = None;
        let mut log_ps: Vec<Vec<f32>> = Vec::with_capacity(ways);
        for (hidden, own) in hidden.iter().zip(&mut each) {
            let rows = logits(&hidden.narrow(0, start, c)?)?.to_dtype(DType::F32)?;
            let parts = if rows.device().is_gpu() || has_kernels(&rows) {
                if several && there.is_none() {
                    there = Some(rows.zeros_like()?);
                }
                device_scores(&rows, Some(targets), there.as_ref())?
            } else {
                mixed.resize(if several { c * vocab } else { 0 }, 0.0);
                let rows = rows.to_device(&Device::Cpu)?.contiguous()?;
                one_way(&HostRef::of(&rows)?, targets, vocab, &mut mixed)
            };
            own.extend(scores(&parts, targets));
            log_ps.push(parts.chunks_exact(PARTS).map(|row| row[0]).collect());
        }
        if several {
            let best = match &there {
                Some(mixed) => places(&device_scores(mixed, None, None)?),
                None => likeliest(&mixed, vocab),
            };
            ensemble.extend(of_mean(&log_ps, &best, targets));
        }
    }
    if !several {
        ensemble.clone_from(&each[0]);
    }
    Ok((each, ensemble))
}

/// ln p of each target, one way. `logits` makes `[n, vocab]` of `[n, d]`; at most `max_logits` of them are held at once, or
/// one target's. hidden `[targets, d]`
pub fn target_log_probs(
    hidden: &Tensor,
    targets: &[u32],
    (vocab, max_logits): (usize, usize),
    logits: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<f64>> {
    let n = targets.len();
    if n == 0 || targets.iter().any(|&t| t as usize >= vocab) {
        return Err(Error::internal(format!("{n} targets with a vocabulary of {vocab}")));
    }
    let chunk = (max_logits / vocab).min(gpu::losses::most_targets(hidden, vocab)).clamp(1, n);
    let mut found = Vec::with_capacity(n);
    for (at, targets) in targets.chunks(chunk).enumerate() {
        let rows = logits(&hidden.narrow(0, at * chunk, targets.len())?)?.to_dtype(DType::F32)?;
        let parts = if rows.device().is_gpu() || has_kernels(&rows) {
            device_scores(&rows, Some(targets), None)?
        } else {
            let rows = rows.to_device(&Device::Cpu)?.contiguous()?;
            one_way(&HostRef::of(&rows)?, targets, vocab, &mut [])
        };
        found.extend(parts.chunks_exact(PARTS).map(|row| f64::from(row[0])));
    }
    Ok(found)
}

/// [`one_way`] on a GPU.
fn device_scores(z: &Tensor, targets: Option<&[u32]>, mixed: Option<&Tensor>) -> Result<Vec<f32>> {
    if z.device().is_gpu() {
        return gpu::losses::vocab_scores(z, targets, mixed);
    }
    lm_ops::vocab_scores(z, targets, mixed)
}

/// Parts of each row of logits; adds the probabilities to `mixed`, where that is not empty. z `[n, vocab]`
fn one_way(z: &[f32], targets: &[u32], vocab: usize, mixed: &mut [f32]) -> Vec<f32> {
    let mut parts = vec![0.0f32; targets.len() * PARTS];
    let row = |z: &[f32], target: u32, parts: &mut [f32]| {
        let lse = log_sum_exp(z);
        parts.copy_from_slice(&[z[target as usize] - lse, argmax(z) as f32]);
        lse
    };
    let rows = parts.par_chunks_mut(PARTS).zip(targets).zip(z.par_chunks(vocab));
    let rows = rows.with_min_len(host::rows_per_task(vocab));
    if mixed.is_empty() {
        rows.for_each(|((parts, &target), z)| {
            simd::vectorized(|| row(z, target, parts));
        });
    } else {
        rows.zip(mixed.par_chunks_mut(vocab)).for_each(|(((parts, &target), z), mixed)| {
            simd::vectorized(|| {
                let lse = row(z, target, parts);
                mixed.iter_mut().zip(z).for_each(|(sum, v)| *sum += simd::exp(v - lse));
            });
        });
    }
    parts
}

/// The first of the largest values.
#[inline(always)]
fn argmax(z: &[f32]) -> usize {
    let most = simd::max(z);
    z.iter().position(|&v| v == most).unwrap_or(0)
}

fn likeliest(mixed: &[f32], vocab: usize) -> Vec<u32> {
    mixed.chunks_exact(vocab).map(|row| argmax(row) as u32).collect()
}

/// The likeliest tokens of rows' parts.
fn places(parts: &[f32]) -> Vec<u32> {
    parts.chunks_exact(PARTS).map(|row| row[1] as u32).collect()
}

fn scores(parts: &[f32], targets: &[u32]) -> Vec<TokenScores> {
    let rows = parts.chunks_exact(PARTS).zip(targets);
    let one = |(row, &target): (&[f32], &u32)| TokenScores {
        nll: -f64::from(row[0]),
        right: usize::from(row[1] as u32 == target),
    };
    rows.map(one).collect()
}

/// Of the mean of the probabilities; by their logarithms, for a probability itself may be too small for f32.
fn of_mean(log_ps: &[Vec<f32>], likeliest: &[u32], targets: &[u32]) -> Vec<TokenScores> {
    let one = |(i, (best, target)): (usize, (&u32, &u32))| {
        let of_ways = || log_ps.iter().map(|way| f64::from(way[i]));
        let most = of_ways().fold(f64::NEG_INFINITY, f64::max);
        let mean = of_ways().map(|log_p| (log_p - most).exp()).sum::<f64>() / log_ps.len() as f64;
        TokenScores { nll: -(most + mean.ln()), right: usize::from(best == target) }
    };
    likeliest.iter().zip(targets).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    /// Everything at once, in double precision.
    fn by_hand(logits: &[Vec<f32>], targets: &[u32], vocab: usize) -> (Vec<Vec<TokenScores>>, Vec<TokenScores>) {
        let probabilities = |z: &[f32]| {
            let exps: Vec<f64> = z.iter().map(|&v| f64::from(v).exp()).collect();
            let sum: f64 = exps.iter().sum();
            exps.into_iter().map(|e| e / sum).collect::<Vec<_>>()
        };
        let score = |p: &dyn Fn(usize) -> Vec<f64>| {
            let one = |(i, &target): (usize, &u32)| {
                let p = p(i);
                let best = (0..vocab).fold(0, |best, v| if p[v] > p[best] { v } else { best });
                TokenScores { nll: -p[target as usize].ln(), right: usize::from(best == target as usize) }
            };
            targets.iter().enumerate().map(one).collect::<Vec<_>>()
        };
        let row = |way: &[f32], i: usize| probabilities(&way[i * vocab..(i + 1) * vocab]);
        let all = logits.iter().map(|way| score(&|i| row(way, i))).collect();
        let mean = |i: usize| {
            let rows: Vec<Vec<f64>> = logits.iter().map(|way| row(way, i)).collect();
            (0..vocab).map(|v| rows.iter().map(|row| row[v]).sum::<f64>() / rows.len() as f64).collect()
        };
        (all, score(&mean))
    }

    #[test]
    fn slices_of_any_size_give_what_everything_at_once_gives() {
        let (n, vocab) = (37, 23);
        let mut stream = SeedStream::new(4).stream(Purpose::Sampling, 0);
        let targets: Vec<u32> = (0..n).map(|_| stream.below(vocab) as u32).collect();
        for ways in [1, 2, 5] {
            let logits: Vec<Vec<f32>> = (0..ways).map(|_| stream.normal_vec(n * vocab, 2.0)).collect();
            let hidden: Vec<Tensor> =
                logits.iter().map(|way| Tensor::from_slice(way, (n, vocab), &Device::Cpu).unwrap()).collect();
            let (want, of_mean) = by_hand(&logits, &targets, vocab);
            for max_logits in [1, 3 * vocab, 1 << 20] {
                // The hidden states are the logits themselves here.
                let (got, ensemble) =
                    vocab_scores(&hidden, &targets, vocab, max_logits, &|hidden| Ok(hidden.clone())).unwrap();
                assert!(got.iter().chain([&ensemble]).all(|targets| targets.len() == n));
                for (got, want) in got.iter().flatten().zip(want.iter().flatten()).chain(ensemble.iter().zip(&of_mean))
                {
                    assert_eq!(got.right, want.right);
                    assert!((got.nll - want.nll).abs() < 1e-4 * want.nll.max(0.1), "{got:?} {want:?}");
                }
                let sum = TokenScores::sum(&ensemble);
                assert_eq!(sum.right, ensemble.iter().map(|one| one.right).sum::<usize>());
                assert!(ways > 1 || got[0] == ensemble);
            }
        }
    }

    #[test]
    fn probabilities_too_small_for_a_float_still_have_a_logarithm() {
        let way = |z: [f32; 2]| Tensor::new(&[z], &Device::Cpu).unwrap();
        let hidden = [way([0.0, 300.0]), way([0.0, 400.0])];
        let (each, mean) = vocab_scores(&hidden, &[0], 2, 100, &|hidden| Ok(hidden.clone())).unwrap();
        assert_eq!((each[0][0].nll, each[1][0].nll), (300.0, 400.0));
        assert!((mean[0].nll - (300.0 + 2f64.ln())).abs() < 1e-9, "{mean:?}");
        assert_eq!((each[0][0].right, mean[0].right), (0, 0));
    }
}
