//! The Fisher-weighted mean (Matena and Raffel 2022), with the diagonal of the empirical Fisher information: the mean over
//! training rows of the squared gradient of the log-likelihood of their labels.
//!
//! Each expert is asked alone, in all modules at once: of a row, one forward and one backward for each expert. Of a text the
//! log-likelihood is the mean over its learned tokens. Dropout, label smoothing and the consistency term are off.

use super::changes::{MergedValues, of_values, shared};
use super::{Learner, Mixture, spread};
use crate::analysis::expert_stats::HostBank;
use crate::config::{Recompute, RunConfig};
use crate::error::{Error, Result};
use crate::mixture::{MergedModule, Route, elementwise};
use crate::model::ForwardOptions;
use crate::nn::Param;
use crate::tensor::to_f32;
use crate::workflow::progress::Progress;
use crate::workflow::snapshot::Banks;

/// One module for each place. `rows`: training rows, evenly spread over all.
pub(super) fn modules<M: Learner>(mixture: Mixture<'_, M>, rows: usize) -> Result<Vec<MergedModule>> {
    let model = mixture.model;
    let information = information(mixture, rows)?;
    let (banks, kind) = (Banks::of(model)?, mixture.config.mixture.kind);
    let found = |name: &str| {
        let index = model.params().iter().position(|param| param.name == name);
        let found = index.and_then(|index| information.get(index));
        found.ok_or_else(|| Error::internal(format!("there are no gradients of {name}")))
    };
    let side = |(index, bank): (usize, &HostBank)| -> Result<MergedValues> {
        if bank.experts == 1 {
            return Ok(shared(bank));
        }
        let name = banks.weight_name(kind, index);
        let weight = elementwise::fisher(&bank.weight, found(&name)?, bank.experts)?;
        if bank.bias.is_empty() {
            return Ok((weight, Vec::new()));
        }
        let name = format!("{}bias", name.trim_end_matches("weight"));
        Ok((weight, elementwise::fisher(&bank.bias, found(&name)?, bank.experts)?))
    };
    let values = banks.sides.iter().enumerate().map(side).collect::<Result<Vec<_>>>()?;
    of_values(model, &values)
}

/// The diagonal of each trained tensor, in their order; of tensors that are no bank of several experts nothing.
fn information<M: Learner>(mixture: Mixture<'_, M>, rows: usize) -> Result<Vec<Vec<f64>>> {
    let Mixture { model, train, config, opts, .. } = mixture;
    let settings = model.mixture().ok_or_else(|| Error::internal("a model without experts"))?;
    let (sites, rows) = (model.sites().len(), spread(M::rows(train), rows));
    let plain = likelihood(config);
    let all = |param: &Param| vec![0.0f64; if param.bank && param.experts > 1 { param.value.elem_count() } else { 0 }];
    let mut sums: Vec<Vec<f64>> = model.params().iter().map(all).collect();
    let progress = Progress::new((rows.len() * settings.num_experts) as f64, opts.go_on);
    for expert in 0..settings.num_experts {
        let route = Route::fixed(settings, sites, expert);
        for &row in &rows {
            let options = ForwardOptions {
                route: Some(&route),
                keep: true,
                recompute: config.train.recompute == Recompute::On,
                ..ForwardOptions::eval()
            };
            let (loss, activations) = model.forward(&M::batch(train, &[row]), options, &plain, 0)?;
            let grads = model.backward(activations, loss.gradient)?;
            for (id, expert, grad) in grads.iter() {
                let sum = &mut sums[id.0];
                let grad = if sum.is_empty() { Vec::new() } else { to_f32(grad)? };
                for (sum, g) in sum.iter_mut().skip(expert * grad.len()).zip(grad) {
                    *sum += (f64::from(g) / loss.scale).powi(2) / rows.len() as f64;
                }
            }
            progress.step(1.0)?;
        }
    }
    Ok(sums)
}

/// Settings whose loss is the negative log-likelihood of the labels alone.
fn likelihood(config: &RunConfig) -> RunConfig {
    let mut plain = config.clone();
    plain.mixture.consistency = false;
    plain.train.label_smoothing = 0.0;
    plain.train.class_weights.clear();
    plain
}
