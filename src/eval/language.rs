//! Language models on texts.
//!
//! ```text
//! loss           = mean over learned tokens of -log p(token | tokens before it), in nats
//! perplexity     = exp(loss)
//! token_accuracy = share of the learned tokens that the model finds likeliest
//! ```
//! All routes of an ensemble go through a batch one after the other, and the mean of their probabilities is made over
//! the vocabulary in slices of tokens ([`vocab_scores`](crate::nn::kernels::vocab_scores)).

use super::compare::{EvalOptions, Measured, RowScore, evaluate};
use crate::data::text::TextDataset;
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::Route;
use crate::model::{CausalLm, ForwardOptions, Packed};
use crate::nn::kernels::vocab_scores::TokenScores;
use crate::records::Scores;

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

/// Tokens of the largest batch that these texts are measured in, of at most `most` sequences.
pub fn largest_batch(data: &TextDataset, most: usize) -> usize {
    let tokens = |rows: &Vec<usize>| rows.iter().map(|&row| data.encoded[row].ids.len()).sum();
    batches(data, 0..data.len(), most).iter().map(tokens).max().unwrap_or(0)
}

pub(super) fn scores(sum: TokenScores, learned: usize) -> Result<Scores> {
    if learned == 0 {
        return Err(Error::data("no token of these texts is to be learned, so nothing can be measured"));
    }
    let loss = sum.nll / learned as f64;
    if !loss.is_finite() {
        let text = format!("the loss on the evaluation texts is {loss}; lower the learning rate");
        return Err(Error::new(ErrorKind::Numerics, text));
    }
    let (perplexity, token_accuracy) = (Some(loss.exp()), Some(sum.right as f64 / learned as f64));
    Ok(Scores { loss, perplexity, token_accuracy, primary: loss, ..Scores::default() })
}

impl Measured for CausalLm {
    type Rows = TextDataset;

    fn rows(data: &TextDataset) -> usize {
        data.len()
    }

    fn measure(
        &self,
        data: &TextDataset,
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<Scores>, Scores)> {
        let mut sums = vec![TokenScores::default(); routes.len()];
        let (mut ensemble, mut learned, mut done) = (TokenScores::default(), 0, 0);
        for rows in batches(data, 0..data.len(), opts.batch_size) {
            let batch = data.batch(&rows);
            let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
            let (before, targets) = packed.targets(&batch.learn);
            if !targets.is_empty() {
                let mut hidden = Vec::with_capacity(routes.len());
                for route in routes {
                    let options = ForwardOptions { route: *route, ..ForwardOptions::eval() };
                    hidden.push(self.forward(packed, Some(&before), options)?.0);
                    let share = hidden.len() as f64 / routes.len() as f64;
                    opts.check((done as f64 + share * rows.len() as f64) / data.len() as f64)?;
                }
                let (each, mean) = self.token_scores(&hidden, &targets)?;
                sums.iter_mut().zip(each).for_each(|(sum, one)| sum.add(one));
                ensemble.add(mean);
                learned += targets.len();
            }
            done += rows.len();
            opts.check(done as f64 / data.len() as f64)?;
        }
        let each = sums.into_iter().map(|sum| scores(sum, learned)).collect::<Result<_>>()?;
        Ok((each, scores(ensemble, learned)?))
    }

    fn row_scores(
        &self,
        data: &TextDataset,
        rows: &[usize],
        route: Option<&Route>,
        opts: &EvalOptions<'_>,
    ) -> Result<Vec<RowScore>> {
        let mut losses = Vec::with_capacity(rows.len());
        for chunk in batches(data, rows.iter().copied(), opts.batch_size) {
            let batch = data.batch(&chunk);
            let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
            let (before, targets) = packed.targets(&batch.learn);
            let options = ForwardOptions { route, ..ForwardOptions::eval() };
            let hidden = self.forward(packed, Some(&before), options)?.0;
            let mut start = 0;
            for span in batch.offsets.windows(2) {
                // The targets of a text follow one another.
                let end = start + before[start..].iter().take_while(|&&token| (token as usize) < span[1]).count();
                if start == end {
                    return Err(Error::data("a text without a learned token has no loss"));
                }
                let own = hidden.narrow(0, start, end - start)?.contiguous()?;
                let (_, sum) = self.token_scores(&[own], &targets[start..end])?;
                let scores = scores(sum, end - start)?;
                losses.push(RowScore { loss: scores.loss, right: scores.token_accuracy });
                start = end;
            }
            opts.check(losses.len() as f64 / rows.len() as f64)?;
        }
        Ok(losses)
    }

    fn baseline(&self, data: &TextDataset, opts: &EvalOptions<'_>) -> Result<(f64, Option<Box<Scores>>)> {
        let scores = evaluate(&self.bare(), data, None, opts)?;
        Ok((scores.primary, Some(Box::new(scores))))
    }
}
