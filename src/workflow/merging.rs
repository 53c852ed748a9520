//! Merging the experts of a model and measuring the result.

use crate::config::{RunConfig, choice_name};
use crate::error::Result;
use crate::eval::{EvalReport, compare};
use crate::mixture::MergeWeights;
use crate::model::Network;
use crate::protocol::{MergePlan, MergeReport};
use crate::train::ModelAndData;
use std::time::Instant;

/// Merged against unmerged on the evaluation rows. `go_on` is given the share done, 0 to 1; false cancels.
pub fn compare_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    random_routes: usize,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<EvalReport> {
    subject.compare(&compare::EvalOptions { random_routes, ..subject.options(config, go_on) })
}

/// Measures the model merged with these weights on the evaluation rows, and beside it the run's own merge, unless it is that.
pub fn merge_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    plan: &MergePlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<MergeReport> {
    let clock = Instant::now();
    let weights = weights(subject.model(), plan)?;
    let (scores, paired) = subject.evaluate_beside_own(&weights, &subject.options(config, go_on))?;
    Ok(MergeReport {
        plan: plan.clone(),
        metric: choice_name(subject.metric()),
        scores,
        rows: subject.dev().rows,
        seconds: clock.elapsed().as_secs_f64(),
        paired,
    })
}

/// The plan's weights in the form the merge takes.
pub fn weights(model: &dyn Network, plan: &MergePlan) -> Result<MergeWeights> {
    let wide = |list: &[f32]| list.iter().map(|&weight| f64::from(weight)).collect::<Vec<f64>>();
    let weights = match plan {
        MergePlan::Uniform => MergeWeights::uniform(model.mixture().map_or(1, |mixture| mixture.num_experts)),
        MergePlan::Global(list) => MergeWeights::global(&wide(list))?,
        MergePlan::PerSite(lists) => MergeWeights::per_site(&lists.iter().map(|list| wide(list)).collect::<Vec<_>>())?,
    };
    if let Some(mixture) = model.mixture() {
        weights.check(model.sites().len(), mixture.num_experts)?;
    }
    Ok(weights)
}
