//! Lengths of the sequences of a benchmark.

use crate::config::{DataConfig, Task};
use crate::data::{self, TextTokenizer};
use crate::error::{Error, Result};
use std::path::PathBuf;

/// Where the lengths come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Every sequence has so many tokens.
    Dense(usize),
    /// Lengths distributed as those of SST-2's training sentences; built in.
    Real,
    /// The training sentences of a directory with SST-2 in GLUE layout, as the lab's tokenizer cuts them.
    Sentences(PathBuf),
}

/// How many sentences of SST-2's training set have how many tokens.
const SST2: &str = include_str!("sst2_lengths.csv");

/// Sequences whose lengths are drawn before they repeat.
const DRAWN: u32 = 8192;

impl Lengths {
    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Dense(length) => format!("dense, {length} tokens each"),
            Self::Real => "real lengths (SST-2)".to_owned(),
            Self::Sentences(dir) => format!("real lengths ({})", dir.display()),
        }
    }

    /// Lengths of the sequences to come, repeated when they run out. Always the same ones.
    pub fn list(&self) -> Result<Vec<usize>> {
        match self {
            Self::Dense(length) => Ok(vec![*length]),
            Self::Real => {
                let histogram = histogram(SST2)?;
                Ok((0..DRAWN).map(|i| drawn(&histogram, i)).collect())
            }
            Self::Sentences(directory) => {
                let config = DataConfig {
                    task: Task::Sst2,
                    path: directory.display().to_string(),
                    max_length: 128,
                    max_train_rows: 4096,
                    ..DataConfig::default()
                };
                let task = data::load(&config, &TextTokenizer::lab()?)?;
                Ok(task.train.encoded.iter().map(|text| text.ids.len()).collect())
            }
        }
    }
}

fn histogram(text: &str) -> Result<Vec<(usize, u64)>> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let row = |line: &str| {
        let (tokens, sentences) = line.split_once(',')?;
        Some((tokens.parse().ok()?, sentences.parse().ok()?))
    };
    let wrong = |line: &str| Error::internal(format!("the table of sentence lengths has a line {line:?}"));
    rows.map(|line| row(line).ok_or_else(|| wrong(line))).collect()
}

/// The length of sequence number `index`. `tests/golden/bench_pytorch.py` draws the same ones.
fn drawn(histogram: &[(usize, u64)], index: u32) -> usize {
    let total: u64 = histogram.iter().map(|(_, sentences)| sentences).sum();
    let mut place = (u64::from(scattered(index)) * total) >> 32;
    for &(tokens, sentences) in histogram {
        if place < sentences {
            return tokens;
        }
        place -= sentences;
    }
    histogram.last().map_or(2, |&(tokens, _)| tokens)
}

/// A hash of the index.
fn scattered(index: u32) -> u32 {
    let mut x = index.wrapping_add(1).wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_lengths_follow_the_table() {
        let table = histogram(SST2).unwrap();
        assert_eq!(table.iter().map(|(_, n)| n).sum::<u64>(), 67_349);
        let mean = |pairs: &[(usize, u64)]| {
            let n: u64 = pairs.iter().map(|(_, n)| n).sum();
            pairs.iter().map(|&(t, n)| t as f64 * n as f64).sum::<f64>() / n as f64
        };
        let list = Lengths::Real.list().unwrap();
        let drawn: Vec<(usize, u64)> = list.iter().map(|&tokens| (tokens, 1)).collect();
        assert!((mean(&table) - 13.32).abs() < 0.01 && (mean(&drawn) - mean(&table)).abs() < 0.2, "{}", mean(&drawn));
        // The whole distribution, not only its mean: Kolmogorov's distance.
        let below = |pairs: &[(usize, u64)], most: usize| {
            let n: u64 = pairs.iter().map(|(_, n)| n).sum();
            pairs.iter().filter(|(t, _)| *t <= most).map(|(_, n)| n).sum::<u64>() as f64 / n as f64
        };
        let distance = (3..67).map(|t| (below(&table, t) - below(&drawn, t)).abs()).fold(0.0, f64::max);
        assert!(distance < 0.02, "{distance}");
        assert!(list.iter().all(|tokens| (3..=66).contains(tokens)));
        // No order: neighbours are as unlike as strangers.
        let centred: Vec<f64> = list.iter().map(|&t| t as f64 - mean(&drawn)).collect();
        let variance: f64 = centred.iter().map(|x| x * x).sum();
        let neighbours: f64 = centred.windows(2).map(|w| w[0] * w[1]).sum();
        assert!((neighbours / variance).abs() < 0.05, "{}", neighbours / variance);
        // The other side of the comparison counts on these.
        assert_eq!(&list[..8], &FIRST);
    }

    const FIRST: [usize; 8] = [3, 3, 4, 9, 3, 8, 12, 8];

    #[test]
    fn dense_is_dense() {
        assert_eq!(Lengths::Dense(64).list().unwrap(), [64]);
    }
}
