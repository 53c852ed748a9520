//! TIES and DARE over all tensors of a mixture, and how values become modules again.

use super::{Learner, Mixture};
use crate::analysis::expert_stats::HostBank;
use crate::error::{Error, Result};
use crate::mixture::elementwise::Changed;
use crate::mixture::{Bank, MergedModule, SIDES, Side};
use crate::model::{Network, Site};
use crate::protocol::MergePlan;
use crate::rng::{Purpose, SeedStream};
use crate::workflow::progress::Progress;
use crate::workflow::snapshot::Banks;

/// One module for each place, made of the changes of its experts since their start.
pub(super) fn modules<M: Learner>(mixture: Mixture<'_, M>, plan: &MergePlan) -> Result<Vec<MergedModule>> {
    let Some(run) = mixture.run else {
        return Err(Error::config(format!("{plan} needs the start of the experts, which only a run knows")));
    };
    let now = Banks::of(mixture.model)?;
    let start = now.at_start_of(run)?;
    let progress = Progress::new(now.sides.len() as f64, mixture.opts.go_on);
    let mut tensor = 0;
    let mut one = |now: &[f32], start: &[f32], experts: usize| {
        tensor += 1;
        let changed = Changed::new(now, start, experts)?;
        match *plan {
            MergePlan::Ties { density } => Ok(changed.ties(density)),
            // Every tensor has draws of its own.
            MergePlan::Dare { drop, seed } => {
                Ok(changed.dare(drop, &mut SeedStream::new(seed).stream(Purpose::Sampling, tensor)))
            }
            _ => Err(Error::internal(format!("{plan} is no merge of changes"))),
        }
    };
    let mut merged = Vec::with_capacity(now.sides.len());
    for (now, start) in now.sides.iter().zip(&start.sides) {
        merged.push(if now.experts == 1 {
            shared(now)
        } else {
            let weight = one(&now.weight, &start.weight, now.experts)?;
            let bias = if now.bias.is_empty() { Vec::new() } else { one(&now.bias, &start.bias, now.experts)? };
            (weight, bias)
        });
        progress.step(1.0)?;
    }
    of_values(mixture.model, &merged)
}

/// A side that all experts share is taken as it is.
pub(super) fn shared(bank: &HostBank) -> MergedValues {
    (bank.weight.clone(), bank.bias.clone())
}

/// Weight and bias of one side, the bias empty without one.
pub(super) type MergedValues = (Vec<f32>, Vec<f32>);

/// Modules of these values, at `site * 2 + side`.
pub(super) fn of_values(model: &dyn Network, values: &[MergedValues]) -> Result<Vec<MergedModule>> {
    let module = |(number, site): (usize, Site<'_>)| {
        let bank = |side: Side| -> Result<Bank> {
            let found = values.get(number * SIDES.len() + side as usize);
            let (weight, bias) = found.ok_or_else(|| Error::internal("a module without values"))?;
            site.bank(side).one(weight, bias)
        };
        let (down, up) = (bank(Side::Down)?, bank(Side::Up)?);
        Ok(match site {
            Site::Adapter(mixture) => MergedModule::Adapter(mixture.merged(down, up)),
            Site::Lora(mixture) => MergedModule::Lora(mixture.merged(down, up)),
        })
    };
    model.sites().into_iter().enumerate().map(module).collect()
}
