//! Dragged weights: the score of a pinned probe set for one merge after another.
//!
//! Kept are, of the probe set's batches, the inputs of all layers: the embeddings once for all, and what each layer gave under
//! the weights that ran last; of an encoder's layer with an adapter also what the adapter reads, so that the frozen part below the
//! lowest adapter runs once. New weights run from the lowest module that changes (with LoRA: from its layer); below it nothing is
//! computed. The answer is that of a fresh evaluation on the same rows, bit for bit.

use super::merging;
use crate::config::{RunConfig, choice_name};
use crate::error::{Error, Result};
use crate::eval::compare::EvalOptions;
use crate::eval::{KeptBatch, Resumed, Scores};
use crate::mixture::MergeWeights;
use crate::model::decoder::layer::Stream;
use crate::model::encoder::KeptLayer;
use crate::model::{Network, layer_of};
use crate::protocol::{ReweighPlan, ReweighReport};
use crate::train::ModelAndData;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of kept inputs at most; a larger probe set has fewer rows.
const MOST_BYTES: usize = 256 << 20;

/// What is kept between the answers: of one model and one probe set.
#[derive(Default)]
pub struct ReweighCache {
    of: Option<(PathBuf, u64, usize)>,
    kept: Kept,
}

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    Classifier(Probe<KeptLayer>),
    Lm(Probe<Stream>),
}

/// A probe set.
struct Probe<K> {
    batches: Vec<Batch<K>>,
    /// The uniform mean on it; absent until it was measured to the end.
    uniform: Option<Scores>,
    bytes: u64,
}

/// A batch, and the weights of each module that its kept inputs come from.
struct Batch<K> {
    kept: KeptBatch<K>,
    weights: Vec<Vec<f64>>,
}

/// Which weights a model holds: a run and its step.
#[derive(Clone, Copy)]
pub struct ReweighedRun<'a> {
    /// The run directory.
    pub dir: &'a Path,
    /// Steps done.
    pub step: u64,
    /// The settings.
    pub config: &'a RunConfig,
}

impl ReweighCache {
    /// The scores of the probe set under these weights. `go_on` gets the share done, 0 to 1; false cancels, and what was kept stays
    /// right.
    pub fn score(
        &mut self,
        subject: &ModelAndData,
        run: ReweighedRun<'_>,
        plan: &ReweighPlan,
        go_on: &dyn Fn(f64) -> bool,
    ) -> Result<ReweighReport> {
        if !plan.merge.is_weights() {
            return Err(Error::config(format!(
                "only weights are dragged; merge by {} is scored as a whole",
                plan.merge
            )));
        }
        let of = Some((run.dir.to_owned(), run.step, plan.probe_rows));
        if self.of != of {
            *self = Self { of, kept: Kept::Nothing };
        }
        let opts = &subject.options(run.config, go_on);
        match subject {
            ModelAndData::Classifier(model, task) => {
                if !matches!(self.kept, Kept::Classifier(_)) {
                    self.kept = Kept::Classifier(probe(model, &task.dev, plan, opts.batch_size)?);
                }
                let Kept::Classifier(probe) = &mut self.kept else { return Err(Error::internal("no probe set")) };
                report(model, &task.dev, probe, plan, opts)
            }
            ModelAndData::Lm(model, data) => {
                if !matches!(self.kept, Kept::Lm(_)) {
                    self.kept = Kept::Lm(probe(model, &data.dev, plan, opts.batch_size)?);
                }
                let Kept::Lm(probe) = &mut self.kept else { return Err(Error::internal("no probe set")) };
                report(model, &data.dev, probe, plan, opts)
            }
        }
    }
}

/// A probe set of which nothing has run yet.
fn probe<M: Resumed>(model: &M, data: &M::Rows, plan: &ReweighPlan, batch_size: usize) -> Result<Probe<M::Kept>> {
    if model.mixture().is_none() {
        return Err(Error::config("this run has no experts to weigh; only method adamix has"));
    }
    let all = M::rows(data);
    let most = if plan.probe_rows == 0 { all } else { plan.probe_rows.min(all) };
    let layers = model.layer_modules().len();
    // A layer's input has the width of a hidden state, of a decoder twice, with what an adapter reads three times; in 32 bits.
    let each = |row: usize| M::tokens(data, row) * layers * 3 * 4 * width(model);
    let fits = |n: usize| spread(all, n).into_iter().map(each).sum::<usize>() <= MOST_BYTES;
    let mut rows = most;
    while rows > 1 && !fits(rows) {
        rows /= 2;
    }
    let rows = spread(all, rows);
    let bytes = rows.iter().map(|&row| each(row)).sum::<usize>() as u64;
    let batches = M::batches(data, &rows, batch_size);
    let batches = batches.into_iter().map(|kept| Batch { kept, weights: Vec::new() }).collect();
    Ok(Probe { batches, uniform: None, bytes })
}

fn report<M: Resumed>(
    model: &M,
    data: &M::Rows,
    probe: &mut Probe<M::Kept>,
    plan: &ReweighPlan,
    opts: &EvalOptions<'_>,
) -> Result<ReweighReport> {
    let weights = merging::weights(model, &plan.merge)?;
    let uniform = match &probe.uniform {
        Some(uniform) => uniform.clone(),
        // Where this is ended by newer weights, the batches that have run are kept.
        None => {
            let experts = model.mixture().map_or(1, |mixture| mixture.num_experts);
            let found = measured(model, data, probe, &MergeWeights::uniform(experts), opts)?.0;
            probe.uniform.insert(found).clone()
        }
    };
    let clock = Instant::now();
    let (scores, layer_passes) = measured(model, data, probe, &weights, opts)?;
    Ok(ReweighReport {
        merge: plan.merge.clone(),
        metric: choice_name(opts.metric),
        scores,
        uniform,
        rows: probe.batches.iter().map(|batch| batch.kept.rows.len()).sum(),
        layer_passes,
        all_layer_passes: probe.batches.len() * model.layer_modules().len(),
        kept_bytes: probe.bytes,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// Scores under these weights, and how many layers ran.
fn measured<M: Resumed>(
    model: &M,
    data: &M::Rows,
    probe: &mut Probe<M::Kept>,
    weights: &MergeWeights,
    opts: &EvalOptions<'_>,
) -> Result<(Scores, usize)> {
    let names = model.site_names();
    let lists: Vec<Vec<f64>> =
        (0..names.len()).map(|site| weights.site(site).map(<[f64]>::to_vec)).collect::<Result<_>>()?;
    for batch in &mut probe.batches {
        batch.kept.from = lowest_change(&names, &batch.weights, &lists);
    }
    let merged = model.merged(weights)?;
    let mut kept: Vec<KeptBatch<M::Kept>> = probe.batches.iter_mut().map(|batch| taken(&mut batch.kept)).collect();
    let found = merged.measure_from(data, &mut kept, opts);
    for (batch, kept) in probe.batches.iter_mut().zip(kept) {
        if kept.from == KeptBatch::<M::Kept>::CURRENT {
            batch.weights.clone_from(&lists);
        }
        batch.kept = kept;
    }
    found
}

/// Takes a batch out of its place for a while.
fn taken<K>(batch: &mut KeptBatch<K>) -> KeptBatch<K> {
    KeptBatch { rows: batch.rows.clone(), from: batch.from, kept: std::mem::take(&mut batch.kept) }
}

/// The lowest layer with a module whose weights differ.
fn lowest_change(names: &[String], before: &[Vec<f64>], now: &[Vec<f64>]) -> usize {
    if before.len() != now.len() {
        return 0;
    }
    let changed = names.iter().zip(before.iter().zip(now)).filter(|(_, (before, now))| before != now);
    changed.filter_map(|(name, _)| layer_of(name)).min().unwrap_or(usize::MAX)
}

/// Width of a hidden state, from what reads it.
fn width(model: &dyn Network) -> usize {
    use crate::mixture::Side;
    let widths = model.sites().into_iter().filter_map(|site| site.bank(Side::Down).weight().dims().last().copied());
    widths.min().unwrap_or(1)
}

/// Evenly spread over all rows.
fn spread(all: usize, most: usize) -> Vec<usize> {
    let n = all.min(most);
    (0..n).map(|i| i * all / n.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_layer_that_changes_is_found() {
        let names = ["layers.0.q", "layers.0.v", "layers.1.q", "layers.2.v"].map(str::to_owned);
        let before = vec![vec![0.5, 0.5]; 4];
        let with = |changed: &[usize]| {
            let mut now = before.clone();
            changed.iter().for_each(|&site| now[site] = vec![1.0, 0.0]);
            lowest_change(&names, &before, &now)
        };
        assert_eq!((with(&[3]), with(&[3, 2]), with(&[1, 3])), (2, 1, 0));
        assert_eq!(with(&[]), usize::MAX);
        assert_eq!(lowest_change(&names, &[], &before), 0, "nothing is kept yet");
    }
}
