//! Where routes part on one example: how far each layer moves the answer from the merged model's to the route's own.

use crate::protocol::TryInput;
use serde::{Deserialize, Serialize};

/// One example and the random routes that it is read along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanPlan {
    /// What is read.
    pub input: TryInput,
    /// Number of random routes, 1 to [`MOST_ROUTES`](crate::protocol::MOST_ROUTES).
    pub routes: usize,
    /// Seed of the random routes. With the run's own seed they are those of the comparison at its end.
    pub seed: u64,
}

impl FanPlan {
    /// Routes unless others are asked for.
    pub const ROUTES: usize = 16;
}

/// What the fan's numbers are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FanScale {
    /// Log-odds ln p/(1-p) of a class in nats: the merged model's answer.
    LogOdds {
        /// Name of the class.
        class: String,
    },
    /// The predicted value (regression).
    #[default]
    Value,
    /// ln p of the token that the merged model finds likeliest to come next.
    NextToken {
        /// The token's text.
        token: String,
    },
    /// Mean ln p of the row's learned tokens.
    LearnedTokens {
        /// How many they are.
        tokens: usize,
    },
}

impl FanScale {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::LogOdds { class } => format!("log-odds of {class} in nats"),
            Self::Value => "predicted value".to_owned(),
            Self::NextToken { token } => format!("ln p of the next token {token:?} in nats"),
            Self::LearnedTokens { tokens: 1 } => "ln p of the learned token in nats".to_owned(),
            Self::LearnedTokens { tokens } => format!("mean ln p of the {tokens} learned tokens in nats"),
        }
    }
}

/// One route on one example.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FanLine {
    /// The expert of each adapted module and side, at `module * 2 + side`.
    pub experts: Vec<u8>,
    /// The answer with the lowest l layers on the route and all others merged, l from 0 (merged) to all (the route). `[layers + 1]`
    pub at: Vec<f64>,
}

impl FanLine {
    /// What each layer adds; the sum is the route's answer minus the merged model's. `[layers]`
    pub fn increments(&self) -> Vec<f64> {
        self.at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// A fan.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FanReport {
    /// What was asked.
    pub plan: FanPlan,
    /// Training steps of the weights.
    pub weights_step: u64,
    /// The text as read; of a row of texts its beginning.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// What the numbers are.
    pub scale: FanScale,
    /// Layers.
    pub layers: usize,
    /// One line for each route.
    pub lines: Vec<FanLine>,
    /// Root mean square over the routes of what each layer adds. `[layers]`
    pub layer_moves: Vec<f64>,
    /// Layers that the example went through, all routes counted.
    pub layer_passes: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl FanReport {
    /// The merged model's answer.
    pub fn merged(&self) -> Option<f64> {
        self.lines.first().and_then(|line| line.at.first()).copied()
    }
}
