//! What each expert is worth, from merges of subsets of the experts on some evaluation rows, and which two are nearly one.

use super::causes::{spread, without_mixture};
use crate::analysis::causes::least_squares::Estimate;
use crate::analysis::causes::worth::{ExpertEffects, MOST_EXPERTS, Twins};
use crate::analysis::expert_stats::HostBank;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::eval::Measured;
use crate::eval::compare::EvalOptions;
use crate::mixture::{MergeWeights, SIDES};
use crate::protocol::studies::{BankOfPairs, ExpertPair, WorthPlan, WorthReport};
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use crate::workflow::snapshot::Banks;
use std::collections::BTreeMap;
use std::time::Instant;

/// Most experts whose pairs are measured.
const MANY: usize = 32;

/// What each expert adds to the merged model. `subject`: the model with the weights of that step. `go_on` gets the share done; false
/// cancels.
pub fn worth_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    step: u64,
    plan: &WorthPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<WorthReport> {
    let options = &subject.options(config, go_on);
    let banks = Banks::of(subject.model())?;
    let Some(mixture) = subject.model().mixture().filter(|_| !banks.is_empty()) else { return Err(without_mixture()) };
    if mixture.num_experts < 2 {
        return Err(Error::config("this run has one expert, so there is nothing to leave out; train two or more"));
    }
    if mixture.num_experts > MANY {
        return Err(Error::config(format!(
            "the worth of {} experts would take too long; it is measured of up to {MANY}",
            mixture.num_experts
        )));
    }
    if plan.probe_rows < 2 {
        return Err(Error::config("the worth of an expert needs two evaluation rows or more"));
    }
    let experts = mixture.num_experts;
    let mut report = match subject {
        ModelAndData::Classifier(model, task) => measured(model, &task.dev, (experts, plan), &banks, options)?,
        ModelAndData::Lm(model, data) => measured(model, &data.dev, (experts, plan), &banks, options)?,
    };
    report.step = step;
    Ok(report)
}

fn measured<M: Measured>(
    model: &M,
    data: &M::Rows,
    (experts, plan): (usize, &WorthPlan),
    banks: &Banks,
    options: &EvalOptions<'_>,
) -> Result<WorthReport> {
    let clock = Instant::now();
    let rows = spread(M::rows(data), plan.probe_rows);
    let forwards = WorthPlan::forwards(experts);
    let progress = Progress::new(forwards as f64, options.go_on);
    let losses = |model: &M| -> Result<Vec<f64>> {
        let within = progress.within(1.0);
        let losses = model.row_losses(data, &rows, None, &EvalOptions { go_on: &within, ..*options })?;
        progress.step(1.0)?;
        Ok(losses)
    };
    let merged = |weights: &[f64]| -> Result<Vec<f64>> { losses(&model.merged(&MergeWeights::global(weights)?)?) };
    let full: u64 = (1 << experts) - 1;
    let members = |subset: u64| -> Vec<f64> { (0..experts).map(|e| f64::from((subset >> e & 1) as u8)).collect() };
    let subsets: Vec<u64> = match experts <= MOST_EXPERTS {
        true => (1..=full).collect(),
        false => std::iter::once(full).chain((0..experts).map(|e| full ^ 1 << e)).collect(),
    };
    let layers = model.layer_modules().len();
    let everything = model.merged(&MergeWeights::uniform(experts))?;
    let none = (0..layers).fold(everything, |model, layer| model.without_layer(layer));
    let mut found: BTreeMap<u64, Vec<f64>> = BTreeMap::from([(0, losses(&none)?)]);
    for subset in subsets {
        found.insert(subset, merged(&members(subset))?);
    }
    let of = |subset: u64| {
        found.get(&subset).cloned().ok_or_else(|| Error::internal("a subset of the experts was not measured"))
    };
    let (all, nobody) = (of(full)?, of(0)?);
    let without: Vec<Vec<f64>> = (0..experts).map(|e| of(full ^ 1 << e)).collect::<Result<_>>()?;
    let shapley = match experts <= MOST_EXPERTS {
        true => {
            let every: Vec<Vec<f64>> = (0..=full).map(of).collect::<Result<_>>()?;
            Some(ExpertEffects::shapley(&every, experts, options.seed)?)
        }
        false => None,
    };
    let (named, cosines) = cosines(banks);
    let twins = Twins::of(&cosines, experts, options.seed);
    let costs = |other: &[f64]| -> Result<Estimate> {
        let differences: Vec<f64> = other.iter().zip(&all).map(|(a, b)| a - b).collect();
        Estimate::mean(&differences).ok_or_else(|| Error::data("the worth of an expert needs two rows or more"))
    };
    let mut pairs = Vec::new();
    for (&[first, second], &cosine) in twins.pairs.iter().zip(&twins.cosines) {
        let half = |expert: usize| if expert == first || expert == second { 0.5 } else { 1.0 };
        let as_one = merged(&(0..experts).map(half).collect::<Vec<_>>())?;
        pairs.push(ExpertPair {
            experts: [first, second],
            cosine,
            by_bank: cosines.iter().map(|bank| bank[first * experts + second]).collect(),
            drop_first: costs(&without[first])?,
            drop_second: costs(&without[second])?,
            as_one: costs(&as_one)?,
        });
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    Ok(WorthReport {
        step: 0,
        experts,
        loss_all: mean(&all),
        loss_none: mean(&nobody),
        shapley,
        leave_one_out: ExpertEffects::leave_one_out(&without, &all, options.seed)?,
        pairs,
        banks: named,
        twin_limit: twins.null_limit,
        twin_p: twins.p,
        probe_rows: rows.len(),
        forwards,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// The banks of more than one expert, and the cosines of their weights. `[banks][experts * experts]`
fn cosines(banks: &Banks) -> (Vec<BankOfPairs>, Vec<Vec<f64>>) {
    let sides = banks.sites.iter().flat_map(|site| SIDES.map(|side| (site, side))).zip(&banks.sides);
    let drawn = sides.filter(|(_, bank)| bank.experts > 1);
    let one = |((site, side), bank): ((&String, _), &HostBank)| {
        let chance = 1.0 / ((bank.rows * bank.cols).max(1) as f64).sqrt();
        (BankOfPairs { module: site.clone(), side, chance }, bank.weight_cosines())
    };
    drawn.map(one).unzip()
}
