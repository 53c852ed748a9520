//! Statistics of a bank's experts, on host data: norms, cosines, distances, consensus, histograms.
//!
//! The cosine of two experts is that of their changes since the start of the run, so that experts that all began at the
//! same point (copied initialisation, a shared offset) are not called alike for that. Where no expert has changed yet it is
//! the cosine of the weights themselves; [`Cosines::of`] says which of the two it is.

use super::causes::consensus::consensus;
use super::heat_map::HeatMap;
use serde::Serialize;

/// Bins of every histogram of weights.
pub const HISTOGRAM_BINS: usize = 64;

/// All experts of one side of an adapted module, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBank {
    /// Experts M; 1 where the side is shared.
    pub experts: usize,
    /// Rows of each weight matrix (outputs).
    pub rows: usize,
    /// Columns of each weight matrix (inputs).
    pub cols: usize,
    /// W of all experts. `[experts, rows, cols]`
    pub weight: Vec<f32>,
    /// b of all experts; empty for LoRA, which has none. `[experts, rows]`
    pub bias: Vec<f32>,
}

/// What a cosine compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CosineOf {
    /// The weights now minus the weights at the start.
    #[default]
    Change,
    /// The weights themselves: nothing has changed yet.
    Weights,
}

impl CosineOf {
    /// In words, after "cosine of ".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Change => "the changes since the start",
            Self::Weights => "the weights, which have not changed since the start",
        }
    }
}

/// Cosines between every two experts of a bank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cosines {
    /// What is compared.
    pub of: CosineOf,
    /// 1 on the diagonal, 0 beside an expert that has no direction. `[experts * experts]`
    pub values: Vec<f64>,
}

/// One expert's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpertStats {
    /// Frobenius norm of the weight.
    pub norm: f32,
    /// Euclidean norm of the bias.
    pub bias_norm: f32,
    /// Mean of the weights.
    pub mean: f32,
    /// Standard deviation of the weights.
    pub std: f32,
    /// Largest absolute weight.
    pub max_abs: f32,
    /// Norm of (weight now - weight at the start).
    pub from_start: f32,
    /// Norm of (weight - mean of the experts' weights).
    pub from_mean: f32,
    /// Counts in [`HISTOGRAM_BINS`] equal bins over the range of [`SideSnapshot::range`].
    pub histogram: Vec<u32>,
}

/// All experts of one side of an adapted module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideSnapshot {
    /// Rows of each expert's weight matrix (outputs).
    pub rows: usize,
    /// Columns of each expert's weight matrix (inputs).
    pub cols: usize,
    /// Smallest and largest weight over all experts: the range of the histograms.
    pub range: [f32; 2],
    /// One entry for each expert (one where the side is shared).
    pub experts: Vec<ExpertStats>,
    /// What [`SideSnapshot::cosine`] compares.
    pub cosine_of: CosineOf,
    /// Cosine between experts i and j. `[experts * experts]`
    pub cosine: Vec<f32>,
    /// Norm of the difference of experts i and j. `[experts * experts]`
    pub distance: Vec<f32>,
    /// How far the experts have become one: 1/sqrt(M) to 1. Absent where all weights are zero or the side is shared.
    pub consensus: Option<f64>,
}

impl HostBank {
    /// The weight matrix of each expert. `[rows * cols]`
    pub fn weights(&self) -> impl Iterator<Item = &[f32]> {
        self.weight.chunks_exact((self.rows * self.cols).max(1))
    }

    /// Frobenius norm of each expert's weight. `[experts]`
    pub fn norms(&self) -> Vec<f64> {
        self.weights().map(|weight| norm(weight.iter().map(|&w| f64::from(w)))).collect()
    }

    /// Cosines between every two experts; `start` is the bank before the first step.
    pub fn cosines(&self, start: &Self) -> Cosines {
        let mut of = CosineOf::Change;
        let mut vectors: Vec<Vec<f64>> =
            self.weights().zip(start.weights()).map(|(now, start)| difference(now, start)).collect();
        if vectors.iter().flatten().all(|&change| change == 0.0) {
            of = CosineOf::Weights;
            vectors = self.weights().map(|weight| weight.iter().map(|&w| f64::from(w)).collect()).collect();
        }
        Cosines { of, values: cosines(&vectors) }
    }

    /// Cosines of the weights themselves, whatever they have been before. `[experts * experts]`
    pub fn weight_cosines(&self) -> Vec<f64> {
        cosines(&self.weights().map(|weight| weight.iter().map(|&w| f64::from(w)).collect()).collect::<Vec<_>>())
    }

    /// Norm of the difference between every two experts. `[experts * experts]`
    pub fn distances(&self) -> Vec<f32> {
        let parts: Vec<&[f32]> = self.weights().collect();
        symmetric(parts.len(), |i, j| norm(difference(parts[i], parts[j]).into_iter()))
            .into_iter()
            .map(|distance| distance as f32)
            .collect()
    }

    /// Norm of each expert's change since the start. `[experts]`
    pub fn distances_from(&self, start: &Self) -> Vec<f32> {
        let pairs = self.weights().zip(start.weights());
        pairs.map(|(now, start)| norm(difference(now, start).into_iter()) as f32).collect()
    }

    /// Everything about this side; `start` is the bank before the first step.
    pub fn snapshot(&self, start: &Self) -> SideSnapshot {
        let finite = self.weight.iter().copied().filter(|w| w.is_finite());
        let range = finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], w| [low.min(w), high.max(w)]);
        let range = if range[0] <= range[1] { range } else { [0.0, 0.0] };
        let biases = self.bias.chunks_exact(self.rows.max(1)).chain(std::iter::repeat(&[][..]));
        let distances = self.distances_from(start).into_iter().zip(self.distances_from_mean());
        let parts = self.weights().zip(biases).zip(distances);
        let experts = parts.map(|((weight, bias), distances)| stats(weight, bias, distances, range)).collect();
        let Cosines { of, values } = self.cosines(start);
        SideSnapshot {
            rows: self.rows,
            cols: self.cols,
            range,
            experts,
            cosine_of: of,
            cosine: values.into_iter().map(|cosine| cosine as f32).collect(),
            distance: self.distances(),
            consensus: self.consensus(),
        }
    }

    /// How far the experts have become one; absent where all weights are zero or the side is shared.
    pub fn consensus(&self) -> Option<f64> {
        if self.experts > 1 { consensus(&self.weights().collect::<Vec<_>>()) } else { None }
    }

    /// The mean of the experts' weights. `[rows * cols]`
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.rows * self.cols];
        for weight in self.weights() {
            mean.iter_mut().zip(weight).for_each(|(sum, &w)| *sum += f64::from(w));
        }
        mean.into_iter().map(|sum| (sum / self.experts.max(1) as f64) as f32).collect()
    }

    /// Norm of each expert's difference from the mean of all. `[experts]`
    pub fn distances_from_mean(&self) -> Vec<f32> {
        let mean = self.mean();
        self.weights().map(|weight| norm(difference(weight, &mean).into_iter()) as f32).collect()
    }

    /// The pictures of each expert; `start` is the bank before the first step.
    pub fn heat_maps(&self, start: &Self) -> Vec<HeatMap> {
        let mean = self.mean();
        let pairs = self.weights().zip(start.weights());
        pairs.map(|(weight, start)| HeatMap::of(weight, &mean, start, self.rows, self.cols)).collect()
    }
}

fn cosines(vectors: &[Vec<f64>]) -> Vec<f64> {
    let norms: Vec<f64> = vectors.iter().map(|vector| norm(vector.iter().copied())).collect();
    symmetric(vectors.len(), |i, j| {
        let dot: f64 = vectors[i].iter().zip(&vectors[j]).map(|(a, b)| a * b).sum();
        let both = norms[i] * norms[j];
        // An expert that was never drawn has no direction yet.
        if both > 0.0 { (dot / both).clamp(-1.0, 1.0) } else { f64::from(u8::from(i == j)) }
    })
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

/// Euclidean norm.
pub fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// A symmetric matrix, row by row; each pair is computed once.
fn symmetric(n: usize, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut all = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            all[i * n + j] = value(i, j);
            all[j * n + i] = all[i * n + j];
        }
    }
    all
}

fn stats(weight: &[f32], bias: &[f32], (from_start, from_mean): (f32, f32), [low, high]: [f32; 2]) -> ExpertStats {
    let n = weight.len().max(1) as f64;
    let mean = weight.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
    let variance = weight.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n;
    let mut histogram = vec![0; HISTOGRAM_BINS];
    let scale = if high > low { HISTOGRAM_BINS as f32 / (high - low) } else { 0.0 };
    for &w in weight.iter().filter(|w| w.is_finite()) {
        histogram[(((w - low) * scale) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    ExpertStats {
        norm: norm(weight.iter().map(|&w| f64::from(w))) as f32,
        bias_norm: norm(bias.iter().map(|&b| f64::from(b))) as f32,
        mean: mean as f32,
        std: variance.sqrt() as f32,
        max_abs: weight.iter().fold(0.0, |most, w| f32::max(most, w.abs())),
        from_start,
        from_mean,
        histogram,
    }
}
