//! Reproducible randomness. Every random choice comes from a [`SeedStream`]: one seed, split by [`Purpose`] and index (a
//! step, an epoch, a tensor number). A stream needs no history, so a checkpoint stores a step and no generator state.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// What a random stream is for. The name is part of the derivation, so it is part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Init,
    /// Which expert runs where.
    Routing,
    /// Dropout masks.
    Dropout,
    /// The order of the training rows.
    Shuffle,
    /// Evaluation routes, generation, bootstrap, probe sets.
    Sampling,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Routing => "routing",
            Self::Dropout => "dropout",
            Self::Shuffle => "shuffle",
            Self::Sampling => "sampling",
        }
    }
}

/// The root of all randomness of a run: a seed, split by purpose and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedStream {
    seed: u64,
}

impl SeedStream {
    /// All streams of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream for one purpose and index; always the same for the same three values.
    pub fn stream(self, purpose: Purpose, index: u64) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(purpose.name().as_bytes());
        hash.update([0]);
        hash.update(index.to_le_bytes());
        Stream { rng: ChaCha8Rng::from_seed(hash.finalize().into()) }
    }
}

/// One reproducible sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }
    /// Uniform in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
    /// Uniform in `0..n` without modulo bias; 0 when `n` is 0 or 1 (nothing is drawn then).
    pub fn below(&mut self, n: usize) -> usize {
        if n <= 1 {
            return 0;
        }
        let n = n as u64;
        let zone = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.next_u64();
            if draw < zone {
                return (draw % n) as usize;
            }
        }
    }
    /// Standard normal (Box-Muller, one value a call, so the count of draws is fixed).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
    /// `n` values of N(0, `std`).
    pub fn normal_vec(&mut self, n: usize, std: f64) -> Vec<f32> {
        (0..n).map(|_| (self.normal() * std) as f32).collect()
    }
    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_differ_by_every_part() {
        let draw = |seed, purpose, index| SeedStream::new(seed).stream(purpose, index).next_u64();
        let base = draw(7, Purpose::Routing, 3);
        assert_eq!(base, draw(7, Purpose::Routing, 3));
        assert_ne!(base, draw(8, Purpose::Routing, 3));
        assert_ne!(base, draw(7, Purpose::Init, 3));
        assert_ne!(base, draw(7, Purpose::Routing, 4));
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = SeedStream::new(1).stream(Purpose::Routing, 0);
        let mut counts = [0u32; 4];
        for _ in 0..40_000 {
            counts[stream.below(4)] += 1;
        }
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi2 < 16.27, "chi-square with 3 degrees of freedom, p = 0.001: {counts:?}");
    }

    #[test]
    fn normal_has_mean_zero_and_unit_variance() {
        let mut stream = SeedStream::new(2).stream(Purpose::Init, 0);
        let draws: Vec<f64> = (0..50_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 5e4;
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 5e4;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "mean {mean} variance {var}");
    }
}
