//! Evaluating one merged model after another on the same rows, from the lowest layer that differs: what the layers below
//! gave is kept, and of an encoder's layer with an adapter also what that reads.

use super::compare::{EvalOptions, Measured};
use super::language;
use super::rows::RowResults;
use crate::data::Dataset;
use crate::data::text::TextDataset;
use crate::error::Result;
use crate::model::decoder::layer::Stream;
use crate::model::encoder::KeptLayer;
use crate::model::{CausalLm, Classifier, Packed};
use crate::records::Scores;
use crate::tensor::to_f32;

/// A batch whose layers' inputs are kept.
#[derive(Debug)]
pub struct KeptBatch<K> {
    /// The rows.
    pub rows: Vec<usize>,
    /// The lowest layer whose modules are others than those that the kept inputs come from; [`KeptBatch::CURRENT`] where all are
    /// the same.
    pub from: usize,
    /// What the layers read, from the lowest on; empty before the first evaluation.
    pub kept: Vec<K>,
}

impl<K> KeptBatch<K> {
    /// No layer has other modules.
    pub const CURRENT: usize = usize::MAX;
}

/// A model whose layers can be run from one of them on.
pub trait Resumed: Measured {
    /// What one layer reads.
    type Kept;

    /// These rows as batches, nothing kept.
    fn batches(data: &Self::Rows, rows: &[usize], most: usize) -> Vec<KeptBatch<Self::Kept>>;

    /// Tokens of a row.
    fn tokens(data: &Self::Rows, row: usize) -> usize;

    /// Scores of this merged model on all batches, as [`Measured::measure`] gives them, and how many layers ran, batch by batch
    /// counted. What is kept of a batch is of this model once it has run, which its `from` then says, also where a later one
    /// fails or is cancelled.
    fn measure_from(
        &self,
        data: &Self::Rows,
        batches: &mut [KeptBatch<Self::Kept>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Scores, usize)>;
}

impl Resumed for Classifier {
    type Kept = KeptLayer;

    fn batches(_: &Dataset, rows: &[usize], most: usize) -> Vec<KeptBatch<KeptLayer>> {
        let batch = |rows: &[usize]| KeptBatch { rows: rows.to_vec(), from: 0, kept: Vec::new() };
        rows.chunks(most.max(1)).map(batch).collect()
    }

    fn tokens(data: &Dataset, row: usize) -> usize {
        data.encoded[row].ids.len()
    }

    fn measure_from(
        &self,
        data: &Dataset,
        batches: &mut [KeptBatch<KeptLayer>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Scores, usize)> {
        let (mut logits, mut rows, mut layers, all) = (Vec::new(), Vec::new(), 0, batches.len());
        for (i, batch) in batches.iter_mut().enumerate() {
            let (x, ran) = self.base.forward_from(&data.batch(&batch.rows), &mut batch.kept, batch.from)?;
            batch.from = KeptBatch::<KeptLayer>::CURRENT;
            logits.extend(to_f32(&self.head.forward(&x, None)?.0)?);
            rows.extend_from_slice(&batch.rows);
            layers += ran;
            opts.check((i + 1) as f64 / all as f64)?;
        }
        let labels = data.batch(&rows).labels;
        Ok((RowResults::of_logits(&logits, &labels, self.head.classes())?.scores(opts.metric)?, layers))
    }
}

impl Resumed for CausalLm {
    type Kept = Stream;

    fn batches(data: &TextDataset, rows: &[usize], most: usize) -> Vec<KeptBatch<Stream>> {
        let batch = |rows: Vec<usize>| KeptBatch { rows, from: 0, kept: Vec::new() };
        language::batches(data, rows.iter().copied(), most).into_iter().map(batch).collect()
    }

    fn tokens(data: &TextDataset, row: usize) -> usize {
        data.encoded[row].ids.len()
    }

    fn measure_from(
        &self,
        data: &TextDataset,
        batches: &mut [KeptBatch<Stream>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Scores, usize)> {
        let (mut found, mut layers, all) = (RowResults::of_texts([]), 0, batches.len());
        for (i, kept) in batches.iter_mut().enumerate() {
            let batch = data.batch(&kept.rows);
            let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
            let (before, targets) = packed.targets(&batch.learn);
            let mut scored = Vec::new();
            if !targets.is_empty() {
                let (hidden, ran) = self.base.forward_from(packed, &before, &mut kept.kept, kept.from)?;
                kept.from = KeptBatch::<Stream>::CURRENT;
                scored = self.token_scores(&[hidden], &targets)?.1;
                layers += ran;
            }
            let spans = language::spans(&batch.offsets, &before);
            found.append(RowResults::of_texts(spans.iter().map(|span| &scored[span.clone()])))?;
            opts.check((i + 1) as f64 / all as f64)?;
        }
        Ok((found.scores(opts.metric)?, layers))
    }
}
