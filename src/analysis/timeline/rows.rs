//! Steps of a run as bytes, one after the other.

use super::layout::Layout;
use crate::analysis::causes::disagreement::differing;
use crate::error::{Error, Result};
use crate::records::{Pick, Route, SIDES, StepRecord};
use std::fmt;

/// No expert: nothing is recorded.
pub(super) const NOTHING: u8 = u8::MAX;

/// Consecutive records of steps. Lists with one entry a step, or several in the order of passes, modules and sides that draw.
#[derive(Clone, Default, PartialEq)]
pub struct StepRows {
    /// Steps done.
    pub(super) steps: Vec<u64>,
    /// The expert of every draw; where several ran, the one that ran most. `[steps, passes * width]`
    pub(super) picks: Vec<u8>,
    /// Where draws are mixed: the share of every expert in 255ths. `[steps, share_width]`
    pub(super) shares: Vec<u8>,
    /// Where a step is more than a single draw of two passes: share of each layer's draws that differ. `[steps, layers]`
    pub(super) apart: Vec<f32>,
    /// Where a step is more than a single draw: the experts that ran, a bit each. `[steps, width]`
    pub(super) ran: Vec<u64>,
    /// Total loss.
    pub(super) loss: Vec<f32>,
    /// Consistency term before its weight; NaN with one pass.
    pub(super) consistency: Vec<f32>,
}

impl fmt::Debug for StepRows {
    /// Without the draws: they may be thousands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepRows({} steps from {:?})", self.len(), self.steps.first())
    }
}

impl StepRows {
    /// How many.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.picks.len() + self.shares.len() + 4 * self.apart.len() + 8 * self.ran.len() + 16 * self.steps.len()
    }

    /// Appends a recorded step. One without routes is left out, and one in which examples or tokens drew for themselves where the
    /// layout knows no shares. Returns whether it was taken.
    ///
    /// # Errors
    /// Of kind [`Format`](crate::error::ErrorKind::Format) where its routes belong to other modules.
    pub fn push(&mut self, layout: &Layout, step: &StepRecord) -> Result<bool> {
        let Some(last) = step.routes.last() else { return Ok(false) };
        let many = |pick: &Pick| !matches!(pick, Pick::One(_));
        if !layout.is_mixed() && step.routes.iter().any(|route| route.picks.iter().any(many)) {
            return Ok(false);
        }
        let fits = |route: &Route| {
            let cells = route.passes * route.sites * SIDES.len();
            route.passes == layout.passes && route.sites == layout.sites.len() && route.picks.len() == cells
        };
        if !step.routes.iter().all(fits) {
            let text = format!("the recorded route of step {} has other modules or passes than the run", step.step);
            return Err(Error::format(text));
        }
        if layout.passes == 2 && !layout.is_whole() {
            let layer_of = layout.layer_of();
            let mut apart = vec![0.0; layout.layers.len()];
            for route in &step.routes {
                let shares = differing(route, &layer_of, layout.experts)?.unwrap_or_default();
                apart.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share / step.routes.len() as f64);
            }
            self.apart.extend(apart.iter().map(|&share| share as f32));
        }
        for pass in 0..layout.passes {
            self.push_pass(layout, last, pass);
        }
        if !layout.is_whole() {
            self.push_ran(layout, &step.routes);
        }
        self.steps.push(step.step);
        self.loss.push(step.loss as f32);
        self.consistency.push(if layout.passes == 2 { step.consistency_loss as f32 } else { f32::NAN });
        Ok(true)
    }

    fn push_pass(&mut self, layout: &Layout, route: &Route, pass: usize) {
        for site in 0..layout.sites.len() {
            for side in layout.drawn() {
                let experts = layout.experts[side as usize];
                let drawn = experts_of(route.pick(pass, site, side));
                if !layout.is_mixed() {
                    let expert = drawn.first().copied().unwrap_or(NOTHING);
                    self.picks.push(if usize::from(expert) < experts { expert } else { NOTHING });
                    continue;
                }
                let mut counts = vec![0usize; experts];
                for &expert in drawn {
                    counts.iter_mut().skip(usize::from(expert)).take(1).for_each(|count| *count += 1);
                }
                let all = counts.iter().sum::<usize>().max(1);
                let most = (1..experts).fold(0, |best, e| if counts[e] > counts[best] { e } else { best });
                self.picks.push(most as u8);
                self.shares.extend(counts.iter().map(|count| (255.0 * *count as f64 / all as f64).round() as u8));
            }
        }
    }

    fn push_ran(&mut self, layout: &Layout, routes: &[Route]) {
        for site in 0..layout.sites.len() {
            for side in layout.drawn() {
                let picks = routes.iter().flat_map(|route| (0..route.passes).map(move |p| route.pick(p, site, side)));
                let ran = picks.flat_map(experts_of).fold(0, |ran, &e| ran | 1u64.checked_shl(e.into()).unwrap_or(0));
                self.ran.push(ran);
            }
        }
    }
}

fn experts_of(pick: &Pick) -> &[u8] {
    match pick {
        Pick::One(expert) => std::slice::from_ref(expert),
        Pick::PerExample(experts) | Pick::PerToken(experts) => experts,
    }
}
