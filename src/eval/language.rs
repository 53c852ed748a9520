//! Language models on texts.
//!
//! ```text
//! loss           = mean over learned tokens of -log p(token | tokens before it), in nats
//! perplexity     = exp(loss)
//! token_accuracy = share of the learned tokens that the model finds likeliest
//! ```
//! All routes of an ensemble go through a batch one after the other, and the mean of their probabilities is made over
//! the vocabulary in slices of tokens ([`vocab_scores`](crate::nn::kernels::vocab_scores)).

use super::compare::{Baseline, EvalOptions, Measured};
use super::rows::RowResults;
use crate::data::text::TextDataset;
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::model::{CausalLm, ForwardOptions, Packed};
use std::ops::Range;

/// Tokens of a batch, unless one sequence is longer.
const BATCH_TOKENS: usize = 4096;

/// These sequences one after the other, as many as fit into a batch.
pub(super) fn batches(data: &TextDataset, rows: impl IntoIterator<Item = usize>, most: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for row in rows {
        let length = data.encoded[row].ids.len();
        tokens += length;
        match batches.last_mut() {
            Some(batch) if batch.len() < most.max(1) && tokens <= BATCH_TOKENS => batch.push(row),
            _ => {
                batches.push(vec![row]);
                tokens = length;
            }
        }
    }
    batches
}

/// The targets of each sequence, which follow one another. `before`: the token that each is predicted at.
pub(super) fn spans(offsets: &[usize], before: &[u32]) -> Vec<Range<usize>> {
    let mut start = 0;
    let own = |span: &[usize]| {
        let end = start + before[start..].iter().take_while(|&&token| (token as usize) < span[1]).count();
        std::mem::replace(&mut start, end)..end
    };
    offsets.windows(2).map(own).collect()
}

/// Tokens of the largest batch that these texts are measured in, of at most `most` sequences.
pub fn largest_batch(data: &TextDataset, most: usize) -> usize {
    let tokens = |rows: &Vec<usize>| rows.iter().map(|&row| data.encoded[row].ids.len()).sum();
    batches(data, 0..data.len(), most).iter().map(tokens).max().unwrap_or(0)
}

impl Measured for CausalLm {
    type Rows = TextDataset;

    fn rows(data: &TextDataset) -> usize {
        data.len()
    }

    fn results(
        &self,
        data: &TextDataset,
        rows: &[usize],
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<RowResults>, RowResults)> {
        // Of each route, and last of the mean of all.
        let mut found = vec![RowResults::of_texts([]); routes.len() + 1];
        for chunk in batches(data, rows.iter().copied(), opts.batch_size) {
            let batch = data.batch(&chunk);
            let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
            let (before, targets) = packed.targets(&batch.learn);
            let done = found[0].len();
            let mut scored = vec![Vec::new(); routes.len() + 1];
            if !targets.is_empty() {
                let mut hidden = Vec::with_capacity(routes.len());
                for route in routes {
                    let options = ForwardOptions { route: *route, ..ForwardOptions::eval() };
                    hidden.push(self.forward(packed, Some(&before), options)?.0);
                    let share = hidden.len() as f64 / routes.len() as f64;
                    opts.check((done as f64 + share * chunk.len() as f64) / rows.len() as f64)?;
                }
                let (each, mean) = self.token_scores(&hidden, &targets)?;
                scored = each.into_iter().chain([mean]).collect();
            }
            let spans = spans(&batch.offsets, &before);
            for (found, scored) in found.iter_mut().zip(&scored) {
                found.append(RowResults::of_texts(spans.iter().map(|span| &scored[span.clone()])))?;
            }
            opts.check(found[0].len() as f64 / rows.len() as f64)?;
        }
        let mean = found.pop().ok_or_else(|| Error::internal("an ensemble of no routes was asked for"))?;
        Ok((found, mean))
    }

    fn baseline(&self, data: &TextDataset, opts: &EvalOptions<'_>) -> Result<Baseline> {
        let rows: Vec<usize> = (0..data.len()).collect();
        let (_, of_model) = self.bare().results(data, &rows, &[None], opts)?;
        Ok(Baseline { score: of_model.scores(opts.metric)?.primary, of_model: Some(of_model) })
    }
}
