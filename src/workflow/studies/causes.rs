//! What the draw causes in a run: from its files, and from the model on some evaluation rows.
//!
//! The files give the disagreement of the two passes against the layers in which they drew differently (all steps are
//! recorded), and the consensus of the experts at a checkpoint. The model gives the pin effects: each layer on one expert, all
//! others merged. That takes `1 + layers (M + 1)` passes over the probe rows.

use crate::analysis::causes::consensus::of_strangers;
use crate::analysis::causes::disagreement::{Disagreement, PassPair, differing};
use crate::analysis::causes::least_squares::Estimate;
use crate::analysis::causes::pins::{PinEffects, PinnedLosses};
use crate::analysis::expert_stats::HostBank;
use crate::artifact::recorder::{Line, RouteFile, read_lines};
use crate::artifact::{RunDir, checkpoint};
use crate::config::{MixtureConfig, RunConfig};
use crate::error::{Error, Result};
use crate::eval::Measured;
use crate::eval::compare::EvalOptions;
use crate::mixture::{MergeWeights, SIDES};
use crate::model::layer_of;
use crate::protocol::studies::{BankConsensus, CausesPlan, CausesReport, LayerPins};
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use crate::workflow::snapshot::Banks;
use std::collections::BTreeMap;
use std::time::Instant;

/// What the files of a run say alone, up to a checkpoint.
pub fn of_files(dir: &RunDir, step: u64, plan: &CausesPlan) -> Result<CausesReport> {
    recorded(dir, (&Banks::of_tensors(&checkpoint::read(dir, step)?.tensors)?, step), plan)
}

/// What the record up to a step says, and the experts at that step.
fn recorded(dir: &RunDir, (banks, step): (&Banks, u64), plan: &CausesPlan) -> Result<CausesReport> {
    let clock = Instant::now();
    if banks.is_empty() {
        return Err(without_mixture());
    }
    let layers = layers_of(&banks.sites)?;
    let mut steps = passes(dir, &layers)?;
    let last = steps.last_key_value().map_or(step, |(&last, _)| last);
    let after = plan.after.unwrap_or(last / 4);
    let found = Disagreement::of(&steps.split_off(&(after + 1)).into_values().collect::<Vec<_>>());
    let value = |estimate: Estimate| estimate.value;
    let consensus_of_banks = consensus_of(banks);
    Ok(CausesReport {
        step,
        after,
        until: last,
        steps: found.steps,
        kl_slope: found.slope.map(value),
        kl_slope_z: found.slope.map(Estimate::z),
        kl_intercept: found.intercept.map(value),
        kl_intercept_z: found.intercept.map(Estimate::z),
        kl_slopes: found.layers.iter().map(|slope| slope.map(value)).collect(),
        kl_slopes_z: found.layers.iter().map(|slope| slope.map(Estimate::z)).collect(),
        kl_at: found.at,
        consensus: by_layer(&consensus_of_banks, &banks.sites, &layers),
        consensus_of_banks,
        seconds: clock.elapsed().as_secs_f64(),
        ..CausesReport::default()
    })
}

/// The same, and the pin effects on the evaluation rows. `subject`: the model with the weights of that step.
pub fn causes_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    (dir, step): (&RunDir, u64),
    plan: &CausesPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<CausesReport> {
    let clock = Instant::now();
    let mut report = recorded(dir, (&Banks::of(subject.model())?, step), plan)?;
    if plan.probe_rows > 0 {
        let options = &subject.options(config, go_on);
        (report.probe_rows, report.pin_effects) = match subject {
            ModelAndData::Classifier(model, task) => pin_effects(model, &task.dev, plan.probe_rows, options)?,
            ModelAndData::Lm(model, data) => pin_effects(model, &data.dev, plan.probe_rows, options)?,
        };
        report.forwards = forwards(report.pin_effects.len(), config.mixture.num_experts);
    }
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

/// Passes over the probe rows that pin effects take.
pub fn forwards(layers: usize, experts: usize) -> usize {
    1 + layers * (experts + 1)
}

pub(super) fn without_mixture() -> Error {
    Error::config("this run has no experts, so nothing is drawn; only method adamix has")
}

/// The layer of each adapted module.
fn layers_of(sites: &[String]) -> Result<Vec<usize>> {
    let layer = |name: &String| {
        layer_of(name).ok_or_else(|| Error::format(format!("the adapted module {name:?} names no layer")))
    };
    sites.iter().map(layer).collect()
}

/// The recorded steps whose two passes went through the model together.
fn passes(dir: &RunDir, layers: &[usize]) -> Result<BTreeMap<u64, PassPair>> {
    let mixture = &dir.config().mixture;
    let experts = [mixture.down_experts(), mixture.up_experts()];
    let mut differs: BTreeMap<u64, Vec<Vec<f64>>> = BTreeMap::new();
    if dir.routes().is_file() {
        for record in RouteFile::open(&dir.routes())? {
            let record = record?;
            if let Some(shares) = differing(&record.route, layers, experts)? {
                differs.entry(record.step).or_default().push(shares);
            }
        }
    }
    let mut steps = BTreeMap::new();
    for line in read_lines(&dir.metrics())?.lines {
        if let Line::Step(step) = line
            && let Some(batches) = differs.get(&step.step)
        {
            let mean = |layer| batches.iter().map(|shares| shares[layer]).sum::<f64>() / batches.len() as f64;
            let differs = (0..batches[0].len()).map(mean).collect();
            steps.insert(step.step, PassPair { differs, term: step.consistency_loss });
        }
    }
    Ok(steps)
}

fn consensus_of(banks: &Banks) -> Vec<BankConsensus> {
    let sides = banks.sites.iter().flat_map(|site| SIDES.map(|side| (site, side))).zip(&banks.sides);
    let drawn = sides.filter(|(_, bank)| bank.experts > 1);
    let one = |((site, side), bank): ((&String, _), &HostBank)| BankConsensus {
        module: site.clone(),
        side,
        value: bank.consensus(),
        strangers: of_strangers(bank.experts),
    };
    drawn.map(one).collect()
}

/// The mean over each layer's banks. `[layers]`
fn by_layer(banks: &[BankConsensus], sites: &[String], layers: &[usize]) -> Vec<Option<f64>> {
    let last = layers.iter().max().map_or(0, |last| last + 1);
    let of = |layer: usize| {
        let own = sites.iter().zip(layers).filter(|(_, own)| **own == layer).map(|(site, _)| site);
        let own: Vec<&String> = own.collect();
        let values: Vec<f64> =
            banks.iter().filter(|bank| own.contains(&&bank.module)).filter_map(|bank| bank.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    (0..last).map(of).collect()
}

/// Evenly spread over all rows.
pub(super) fn spread(all: usize, most: usize) -> Vec<usize> {
    let n = all.min(most);
    (0..n).map(|i| i * all / n.max(1)).collect()
}

/// -> how many rows, and the effects by layer
fn pin_effects<M: Measured>(
    model: &M,
    data: &M::Rows,
    most: usize,
    options: &EvalOptions<'_>,
) -> Result<(usize, Vec<LayerPins>)> {
    let mixture: MixtureConfig = model.mixture().cloned().ok_or_else(without_mixture)?;
    let (layers, rows) = (layers_of(&model.site_names())?, spread(M::rows(data), most));
    let own = MergeWeights::own(Some(&mixture))?;
    let weights: Vec<Vec<f64>> =
        (0..layers.len()).map(|site| own.site(site).map(<[f64]>::to_vec)).collect::<Result<_>>()?;
    let last = layers.iter().max().map_or(0, |last| last + 1);
    let progress = Progress::new(forwards(last, mixture.num_experts) as f64, options.go_on);
    let losses = |model: &M| {
        let within = progress.within(1.0);
        let losses = model.row_losses(data, &rows, None, &EvalOptions { go_on: &within, ..*options })?;
        progress.step(1.0)?;
        Ok::<_, Error>(losses)
    };
    let everything = model.merged(&own)?;
    let merged = losses(&everything)?;
    let mut found = Vec::new();
    for layer in 0..last {
        let on = |expert: usize| {
            let alone: Vec<f64> = (0..mixture.num_experts).map(|e| f64::from(u8::from(e == expert))).collect();
            let pick = |(own, of): (&Vec<f64>, &usize)| if *of == layer { alone.clone() } else { own.clone() };
            let lists: Vec<Vec<f64>> = weights.iter().zip(&layers).map(pick).collect();
            losses(&model.merged(&MergeWeights::per_site(&lists)?)?)
        };
        let pinned = (0..mixture.num_experts).map(on).collect::<Result<_>>()?;
        let pinned = PinnedLosses { merged: merged.clone(), pinned, off: losses(&everything.without_layer(layer))? };
        let effects = PinEffects::of(&pinned, options.seed, layer as u64)?;
        found.push(LayerPins {
            layer,
            effects: effects.experts.iter().map(|effect| effect.value).collect(),
            standard_errors: effects.experts.iter().map(|effect| effect.se).collect(),
            null_band: effects.null_band,
            p: effects.p,
            adapter_off: effects.adapter_off.value,
            adapter_off_standard_error: effects.adapter_off.se,
        });
    }
    Ok((rows.len(), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_rows_are_spread_evenly() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 256), [0, 1, 2]);
        assert!(spread(0, 256).is_empty());
        assert_eq!(forwards(4, 4), 21);
    }

    #[test]
    fn a_layers_consensus_is_the_mean_of_its_banks() {
        let bank = |module: &str, side, value| BankConsensus { module: module.to_owned(), side, value, strangers: 0.5 };
        let sites = ["layers.0.q", "layers.0.v", "layers.1.q"].map(str::to_owned);
        let banks = [
            bank("layers.0.q", SIDES[0], Some(0.6)),
            bank("layers.0.v", SIDES[0], Some(0.8)),
            bank("layers.0.v", SIDES[1], None),
            bank("layers.1.q", SIDES[1], None),
        ];
        let found = by_layer(&banks, &sites, &layers_of(&sites).unwrap());
        assert!((found[0].unwrap() - 0.7).abs() < 1e-12 && found[1].is_none(), "{found:?}");
        assert!(layers_of(&["pooler".to_owned()]).is_err());
    }
}
