//! The routing law of each step: the settings' first one, what they plan, and what was asked for while the run trained. A
//! function of the step, so that a resumed or replayed step is drawn as it was.

use super::observer::Observer;
use super::trainer::Trainer;
use crate::config::{LawChange, RoutingLaw, RunConfig};

impl Trainer {
    /// The law of step number `step`, from 1. Where a plan and a request name the same step, the request counts.
    pub fn law_of(&self, step: u64) -> RoutingLaw {
        let all = [self.planned_laws.as_slice(), &self.progress.law_changes].concat();
        LawChange::law_of(self.first_law, &all, step)
    }

    /// The settings with the law of step number `step`, from 1.
    pub fn config_of(&self, step: u64) -> RunConfig {
        let mut config = self.config().clone();
        self.law_of(step).apply(&mut config.mixture);
        config
    }

    /// Draws as a record says: adds these changes to those that were asked for.
    pub fn follow_laws(&mut self, changes: &[LawChange]) {
        let known = &mut self.progress.law_changes;
        known.retain(|own| changes.iter().all(|change| change.step != own.step));
        known.extend(changes);
        known.sort_by_key(|change| change.step);
    }

    /// Draws by this law from the next step on. A law that does not fit the mixture is a problem to report; the old one stays.
    pub(super) fn ask_law(&mut self, law: RoutingLaw, observer: &mut dyn Observer) {
        let problem = match self.model().mixture() {
            None => Some("this run has no experts to draw".to_owned()),
            Some(mixture) => law.problem(mixture),
        };
        match problem {
            Some(problem) => observer.on_problem(&format!("the law of routing stays: {problem}")),
            None => self.follow_laws(&[LawChange { step: self.steps_done() + 1, law }]),
        }
    }

    /// The next step is about to be made: its law goes into the settings, and a change is told.
    pub(super) fn enter_law(&mut self, observer: &mut dyn Observer) {
        let step = self.steps_done() + 1;
        let law = self.law_of(step);
        law.apply(&mut self.config.mixture);
        if self.model().mixture().is_some() && step > 1 && law != self.law_of(step - 1) {
            observer.on_law(&LawChange { step, law });
        }
    }
}
