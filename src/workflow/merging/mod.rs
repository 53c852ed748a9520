//! Merging the experts of a model, in any of the ways of a [`MergePlan`], and measuring the result.
//!
//! `merge` is the one place where a plan becomes a model: for scores, exports and the study of rounding. Means of factors
//! are made in the model itself; what treats each value by itself is in `changes` and `fisher`, what starts from all experts
//! side by side in `wide`.

mod changes;
mod fisher;
mod fit;
mod soup;
mod wide;

use crate::artifact::RunDir;
use crate::config::{RunConfig, choice_name};
use crate::data::Dataset;
use crate::data::text::TextDataset;
use crate::error::{Error, Result};
use crate::eval::compare::{self, EvalOptions};
use crate::eval::{EvalReport, Measured};
use crate::mixture::{MergeWeights, SIDES};
use crate::model::loras::Module;
use crate::model::{CausalLm, Classifier, Network};
use crate::protocol::{MergePlan, MergeReport};
use crate::train::ModelAndData;
use crate::train::trainable::Trainable;
use crate::workflow::progress::Progress;
use std::time::Instant;

/// A model that is measured and trained on rows of one kind.
pub(crate) trait Learner: Measured + Trainable {
    /// These rows as a micro-batch.
    fn batch(data: &Self::Rows, rows: &[usize]) -> Self::Batch;
}

impl Learner for Classifier {
    fn batch(data: &Dataset, rows: &[usize]) -> Self::Batch {
        data.batch(rows)
    }
}

impl Learner for CausalLm {
    fn batch(data: &TextDataset, rows: &[usize]) -> Self::Batch {
        data.batch(rows)
    }
}

/// A mixture with what merging it may need.
pub(crate) struct Mixture<'a, M: Learner> {
    pub model: &'a M,
    /// Training rows.
    pub train: &'a M::Rows,
    /// Evaluation rows.
    pub dev: &'a M::Rows,
    pub config: &'a RunConfig,
    /// The run, which knows how the experts started; absent: ways that need the start are refused.
    pub run: Option<&'a RunDir>,
    pub opts: &'a EvalOptions<'a>,
}

// Derived, it would ask for a model that can be copied.
impl<M: Learner> Clone for Mixture<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Learner> Copy for Mixture<'_, M> {}

/// A merged model.
pub(crate) struct Merged<M> {
    pub model: M,
    /// The weights, where it is a mean of factors.
    pub weights: Option<MergeWeights>,
    /// The bottleneck of its adapters, or the rank of its LoRA.
    pub width: usize,
}

/// Merges as the plan says. The options' `go_on` gets the share done, 0 to 1; false cancels.
pub(crate) fn merge<M: Learner>(mixture: Mixture<'_, M>, plan: &MergePlan) -> Result<Merged<M>> {
    let model = mixture.model;
    let Some(settings) = model.mixture() else {
        return Err(Error::config("this run has no experts to merge; only method adamix has"));
    };
    plan.check(settings)?;
    let weights = match plan {
        MergePlan::Soup => Some(soup::weights(mixture)?),
        plan if plan.is_weights() => Some(weights(model, plan)?),
        _ => None,
    };
    let merged = match (plan, &weights) {
        (_, Some(weights)) => model.merged(weights)?,
        (MergePlan::Fisher { rows }, _) => model.with_modules(&fisher::modules(mixture, *rows)?)?,
        (MergePlan::Ties { .. } | MergePlan::Dare { .. }, _) => {
            model.with_modules(&changes::modules(mixture, plan)?)?
        }
        (_, None) => model.with_modules(&wide::modules(mixture, plan)?)?,
    };
    Ok(Merged { model: merged, weights, width: plan.width(settings) })
}

/// Merged against unmerged on the evaluation rows. `go_on` is given the share done, 0 to 1; false cancels.
pub fn compare_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    random_routes: usize,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<EvalReport> {
    subject.compare(&compare::EvalOptions { random_routes, ..subject.options(config, go_on) })
}

/// Measures the model merged in this way on the evaluation rows. `run`: of which run this is a model.
pub fn merge_subject(
    subject: &ModelAndData,
    (config, run): (&RunConfig, Option<&RunDir>),
    plan: &MergePlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<MergeReport> {
    let opts = &subject.options(config, go_on);
    match subject {
        ModelAndData::Classifier(model, data) => {
            measured(Mixture { model, train: &data.train, dev: &data.dev, config, run, opts }, plan)
        }
        ModelAndData::Lm(model, data) => {
            measured(Mixture { model, train: &data.train, dev: &data.dev, config, run, opts }, plan)
        }
    }
}

fn measured<M: Learner>(mixture: Mixture<'_, M>, plan: &MergePlan) -> Result<MergeReport> {
    let (clock, opts) = (Instant::now(), mixture.opts);
    let merging = if plan.is_weights() { 0.0 } else { 1.0 };
    let progress = Progress::new(merging + 1.0, opts.go_on);
    let within = progress.within(merging);
    let merged = merge(Mixture { opts: &EvalOptions { go_on: &within, ..*opts }, ..mixture }, plan)?;
    progress.step(merging)?;
    let within = progress.within(1.0);
    let opts = &EvalOptions { go_on: &within, ..*opts };
    let way = (&merged.model, merged.weights.as_ref());
    let (scores, paired) = compare::beside_own(mixture.model, way, mixture.dev, opts)?;
    let found = merged.weights.as_ref().filter(|_| !plan.is_weights());
    Ok(MergeReport {
        plan: plan.clone(),
        metric: choice_name(opts.metric),
        scores,
        rows: M::rows(mixture.dev),
        width: merged.width,
        parameters: parameters(&merged.model)?,
        found: found.map(|weights| weights.site(0).map(<[f64]>::to_vec)).transpose()?,
        seconds: clock.elapsed().as_secs_f64(),
        paired,
    })
}

/// Values of all merged modules, without the head.
pub(crate) fn parameters(merged: &dyn Network) -> Result<usize> {
    let mut count = 0;
    for adapter in merged.adapters() {
        for side in SIDES {
            let (weight, bias) = adapter.side(side)?;
            count += weight.elem_count() + bias.elem_count();
        }
    }
    for (_, placed) in merged.loras() {
        if let Module::Merged(lora) = &placed.module {
            for side in SIDES {
                count += lora.side(side)?.elem_count();
            }
        }
    }
    Ok(count)
}

/// The weights of a plan that is a mean of factors, in the form the merge takes.
pub fn weights(model: &dyn Network, plan: &MergePlan) -> Result<MergeWeights> {
    let wide = |list: &[f32]| list.iter().map(|&weight| f64::from(weight)).collect::<Vec<f64>>();
    let weights = match plan {
        MergePlan::Uniform => MergeWeights::uniform(model.mixture().map_or(1, |mixture| mixture.num_experts)),
        MergePlan::Global(list) => MergeWeights::global(&wide(list))?,
        MergePlan::PerSite(lists) => MergeWeights::per_site(&lists.iter().map(|list| wide(list)).collect::<Vec<_>>())?,
        other => return Err(Error::config(format!("a merge by {other} has no weights of its own"))),
    };
    if let Some(mixture) = model.mixture() {
        weights.check(model.sites().len(), mixture.num_experts)?;
    }
    Ok(weights)
}

/// Evenly spread over all rows.
fn spread(all: usize, most: usize) -> Vec<usize> {
    let n = all.min(most);
    (0..n).map(|i| i * all / n.max(1)).collect()
}
