//! The playground: one prompt, answered by several variants of one model.

use crate::protocol::questions::Subject;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The model that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A run: its mixture and its base model.
    Run(Subject),
    /// A language model without a mixture: a directory, a GGUF file.
    Model(String),
}

/// A variant of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pane {
    /// The model without the mixture.
    Base,
    /// The experts merged into one: by the scores they were imported with, else uniformly.
    Merged,
    /// This expert in every adapted module.
    Expert(usize),
    /// One random route for all modules; the number is its seed.
    Route(u64),
    /// The mean of the probabilities of this number of random routes.
    Ensemble(usize),
}

impl Pane {
    /// Display name.
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

/// Sampling of the next token; the same for every pane.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// 0: the most likely token; otherwise the logits are divided by it before sampling.
    pub temperature: f32,
    /// Sample among this number of most likely tokens; 0: all.
    pub top_k: usize,
    /// Sample among the most likely tokens whose probabilities add up to this; 1: all.
    pub top_p: f32,
    /// Factor by which earlier tokens are made less likely; 1: off.
    pub repetition_penalty: f32,
    /// Seed of the draws: the same for every pane.
    pub seed: u64,
}

/// Range of the longest answer, in tokens.
pub const ANSWER_TOKENS: RangeInclusive<usize> = 1..=4096;

impl Default for Sampler {
    fn default() -> Self {
        Self { max_new_tokens: 64, temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// A question and its answer, earlier in a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayTurn {
    /// What was asked.
    pub question: String,
    /// What was answered.
    pub answer: String,
}

/// What a model without or with a mixture can be asked, and how: without its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptInfo {
    /// The chat template there is.
    pub template: TemplateUse,
    /// How prompts are laid out where no template is used, in a few words.
    pub without: String,
    /// Whether several turns can be laid out without a template.
    pub turns_without: bool,
    /// The system message that all training conversations begin with.
    pub system: Option<String>,
    /// Some inputs of the evaluation texts: those that the run answers during training.
    pub texts: Vec<PromptText>,
}

/// Whether a model has a chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateUse {
    /// Its files hold none.
    #[default]
    Absent,
    /// Its files hold one; no run has been trained with it.
    Present,
    /// The run was trained with it.
    Trained,
}

/// An input of the evaluation texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptText {
    /// Its system message, if it has one.
    pub system: String,
    /// Its earlier turns.
    pub earlier: Vec<PlayTurn>,
    /// What is asked last, or the beginning of a plain text.
    pub prompt: String,
}

/// A prompt with its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlayPlan {
    /// The conversation so far.
    pub earlier: Vec<PlayTurn>,
    /// The prompt as typed.
    pub prompt: String,
    /// System message; used with a chat template only.
    pub system: String,
    /// Put the conversation into the chat template: that of the run, else the model's own. Otherwise it is laid out as the
    /// run's texts are where they have no template, else it is continued as typed.
    pub chat: bool,
    /// Tokens that every answer begins with: an earlier answer up to some word, perhaps with another word there.
    pub prefix: Vec<u32>,
    /// The variants; the others are compared with the first one.
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
    /// KL(this pane ‖ first pane) in nats of the next-token distributions after the same tokens; 0 for the first pane.
    pub divergence: f32,
    /// The most likely tokens here.
    pub likeliest: Vec<LikelyToken>,
}

/// A token that could stand at some place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LikelyToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub p: f32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlayEnd {
    /// The model ended the answer.
    #[default]
    Stop,
    /// The longest answer, or the longest input of the model.
    Length,
}

/// One pane's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PaneAnswer {
    /// The variant.
    pub pane: Pane,
    /// Hash of the weights: panes with the same one are the same model.
    pub fingerprint: String,
    /// The answer, without the plan's prefix.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<PlayToken>,
    /// The first token that differs from the first pane's answer; absent: none does.
    pub diverges_at: Option<usize>,
    /// Why it ended.
    pub end: PlayEnd,
    /// Seconds of generation.
    pub seconds: f64,
}

/// All answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlayReport {
    /// The prompt with its settings.
    pub plan: PlayPlan,
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// The prompt with the template.
    pub prompt: String,
    /// The text of the plan's prefix.
    pub prefix: String,
    /// One for each pane, in order.
    pub answers: Vec<PaneAnswer>,
}
