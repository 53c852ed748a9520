//! The batch of one step under other routes, beside other batches under routes of their own.

pub use crate::analysis::causes::route_share::RouteShare;
use serde::{Deserialize, Serialize};

/// Which step's batch is rolled again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerollPlan {
    /// The step, from 1.
    pub step: u64,
    /// Other routes for its batch, and as many other batches; 2 to [`RerollPlan::MOST`].
    pub routes: usize,
}

impl RerollPlan {
    /// Routes unless others are asked for.
    pub const ROUTES: usize = 64;
    /// Most routes.
    pub const MOST: usize = 1024;

    /// How often a batch goes through the model: this one under its own route and under the others, and the other batches.
    pub fn batches(self) -> usize {
        1 + 2 * self.routes
    }
}

/// The loss of a batch under one route, with the passes and the dropout masks of its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RolledLoss {
    /// The step whose batch it is.
    pub of_step: u64,
    /// What is minimised: task loss + λ x consistency.
    pub loss: f64,
    /// Cross-entropy or squared error.
    pub task_loss: f64,
    /// Disagreement of the passes, before λ.
    pub consistency_loss: f64,
}

/// A batch, re-rolled.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RerollReport {
    /// The step.
    pub rerolled_step: u64,
    /// Steps done at the checkpoint that its weights were made from; 0: the start.
    pub from: u64,
    /// Steps made from there.
    pub steps_before: u64,
    /// The law of the other routes.
    pub law: String,
    /// λ.
    pub consistency_weight: f64,
    /// The step as it was.
    pub own: RolledLoss,
    /// The loss that the record has of it.
    pub recorded_loss: f64,
    /// Its batch under other routes.
    pub rolls: Vec<RolledLoss>,
    /// The batches of the steps after it, under their own routes, all with the weights before it.
    pub others: Vec<RolledLoss>,
    /// Route against batch, of the loss.
    pub loss: RouteShare,
    /// Route against batch, of the task loss alone.
    pub task_loss: RouteShare,
    /// What should be known, in words.
    pub warnings: Vec<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl RerollReport {
    /// Other routes under which this batch has a smaller loss.
    pub fn below(&self) -> usize {
        self.rolls.iter().filter(|roll| roll.loss < self.own.loss).count()
    }
}
