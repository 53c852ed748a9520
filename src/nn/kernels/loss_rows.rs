//! What a loss gives: its numbers, row by row, which a GPU may still be computing, and its gradients.

use crate::error::Result;
use crate::tensor::{Tensor, to_f32};

/// Of each row: smoothed cross-entropy (mean of both passes if asked), consistency, plain -log p of pass A.
pub(super) const PARTS: usize = 3;

/// The rows of a loss. Nothing waits for a GPU that computes them until they are read.
#[derive(Clone, Debug)]
pub struct LossRows {
    /// `[rows, 3]`
    rows: Tensor,
    /// λ: what the consistency term counts.
    weight: f64,
}

/// A loss and its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct LossParts {
    /// task + λ consistency: what is minimised.
    pub total: f64,
    /// Cross-entropy in nats, smoothed, mean over the rows.
    pub task: f64,
    /// Mean over the rows, before λ; 0 with one pass.
    pub consistency: f64,
    /// -log p_A of each target, without smoothing. `[targets]`
    pub nll: Vec<f32>,
}

impl LossRows {
    /// Task loss, consistency before λ (`weight`), plain loss of pass A. rows `[n, 3]`
    pub fn new(rows: Tensor, weight: f64) -> Self {
        Self { rows, weight }
    }

    /// The numbers, which a GPU may still be computing; [`LossRows::means`] takes their values.
    pub fn values(&self) -> &Tensor {
        &self.rows
    }

    /// The means; waits for the device that computes them.
    pub fn read(&self) -> Result<LossParts> {
        Ok(self.means(&to_f32(&self.rows)?))
    }

    /// The means of the values of [`LossRows::values`].
    pub fn means(&self, rows: &[f32]) -> LossParts {
        let n = (rows.len() / PARTS).max(1) as f64;
        let mean = |part: usize| rows.chunks_exact(PARTS).map(|row| f64::from(row[part])).sum::<f64>() / n;
        let (task, consistency) = (mean(0), mean(1));
        let nll = rows.chunks_exact(PARTS).map(|row| row[2]).collect();
        LossParts { total: task + self.weight * consistency, task, consistency, nll }
    }
}

/// A loss with its gradients, all of which a GPU may still be computing.
#[derive(Clone, Debug)]
pub struct VocabLoss {
    /// The loss and its parts.
    pub rows: LossRows,
    /// d total / d hidden times [`VocabLoss::scale`], where it was asked for (`[passes * targets, d]`); of logits that
    /// were there whole, on them.
    pub grad: Option<Tensor>,
    /// d total / d head, times the same, where it was asked for. `[vocab, d]`
    pub head: Option<Tensor>,
    /// What both gradients are to be divided by: 1 but for f16, which needs larger ones.
    pub scale: f64,
}
