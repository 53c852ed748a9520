//! Generation of text: greedy, sampled, or by beam search, along any route through the mixture.
//!
//! | file | contents |
//! |---|---|
//! | [`routes`] | which experts run |
//! | [`cached_decoder`] | the model with its key-value cache, along one route or averaged over several |
//! | [`logits_processors`] | repetition penalty and forbidden n-grams |
//! | [`sample`] | the best token, or a drawn one |
//! | `batch` | greedy and sampled generation |
//! | [`beam`], `beam_state` | beam search, as transformers or as the paper's decoder |
//! | [`stops`] | text as it becomes readable, and stop strings |
//! | [`score`] | texts for the inputs of a data set, and their scores against the references |
//!
//! Nothing is padded: texts are added to the batch as others end. The draws of a text depend on the seed and its number
//! alone.

mod batch;
pub mod beam;
mod beam_settings;
mod beam_state;
pub mod cached_decoder;
pub mod logits_processors;
pub mod routes;
pub mod sample;
pub mod score;
pub mod stops;

pub use beam_settings::{Beams, EarlyStop, Search};
pub use logits_processors::{Rules, Scope};
pub use routes::Routes;
pub use sample::Sampling;
pub use score::{ScoreOptions, Scored, score_inputs};

use crate::data::text::TextCodec;
use crate::error::{Error, ErrorKind, Result};
use crate::model::CausalLm;
use crate::rng::SeedStream;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The likeliest token.
    Greedy,
    /// Drawn.
    Sample(Sampling),
    /// Beam search.
    Beam(Beams),
}

/// How texts are generated.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How the next token is chosen.
    pub method: Method,
    /// Against repetitions.
    pub rules: Rules,
    /// Which experts run.
    pub routes: Routes,
    /// Longest text, in tokens, at least 1; the model's own limit ends a text too.
    pub max_new_tokens: usize,
    /// Tokens that end a text.
    pub stop_ids: Vec<u32>,
    /// Strings that end a text; they do not belong to it.
    pub stop_strings: Vec<String>,
    /// Seed of draws and random routes.
    pub seed: SeedStream,
    /// Texts that are written side by side, at least 1.
    pub batch_size: usize,
}

impl GenerateOptions {
    /// Greedy, up to `max_new_tokens`, ended by these tokens.
    pub fn greedy(max_new_tokens: usize, stop_ids: &[u32]) -> Self {
        Self {
            method: Method::Greedy,
            rules: Rules::default(),
            routes: Routes::Plain,
            max_new_tokens,
            stop_ids: stop_ids.to_vec(),
            stop_strings: Vec::new(),
            seed: SeedStream::new(0),
            batch_size: 8,
        }
    }

    fn check(&self, prompts: &[Vec<u32>], codec: Option<&TextCodec>) -> Result<()> {
        let wrong = |what: &str| Err(Error::config(what));
        self.rules.check()?;
        match self.method {
            Method::Greedy => {}
            Method::Sample(sampling) => sampling.check()?,
            Method::Beam(beams) => beams.check()?,
        }
        if self.max_new_tokens == 0 || self.batch_size == 0 {
            return wrong("max_new_tokens and batch_size must be at least 1");
        }
        if self.stop_strings.iter().any(String::is_empty) {
            return wrong("a stop string is empty; leave it out");
        }
        if !self.stop_strings.is_empty() && codec.is_none() {
            return Err(Error::internal("stop strings without a tokenizer"));
        }
        prompts.iter().position(Vec::is_empty).map_or(Ok(()), |index| {
            let number = index + 1;
            Err(Error::data(format!(
                "prompt {number} has no token; give at least one, such as the model's start token"
            )))
        })
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// A token that ends texts.
    Stop,
    /// A string that ends texts.
    StopString,
    /// The longest text that was asked for.
    Length,
    /// The longest text the model can read.
    Context,
}

/// One text.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Its tokens, without the one that ended it.
    pub ids: Vec<u32>,
    /// The token that ended it.
    pub end: Option<u32>,
    /// Without special tokens, up to a stop string; empty without a tokenizer.
    pub text: String,
    /// Log-probability of each token (and of the one that ended it) under the model, before any rule. In nats
    pub log_probs: Vec<f32>,
    /// What beam search compared: the sum of log-probabilities, divided by the length penalty; else the plain sum.
    pub score: f64,
    /// Why it ended.
    pub finish: Finish,
}

/// An event of generation.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A token was chosen. Beam search chooses none before its end.
    Token {
        /// Index of the prompt.
        text: usize,
        /// The token.
        id: u32,
        /// Log-probabilities of all tokens, before any rule. `[vocab]`
        log_probs: &'a [f32],
        /// The text that became readable with it; empty without a tokenizer or inside a character.
        piece: &'a str,
    },
    /// The text ended while a piece was held back: the end of a character, or the start of a stop string.
    Rest {
        /// Number of the prompt.
        text: usize,
        /// The piece.
        piece: &'a str,
    },
}

/// Callbacks.
pub struct Hooks<'a> {
    /// Called after each step with the share done, 0 to 1; false ends it at once.
    pub go_on: &'a dyn Fn(f64) -> bool,
    /// Called for each token, and for what was held back at the end of a text.
    pub tell: &'a mut dyn FnMut(Event<'_>),
}

impl Hooks<'_> {
    fn step(&self, share: f64) -> Result<()> {
        let go_on = (self.go_on)(share.clamp(0.0, 1.0));
        if go_on { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "writing was cancelled")) }
    }
}

/// Continues every prompt. The texts are in the order of the prompts. An error of kind [`ErrorKind::Cancelled`] when
/// [`Hooks::go_on`] said so.
pub fn generate(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    codec: Option<&TextCodec>,
    options: &GenerateOptions,
    hooks: &mut Hooks<'_>,
) -> Result<Vec<Generated>> {
    options.check(prompts, codec)?;
    let most = model.base.spec.max_length();
    if let Some((index, prompt)) = prompts.iter().enumerate().find(|(_, prompt)| prompt.len() > most) {
        let (number, tokens) = (index + 1, prompt.len());
        return Err(Error::data(format!("prompt {number} has {tokens} tokens; this model takes {most}")));
    }
    match options.method {
        Method::Beam(beams) => beam::write(model, prompts, codec, options, beams, hooks),
        Method::Greedy | Method::Sample(_) => batch::write(model, prompts, codec, options, hooks),
    }
}
