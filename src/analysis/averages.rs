//! Answers of several models together, and how far answers are apart.

use crate::error::{Error, Result};
use crate::tensor::log_softmax;

/// The mean of several models' probabilities, or of their values with one output: the ensemble. Logits `[rows, outputs]` each -> `[rows, outputs]`
pub fn ensemble(logits: &[Vec<f32>], weights: &[f64], outputs: usize) -> Result<Vec<f64>> {
    let rows = logits.first().map_or(0, Vec::len);
    if outputs == 0 || logits.len() != weights.len() || logits.iter().any(|l| l.len() != rows || l.len() % outputs != 0)
    {
        return Err(Error::internal("logits of an ensemble do not fit together"));
    }
    let mut sum = vec![0.0; rows];
    for (logits, weight) in logits.iter().zip(weights) {
        let values = match outputs {
            1 => logits.iter().map(|&value| f64::from(value)).collect(),
            _ => probabilities(logits, outputs),
        };
        sum.iter_mut().zip(values).for_each(|(s, p)| *s += weight * p);
    }
    Ok(sum)
}

/// Softmax, row by row.
pub fn probabilities(logits: &[f32], outputs: usize) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    logits.chunks(outputs.max(1)).flat_map(log_softmax).map(f64::exp).collect()
}

/// How far a model's answers are from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Apart {
    /// Largest difference of a probability, or of a value.
    pub largest: f64,
    /// Mean over the rows of KL(reference ‖ model), in nats.
    pub kl: f64,
    /// Rows whose likeliest answer is another.
    pub changed: usize,
}

/// Compares a model's logits with a reference's probabilities; with one output, which is a value, with the reference's values. `[rows, outputs]` both
pub fn apart(reference: &[f64], logits: &[f32], outputs: usize) -> Apart {
    if outputs == 1 {
        let off = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs();
        return Apart { largest: reference.iter().zip(logits).map(off).fold(0.0, f64::max), kl: 0.0, changed: 0 };
    }
    let own = probabilities(logits, outputs);
    let outputs = outputs.max(1);
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let rows = (reference.len() / outputs).max(1);
    let largest = reference.iter().zip(&own).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let term = |(p, q): (&f64, &f64)| if *p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 };
    let kl = reference.iter().zip(&own).map(term).sum::<f64>() / rows as f64;
    let pairs = reference.chunks(outputs).zip(own.chunks(outputs));
    Apart { largest, kl, changed: pairs.filter(|(a, b)| best(a) != best(b)).count() }
}
