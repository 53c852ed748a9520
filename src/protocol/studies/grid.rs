//! One adapted module on each of its experts, for one example and one route of all other modules.

use super::FanScale;
use crate::protocol::TryInput;
use serde::{Deserialize, Serialize};

/// Which module is pinned, on which example, and the dice of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridPlan {
    /// What is read.
    pub input: TryInput,
    /// The adapted module, by its number in order.
    pub module: usize,
    /// Number of the random route that all other modules take; with another number they are rolled anew.
    pub route: usize,
    /// Seed of the random routes. With the run's own seed they are those of the comparison at its end.
    pub seed: u64,
}

/// One module on each pair of its experts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GridReport {
    /// What was asked.
    pub plan: GridPlan,
    /// Training steps of the weights.
    pub weights_step: u64,
    /// The text as read; of a row of texts its beginning.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// Name of the module.
    pub module: String,
    /// Experts of the down side and of the up side; 1: shared.
    pub experts: [usize; 2],
    /// What the route draws itself in this module.
    pub drawn: [u8; 2],
    /// Class names in order; empty for regression and for language models.
    pub labels: Vec<String>,
    /// What the numbers are; of a classifier probabilities, whatever it says of the log-odds.
    pub scale: FanScale,
    /// With expert `i` below and `j` above, at `i * experts[1] + j`: a probability for each class, or one number.
    pub cells: Vec<Vec<f64>>,
    /// The same of the merged model.
    pub merged: Vec<f64>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl GridReport {
    /// The number of a cell that is shown first: the probability of the class that the merged model finds likeliest, or the only
    /// number.
    pub fn shown(&self, down: usize, up: usize) -> Option<f64> {
        let class = if self.labels.is_empty() { 0 } else { crate::protocol::likeliest(&self.merged) };
        self.cells.get(down * self.experts[1] + up)?.get(class).copied()
    }

    /// What [`GridReport::shown`] is, in words.
    pub fn words(&self) -> String {
        match self.labels.get(crate::protocol::likeliest(&self.merged)) {
            Some(class) => format!("probability of {class}"),
            None => self.scale.words(),
        }
    }
}
