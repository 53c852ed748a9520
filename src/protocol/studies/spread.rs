//! The spread of the experts: what the random routes and the merge do as the experts move from their mean.

use serde::{Deserialize, Serialize};

/// Parameters of the study of the spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpreadPlan {
    /// Factors by which the experts are moved from their mean: 0 makes them all their mean, 1 leaves them.
    pub alphas: Vec<f64>,
    /// Whole random routes, the same at every factor.
    pub routes: usize,
}

impl SpreadPlan {
    /// The largest factor.
    pub const MOST: f64 = 2.0;

    /// So many factors evenly spread over 0 to 2.
    pub fn of(points: usize, routes: usize) -> Self {
        let last = points.max(2) - 1;
        Self { alphas: (0..=last).map(|i| Self::MOST * i as f64 / last as f64).collect(), routes }
    }

    /// Passes over the evaluation rows.
    pub fn forwards(&self) -> usize {
        1 + self.alphas.len() * self.routes
    }
}

impl Default for SpreadPlan {
    fn default() -> Self {
        Self::of(9, 8)
    }
}

/// At one factor. Losses are in nats; of regression squared errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SpreadPoint {
    /// The factor.
    pub alpha: f64,
    /// Mean loss of the random routes.
    pub routes: f64,
    /// Its standard error over the routes.
    pub routes_standard_error: f64,
    /// Loss of the mean of their probabilities.
    pub ensemble: f64,
    /// J: mean loss of the routes minus the loss of the mean of their probabilities, at least 0.
    pub jensen: f64,
    /// G: mean loss of the routes minus the loss of the merged model.
    pub merging: f64,
}

/// What the spread of the experts does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SpreadReport {
    /// Loss of the merged model, which is the same at every factor.
    pub merged: f64,
    /// By factor, in the order of the plan.
    pub points: Vec<SpreadPoint>,
    /// Random routes at each factor.
    pub routes: usize,
    /// Evaluation rows.
    pub rows: usize,
    /// Passes over them.
    pub forwards: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}
