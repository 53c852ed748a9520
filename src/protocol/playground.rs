//! What the playground asks and gets: the same prompt, written by several ways of running one model, side by side.

use crate::protocol::questions::Subject;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Whose model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A run: its mixture, and the base model below it.
    Run(Subject),
    /// A language model without a mixture: a directory, a GGUF file.
    Model(String),
}

/// One way of running the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pane {
    /// The model without the mixture.
    Base,
    /// The experts merged into one: by the scores they were imported with, else uniformly.
    Merged,
    /// Every site on this expert.
    Expert(usize),
    /// One whole random route; the number chooses which.
    Route(u64),
    /// The mean of the probabilities of so many random routes.
    Ensemble(usize),
}

impl Pane {
    /// Its name on screen and in the terminal.
    pub fn title(self) -> String {
        match self {
            Self::Base => "Base model".to_owned(),
            Self::Merged => "Merged".to_owned(),
            Self::Expert(expert) => format!("Expert {expert}"),
            Self::Route(number) => format!("Random route {number}"),
            Self::Ensemble(routes) => format!("Ensemble of {routes} routes"),
        }
    }
}

/// How the next token is chosen; the same for every pane.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// 0: the likeliest token; else logits are divided by it before drawing.
    pub temperature: f32,
    /// Draw among so many likeliest tokens; 0: all.
    pub top_k: usize,
    /// Draw among the likeliest tokens that together have this probability; 1: all.
    pub top_p: f32,
    /// Tokens said before are made less likely by this factor; 1: nothing is done.
    pub repetition_penalty: f32,
    /// Seed of the draws: the same for every pane.
    pub seed: u64,
}

/// Longest answers that can be asked for, in tokens.
pub const ANSWER_TOKENS: RangeInclusive<usize> = 1..=4096;

impl Default for Sampler {
    fn default() -> Self {
        Self { max_new_tokens: 64, temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlayPlan {
    /// The prompt as typed.
    pub prompt: String,
    /// What the model is told about itself; used with a chat template only.
    pub system: String,
    /// Put the prompt into the model's chat template; otherwise into the layout the run was trained with, or as it is.
    pub chat: bool,
    /// Who writes. The others are compared with the first one.
    pub panes: Vec<Pane>,
    /// How.
    pub sampler: Sampler,
}

/// A token of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlayToken {
    /// Its id.
    pub id: u32,
    /// The text it adds; several tokens may be one character.
    pub text: String,
    /// ln p of this token, by the model itself without sampler.
    pub log_prob: f32,
    /// KL(this pane ‖ first pane) in nats of what may stand here, both after the same tokens; 0 for the first pane.
    pub divergence: f32,
    /// The likeliest tokens here with their probabilities.
    pub likeliest: Vec<(String, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlayEnd {
    /// The model said so.
    #[default]
    Stop,
    /// As long as asked for, or as the model allows.
    Length,
}

/// One pane's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PaneAnswer {
    /// Who wrote it.
    pub pane: Pane,
    /// Hash of the weights that wrote it: panes with the same one are the same model.
    pub fingerprint: String,
    /// The answer.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<PlayToken>,
    /// The first token that differs from the first pane's answer; absent: none does.
    pub diverges_at: Option<usize>,
    /// Why it ended.
    pub end: PlayEnd,
    /// Seconds it took to write.
    pub seconds: f64,
}

/// All answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlayReport {
    /// What was asked.
    pub plan: PlayPlan,
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// What the model read, template included.
    pub prompt: String,
    /// One for each pane, in order.
    pub answers: Vec<PaneAnswer>,
}
