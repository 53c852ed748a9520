//! Which weights of the shown run the views are about: one choice for all of them.

use super::{QUERIES, QueryClass, Session};
use crate::protocol::{Checkpoint, EndReason, RequestId, Subject, WeightsOf};

/// Weights of the shown run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those of the run in training, as they are at the moment of a query.
    Training,
    /// Those of a checkpoint.
    Saved(Checkpoint),
}

impl Session {
    /// What was chosen; without a choice those in training, and the best ones of a run that has ended.
    pub fn weights(&self) -> Weights {
        let training = self.shows_live() && self.phase.is_active();
        match self.chosen_weights {
            Some(Weights::Saved(checkpoint)) => Weights::Saved(checkpoint),
            _ if training => Weights::Training,
            _ => Weights::Saved(Checkpoint::Best),
        }
    }

    /// From now on the views are about these weights. What was computed from others is forgotten, but for exports, whose
    /// certificates name theirs.
    pub fn choose_weights(&mut self, weights: Weights) {
        if weights == self.weights() {
            return;
        }
        self.chosen_weights = Some(weights);
        let export = std::mem::take(&mut self.export);
        self.forget_answers();
        self.export = export;
    }

    /// The chosen weights with their step; absent where there is no run, or no checkpoint that is meant.
    pub fn weights_of_shown(&self) -> Option<WeightsOf> {
        let run = self.shown()?;
        let checkpoint = match self.weights() {
            Weights::Training => return Some(WeightsOf::training(run.step())),
            Weights::Saved(checkpoint) => checkpoint,
        };
        match run.checkpoints.resolve(checkpoint) {
            Ok(weights) => Some(weights),
            Err(_) if run.checkpoints.steps.is_empty() => Some(WeightsOf::saved(self.step_in_memory()?, checkpoint)),
            Err(_) => None,
        }
    }

    /// The step of the weights that the engine holds of the live run after its end. Those of a run that diverged are of no use.
    fn step_in_memory(&self) -> Option<u64> {
        let live = self.live.as_ref().filter(|_| self.opened.is_none())?;
        let end = live.end.as_ref().filter(|end| !matches!(end.reason, EndReason::Diverged { .. }))?;
        Some(end.weights_step())
    }

    /// Whose weights the views' queries are about; absent: there is no run.
    pub fn subject(&self) -> Option<Subject> {
        let run = self.shown()?;
        let Weights::Saved(checkpoint) = self.weights() else { return Some(Subject::Live) };
        // A run that has ended is in memory still, with its best weights or its last ones.
        let held = match (self.step_in_memory(), run.checkpoints.resolve(checkpoint)) {
            (Some(held), Ok(weights)) => held == weights.step && !matches!(checkpoint, Checkpoint::Step(_)),
            (_, Err(_)) => self.opened.is_none() && run.checkpoints.steps.is_empty(),
            (None, Ok(_)) => false,
        };
        Some(if held { Subject::Live } else { Subject::Saved { dir: run.dir.clone(), checkpoint } })
    }

    /// The checkpoint that a command about this subject names; absent: its weights are in no checkpoint.
    pub fn command_checkpoint(&self, subject: &Subject) -> Option<Checkpoint> {
        let run = self.shown()?;
        if let Subject::Saved { checkpoint, .. } = subject {
            return Some(
                run.checkpoints.resolve(*checkpoint).map_or(*checkpoint, |weights| Checkpoint::Step(weights.step)),
            );
        }
        // Those in training can be named where there is a checkpoint of just this step.
        let weights = self.weights_of_shown()?;
        let saved = weights.checkpoint.is_some() || run.checkpoints.steps.contains(&weights.step);
        saved.then_some(Checkpoint::Step(weights.step))
    }

    /// Notes which weights a pending query is computed from.
    pub(super) fn apply_weights(&mut self, req: RequestId, weights: WeightsOf) {
        for (.., get_mut) in QUERIES.iter().filter(|(_, class, ..)| *class == QueryClass::Run) {
            get_mut(self).is_about(req, weights);
        }
        self.studies.any_mut(|query| {
            query.is_about(req, weights);
            false
        });
    }
}
