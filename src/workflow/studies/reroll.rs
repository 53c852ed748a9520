//! Was it the route? The batch of a step under other routes, beside other batches under routes of their own.
//!
//! All with the weights before that step. The dropout masks of a batch are those of its step, so that only the route changes
//! from roll to roll.

use crate::artifact::RunDir;
use crate::config::choice_name;
use crate::data::order::Order;
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::protocol::studies::{RerollPlan, RerollReport, RolledLoss, RouteShare};
use crate::train::loss::LossValues;
use crate::train::reroll::{MOST_ROLLS, law_of_rolls, loss_under, rolled_route};
use crate::train::step::draw_route;
use crate::train::{ModelAndData, Trainable, Trainer};
use crate::workflow::progress::Progress;
use crate::workflow::rebuild::{self, Rebuilt};
use crate::workflow::studies::replay::recorded;
use std::time::Instant;

/// Rolls the batch of a step. `go_on` gets the share done, 0 to 1; false cancels.
pub fn reroll(dir: &RunDir, plan: RerollPlan, go_on: &dyn Fn(f64) -> bool) -> Result<RerollReport> {
    let clock = Instant::now();
    if !(2..=MOST_ROLLS.min(RerollPlan::MOST)).contains(&plan.routes) {
        return Err(Error::config(format!("{} routes; choose 2 to {}", plan.routes, RerollPlan::MOST)));
    }
    let record = recorded(dir, plan.step)?;
    // Each half of the work counts as half: a step costs about as much as three batches without a gradient.
    let Rebuilt { trainer, cost, warnings } = rebuild::after(dir, plan.step - 1, &|share| go_on(0.5 * share))?;
    let go_on = |share: f64| go_on(0.5 + 0.5 * share);
    let progress = Progress::new(plan.batches() as f64, &go_on);
    let mut order = trainer.subject().order(trainer.config());
    let found = match trainer.subject() {
        ModelAndData::Classifier(model, data) => {
            let batch = |order: &mut Order, index| data.train.batch(order.rows(index));
            Rolls { trainer: &trainer, model, plan, progress: &progress }.roll(|index| batch(&mut order, index))?
        }
        ModelAndData::Lm(model, data) => {
            let batch = |order: &mut Order, index| data.train.batch(order.rows(index));
            Rolls { trainer: &trainer, model, plan, progress: &progress }.roll(|index| batch(&mut order, index))?
        }
    };
    let (own, rolls, others) = found;
    let share = |of: fn(&RolledLoss) -> f64| {
        let all = |list: &[RolledLoss]| list.iter().map(of).collect::<Vec<_>>();
        RouteShare::of(of(&own), &all(&rolls), &all(&others)).unwrap_or_default()
    };
    Ok(RerollReport {
        rerolled_step: plan.step,
        from: cost.from,
        steps_before: cost.steps,
        law: choice_name(law_of_rolls(&trainer.config_of(plan.step))),
        consistency_weight: trainer.config().mixture.consistency_weight,
        recorded_loss: record.loss,
        loss: share(|roll| roll.loss),
        task_loss: share(|roll| roll.task_loss),
        own,
        rolls,
        others,
        warnings,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

struct Rolls<'a, M> {
    trainer: &'a Trainer,
    model: &'a M,
    plan: RerollPlan,
    progress: &'a Progress<'a>,
}

impl<M: Trainable> Rolls<'_, M> {
    /// The step itself, its batch under other routes, other batches under theirs.
    fn roll(
        &self,
        mut batch_of: impl FnMut(u64) -> M::Batch,
    ) -> Result<(RolledLoss, Vec<RolledLoss>, Vec<RolledLoss>)> {
        let RerollPlan { step, routes } = self.plan;
        let micro_batches = self.trainer.config().train.gradient_accumulation_steps as u64;
        let mut batches_of = |step: u64| -> Vec<(u64, M::Batch)> {
            ((step - 1) * micro_batches..step * micro_batches).map(|index| (index, batch_of(index))).collect()
        };
        let batches = batches_of(step);
        let own = self.loss(step, &batches, &self.drawn(step, &batches)?)?;
        let mut rolls = Vec::with_capacity(routes);
        for roll in 0..routes {
            rolls.push(self.loss(step, &batches, &self.rolled(step, &batches, roll)?)?);
        }
        let mut others = Vec::with_capacity(routes);
        for step in (step + 1..).take(routes) {
            let batches = batches_of(step);
            others.push(self.loss(step, &batches, &self.drawn(step, &batches)?)?);
        }
        Ok((own, rolls, others))
    }

    fn loss(&self, of_step: u64, batches: &[(u64, M::Batch)], routes: &[Route]) -> Result<RolledLoss> {
        let (config, overflows) = (self.trainer.config(), self.trainer.overflows());
        let LossValues { total, task, consistency } = loss_under(config, self.model, batches, routes, overflows)?;
        self.progress.step(1.0)?;
        Ok(RolledLoss { of_step, loss: total, task_loss: task, consistency_loss: consistency })
    }

    /// The routes that training draws for these micro-batches.
    fn drawn(&self, step: u64, batches: &[(u64, M::Batch)]) -> Result<Vec<Route>> {
        let config = self.trainer.config_of(step);
        let draw = |(index, batch): &(u64, M::Batch)| {
            draw_route(&config, self.model, self.model.size(batch), *index).ok_or_else(without_mixture)
        };
        batches.iter().map(draw).collect()
    }

    /// Other ones.
    fn rolled(&self, step: u64, batches: &[(u64, M::Batch)], roll: usize) -> Result<Vec<Route>> {
        let config = self.trainer.config_of(step);
        let draw = |(index, batch): &(u64, M::Batch)| {
            rolled_route(&config, self.model, self.model.size(batch), *index, roll).ok_or_else(without_mixture)
        };
        batches.iter().map(draw).collect()
    }
}

fn without_mixture() -> Error {
    Error::config("this run has no experts, so no route is drawn; only method adamix has")
}
