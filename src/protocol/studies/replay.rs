//! One step of a run, made again: its numbers, routes and weights beside what the record says.

use crate::records::Route;
use serde::{Deserialize, Serialize};

/// How the weights of a step are made again: from the nearest checkpoint on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildCost {
    /// Steps done at the checkpoint it begins with; 0 where there is none so early: from the settings' initial weights.
    pub from: u64,
    /// Steps made from there.
    pub steps: u64,
}

impl RebuildCost {
    /// What it takes to get to the weights after `done` steps with checkpoints of these steps.
    pub fn of(checkpoints: &[u64], done: u64) -> Self {
        let from = checkpoints.iter().copied().filter(|&step| step <= done).max().unwrap_or(0);
        Self { from, steps: done - from }
    }

    /// `12 steps from checkpoint-400`
    pub fn words(self) -> String {
        let from = if self.from == 0 { "the start".to_owned() } else { format!("checkpoint-{}", self.from) };
        match self.steps {
            0 => format!("the weights of {from}"),
            1 => format!("1 step from {from}"),
            steps => format!("{steps} steps from {from}"),
        }
    }
}

/// Which step is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPlan {
    /// Its number, from 1.
    pub step: u64,
}

/// One number of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayedValue {
    /// As `metrics.jsonl` names it.
    pub name: String,
    /// Computed now.
    pub replayed: f64,
    /// In the record, with every bit.
    pub recorded: f64,
}

impl ReplayedValue {
    /// Whether all bits are the same.
    pub fn is_equal(&self) -> bool {
        self.replayed.to_bits() == self.recorded.to_bits()
    }
}

/// The weights after the step against a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayedWeights {
    /// Trained tensors and tensors of the optimizer that were compared.
    pub tensors: usize,
    /// Those that are not the same bits.
    pub differing: Vec<String>,
}

/// A step, made again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplayReport {
    /// The step.
    pub replayed_step: u64,
    /// Steps done at the checkpoint it began with; 0: the start.
    pub from: u64,
    /// Steps made from there before this one.
    pub steps_before: u64,
    /// The law of its draws.
    pub law: String,
    /// Its numbers.
    pub values: Vec<ReplayedValue>,
    /// Names of the adapted modules in order.
    pub modules: Vec<String>,
    /// The routes of its micro-batches, drawn now.
    pub routes: Vec<Route>,
    /// Micro-batches whose routes are recorded.
    pub routes_recorded: usize,
    /// Picks that differ, the first of them in words. Empty where all recorded ones are the same.
    pub different_picks: Vec<String>,
    /// How many differ in all.
    pub picks_differing: usize,
    /// The weights after the step; absent where there is no checkpoint of it.
    pub weights: Option<ReplayedWeights>,
    /// What differs, in words; empty: everything that is recorded is equal, bit for bit.
    pub differs: Vec<String>,
    /// What should be known, in words.
    pub warnings: Vec<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl ReplayReport {
    /// Whether everything that is recorded came out again, bit for bit.
    pub fn is_equal(&self) -> bool {
        self.differs.is_empty()
    }

    /// `equal bit for bit: ...`, or what differs.
    pub fn verdict(&self) -> String {
        if !self.is_equal() {
            return format!("not equal: {}", self.differs.join("; "));
        }
        let mut equal = vec![format!("{} numbers", self.values.len())];
        if self.routes_recorded > 0 {
            equal.push("the routes".to_owned());
        }
        if let Some(weights) = &self.weights {
            equal.push(format!("the {} tensors of checkpoint-{}", weights.tensors, self.replayed_step));
        }
        format!("equal bit for bit: {}", equal.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_begins_with_the_nearest_checkpoint_before() {
        let words = |done| RebuildCost::of(&[200, 400, 800], done).words();
        assert_eq!(words(12), "12 steps from the start");
        assert_eq!(words(401), "1 step from checkpoint-400");
        assert_eq!(words(400), "the weights of checkpoint-400");
        assert_eq!(RebuildCost::of(&[], 7), RebuildCost { from: 0, steps: 7 });
    }
}
