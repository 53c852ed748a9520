//! How much memory a run will need at its peak, from shapes alone; and whether activations can be kept.
//!
//! The largest part of a step is what the forward pass leaves for the backward pass. The counts below follow
//! `model::layer` tensor by tensor; a test holds them to what an allocator counts.

use crate::config::{Method, Recompute, RunConfig};
use crate::data::{Dataset, TaskData};
use crate::model::{Classifier, EncoderSpec};
use crate::train::step;

/// The program, its libraries, threads and caches.
const PROGRAM: f64 = 34e6;
/// A tokenizer's tables, for each token it knows.
const TOKENIZER: f64 = 700.0;
/// Freed blocks that the allocator has not found a use for yet, as a share of a step's memory.
const SLACK: f64 = 0.15;
/// Of the free memory, what a run may take without asking for trouble.
const USABLE: f64 = 0.9;

/// The largest batch that is likely to come. All passes counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Tokens.
    pub tokens: f64,
    /// Sequences.
    pub sequences: f64,
    /// Tokens of the longest sequence.
    pub longest: f64,
}

impl Load {
    /// Of one micro-batch of a run: the mean length and three standard deviations of the sum above it.
    pub fn of(config: &RunConfig, data: &Dataset) -> Self {
        let n = data.len().max(1) as f64;
        let lengths = || data.encoded.iter().map(|row| row.len() as f64);
        let mean = lengths().sum::<f64>() / n;
        let variance = lengths().map(|length| (length - mean).powi(2)).sum::<f64>() / n;
        let longest = lengths().fold(1.0, f64::max);
        let rows = config.train.batch_size.min(data.len()) as f64;
        let tokens = (rows * mean + 3.0 * (rows * variance).sqrt()).min(rows * longest);
        let passes = step::passes(config) as f64;
        Self { tokens: tokens * passes, sequences: rows * passes, longest }
    }
}

/// Bytes a training step has in use at its peak beyond weights and optimizer: activations, gradients, working memory.
pub fn step_bytes(spec: &EncoderSpec, config: &RunConfig, load: Load, threads: usize, recompute: bool) -> f64 {
    let (d, f, r) = (spec.hidden_size as f64, spec.intermediate_size as f64, config.mixture.adapter_size as f64);
    let layers = spec.num_layers as f64;
    let Load { tokens, sequences, longest } = load;
    let full = config.model.method == Method::Full;
    let adapter = if config.model.method == Method::Adamix { d + r } else { 0.0 };
    let inputs = if full { 3.0 * d } else { 0.0 };
    // q, k, v; both norms; the inner layer; the adapter's input and bottleneck; each row's 1/σ.
    let layer = tokens * (3.0 * d + 2.0 * d + f + adapter + inputs + 2.0);
    // The last layer's keys and values; the rest for one row a sequence.
    let last = tokens * (2.0 * d + if full { d } else { 0.0 }) + sequences * (4.0 * d + f + adapter + inputs);
    let embeddings = tokens * (d + 5.0);
    // In the backward pass of the layer below the last: dy, dh, dx1, two of the norm, dattended, dqkv, and the inner gradient.
    let working = tokens * (9.0 * d + f);
    let attention = threads as f64 * 3.0 * longest * longest;
    let kept = match (config.model.method, recompute) {
        // Nothing goes down below the head.
        (Method::HeadOnly, _) => 0.0,
        (_, true) => (layers - 1.0).max(0.0) * tokens * d + layer,
        (_, false) => (layers - 1.0).max(0.0) * layer,
    };
    // Gradients: of the head, of the experts drawn, of everything when everything is trained.
    let gradients = d * d
        + match config.model.method {
            Method::HeadOnly => 0.0,
            Method::Adamix => layers * 2.0 * r * d,
            Method::Full => (spec.vocab_size + spec.max_positions) as f64 * d + spec.matmul_parameters() as f64,
        };
    let forward_only = tokens * (7.0 * d + 2.0 * f);
    let peak = if kept > 0.0 && layers > 1.0 { kept + working } else { forward_only + last };
    4.0 * (embeddings + peak + attention + gradients)
}

/// Where the memory goes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// The program itself, its tokenizer, and the rows.
    pub program: f64,
    /// The frozen trunk.
    pub weights: f64,
    /// Trained tensors, their moments and the best checkpoint's copy.
    pub trained: f64,
    /// Of a training step or an evaluation, whichever is larger.
    pub step: f64,
}

impl Need {
    /// Of a run with these settings.
    pub fn of(config: &RunConfig, model: &Classifier, task: &TaskData, recompute: bool) -> Self {
        let (spec, counts) = (model.encoder().spec(), model.counts());
        let threads = rayon::current_num_threads();
        let step = step_bytes(spec, config, Load::of(config, &task.train), threads, recompute);
        let step = step.max(evaluation_bytes(spec, config, &task.dev));
        Self {
            program: PROGRAM + TOKENIZER * spec.vocab_size as f64 + data_bytes(&task.train) + data_bytes(&task.dev),
            weights: 4.0 * counts.trunk as f64,
            trained: 4.0 * 4.0 * counts.trained as f64,
            step: step * (1.0 + SLACK),
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        (self.program + self.weights + self.trained + self.step) as u64
    }

    /// What is still to come once the model is loaded.
    pub fn to_come(&self) -> u64 {
        (0.75 * self.trained + self.step) as u64
    }
}

/// Forward only: one layer's working memory at a time, for a batch of the longest rows.
fn evaluation_bytes(spec: &EncoderSpec, config: &RunConfig, data: &Dataset) -> f64 {
    let mut lengths: Vec<usize> = data.encoded.iter().map(crate::data::Encoded::len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let tokens: usize = lengths.iter().take(config.eval.eval_batch_size).sum();
    4.0 * tokens as f64 * (9.0 * spec.hidden_size as f64 + 2.0 * spec.intermediate_size as f64)
}

/// Texts and token ids with their bookkeeping.
fn data_bytes(data: &Dataset) -> f64 {
    let text = |row: &crate::data::Row| row.text.len() + row.pair.as_ref().map_or(0, String::len);
    let texts: usize = data.rows.iter().map(text).sum();
    (texts + 8 * data.tokens() + 176 * data.len()) as f64
}

/// Whether this run computes activations again, and what its user should know about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// [`Recompute::On`] or [`Recompute::Off`].
    pub recompute: Recompute,
    /// In words, where it was decided by the estimate and is not what one expects.
    pub note: Option<String>,
}

/// Decides [`Recompute::Auto`]: by what is free now, with the model loaded. `free`: bytes, where known.
pub fn settle(config: &RunConfig, model: &Classifier, task: &TaskData, free: Option<u64>) -> Settled {
    let kept = || Need::of(config, model, task, false).to_come();
    let again = || Need::of(config, model, task, true).to_come();
    match (config.train.recompute, free) {
        (Recompute::Auto, Some(free)) if model.encoder().device().is_cpu() => decide(kept(), again(), free),
        (Recompute::On, _) => Settled { recompute: Recompute::On, note: None },
        _ => Settled { recompute: Recompute::Off, note: None },
    }
}

fn decide(kept: u64, again: u64, free: u64) -> Settled {
    let mb = |bytes: u64| bytes / 1_000_000;
    if kept as f64 <= USABLE * free as f64 || again >= kept {
        return Settled { recompute: Recompute::Off, note: None };
    }
    let note = format!(
        "memory is short: activations are computed again in the backward pass, which takes about {} MB instead of {} MB \
         of the {} MB that are free, a third more time, and gives the same result (train.recompute = auto)",
        mb(again),
        mb(kept),
        mb(free)
    );
    Settled { recompute: Recompute::On, note: Some(note) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MixtureConfig;
    use crate::data::{Encoded, Row, Target};
    use crate::engine::bench::Shape;

    #[test]
    fn auto_looks_at_what_is_free() {
        let (kept, again) = (1_000_000_000, 300_000_000);
        assert_eq!(decide(kept, again, 2_000_000_000), Settled { recompute: Recompute::Off, note: None });
        let short = decide(kept, again, 1_050_000_000);
        assert_eq!(short.recompute, Recompute::On);
        let note = short.note.unwrap();
        assert!(["300 MB", "1000 MB", "1050 MB"].iter().all(|words| note.contains(words)), "{note}");
        // Where it would not help it is not done.
        assert_eq!(decide(kept, kept, 1).recompute, Recompute::Off);
    }

    #[test]
    fn recomputing_needs_less_and_more_so_with_more_layers() {
        let config = RunConfig::default();
        let load = Load { tokens: 2048.0, sequences: 32.0, longest: 64.0 };
        let share = |name: &str| {
            let spec = Shape::by_name(name).unwrap().spec().unwrap();
            let bytes = |recompute| step_bytes(&spec, &config, load, 2, recompute);
            bytes(true) / bytes(false)
        };
        let (lab, base, large) = (share("lab"), share("roberta-base"), share("roberta-large"));
        assert!(lab < 0.85 && base < 0.4 && large < 0.25 && large < base, "{lab} {base} {large}");
        let head = RunConfig { mixture: MixtureConfig::default(), ..RunConfig::default() };
        let head_only = |recompute| {
            let mut config = head.clone();
            config.model.method = Method::HeadOnly;
            let spec = Shape::by_name("minilm").unwrap().spec().unwrap();
            step_bytes(&spec, &config, load, 2, recompute)
        };
        assert_eq!(head_only(true), head_only(false), "nothing is kept, so nothing is saved");
    }

    #[test]
    fn the_load_is_a_large_batch_but_a_possible_one() {
        let row = |n: usize| Encoded { ids: vec![1; n], type_ids: vec![0; n], truncated: false };
        let rows = |lengths: &[usize]| Dataset {
            rows: vec![Row { text: String::new(), pair: None, target: Target::Class(0) }; lengths.len()],
            encoded: lengths.iter().map(|&n| row(n)).collect(),
        };
        let mut config = RunConfig::default();
        config.train.batch_size = 4;
        let even = Load::of(&config, &rows(&[10; 50]));
        assert_eq!((even.tokens, even.sequences, even.longest), (80.0, 8.0, 10.0));
        let mixed = Load::of(&config, &rows(&[5, 15].repeat(25)));
        assert!(mixed.tokens > 80.0 && mixed.tokens <= 120.0, "{mixed:?}");
        config.train.batch_size = 500;
        assert_eq!(Load::of(&config, &rows(&[10; 50])).sequences, 100.0);
    }
}
