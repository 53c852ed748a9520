//! What a merged module reads, kept: the inputs on which another module is fitted to it.

use crate::error::Result;
use crate::tensor::{Tensor, to_f32};
use parking_lot::Mutex;
use std::sync::Arc;

/// Keeps the first rows that a module reads. Clones share what is kept.
#[derive(Clone, Debug)]
pub struct Tap {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Rows that still fit.
    left: usize,
    /// Row by row.
    values: Vec<f32>,
}

impl Tap {
    /// For at most this many rows.
    pub fn new(rows: usize) -> Self {
        Self { kept: Arc::new(Mutex::new(Kept { left: rows, values: Vec::new() })) }
    }

    /// Keeps what still fits of these rows. x `[n, in]`
    pub(super) fn keep(&self, x: &Tensor) -> Result<()> {
        let mut kept = self.kept.lock();
        let (n, _) = x.dims2()?;
        let rows = n.min(kept.left);
        if rows > 0 {
            let values = to_f32(&x.narrow(0, 0, rows)?.contiguous()?)?;
            kept.values.extend(values);
            kept.left -= rows;
        }
        Ok(())
    }

    /// What was kept, and nothing is left behind. `[rows * in]`, row by row
    pub fn take(&self) -> Vec<f32> {
        let mut kept = self.kept.lock();
        std::mem::take(&mut kept.values)
    }
}
