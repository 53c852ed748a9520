//! How much memory a run will need at its peak, from shapes alone; and whether activations can be kept.
//!
//! The counts of `encoder` and `decoder` follow `model::layer` and `model::decoder` tensor by tensor; a test compares them
//! with what an allocator counts.

mod decoder;
mod encoder;

pub use decoder::decoder_step_bytes;
pub use encoder::step_bytes;

use crate::config::{Method, MixtureKind, Recompute, RunConfig};
use crate::data::order::BatchRule;
use crate::data::{Dataset, text::TextDataset};
use crate::mixture::Side;
use crate::model::decoder::Decoder;
use crate::model::loras::{Module, Slot};
use crate::model::network::LayerModules;
use crate::model::{BaseModel as _, Encoder, Network as _};
use crate::nn::Weight;
use crate::nn::kernels::device;
use crate::nn::kernels::gemm;
use crate::tensor::DType;
use crate::train::{ModelAndData, step};

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
    /// Of one micro-batch of rows of these lengths: the mean length and three standard deviations of the sum above it,
    /// or what a batch may hold where it is filled by tokens.
    pub fn of(config: &RunConfig, all: &[usize]) -> Self {
        let n = all.len().max(1) as f64;
        let lengths = || all.iter().map(|&length| length as f64);
        let mean = lengths().sum::<f64>() / n;
        let variance = lengths().map(|length| (length - mean).powi(2)).sum::<f64>() / n;
        let longest = lengths().fold(1.0, f64::max);
        let passes = step::passes(config) as f64;
        let (rows, tokens) = match BatchRule::of(config) {
            BatchRule::Examples(rows) => {
                let rows = rows.min(all.len()) as f64;
                (rows, (rows * mean + 3.0 * (rows * variance).sqrt()).min(rows * longest))
            }
            BatchRule::Tokens(most) => {
                let tokens = (most as f64).max(longest).min(n * mean);
                ((tokens / mean.max(1.0)).ceil(), tokens)
            }
        };
        Self { tokens: tokens * passes, sequences: rows * passes, longest }
    }
}

/// In what formats a base model computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationFormat {
    /// Bytes of an activation.
    pub bytes: f64,
    /// Whether logits' gradients are rounded for the head's product.
    pub narrow_head: bool,
}

impl ActivationFormat {
    /// Of an encoder.
    pub fn of_encoder(encoder: &Encoder) -> Self {
        Self { bytes: encoder.activation_dtype().size_in_bytes() as f64, narrow_head: false }
    }

    /// Of a decoder.
    pub fn of_decoder(decoder: &Decoder) -> Self {
        let narrow_head = match &decoder.head {
            Weight::Dense(head) => head.dtype() == DType::BF16 && gemm::multiplies_bf16(),
            Weight::Quantised(_) => decoder.activation_dtype() == DType::BF16,
        };
        Self { bytes: decoder.activation_dtype().size_in_bytes() as f64, narrow_head }
    }
}

/// What the mixtures of one layer keep and need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixtures {
    /// Values of the base model's format kept for each token, besides the inputs of linear layers.
    pub activations: f64,
    /// Values kept for each token in single precision.
    pub single: f64,
    /// The linear layers with a LoRA, in the order of the slots.
    pub loras: [bool; 4],
    /// Values of the gradients of one draw.
    pub drawn: f64,
}

impl Mixtures {
    /// In a layer of width `d` with these LoRA modules, if it has any.
    pub fn new(config: &RunConfig, d: usize, layer: Option<&LayerModules>) -> Self {
        let mut sum = Self::default();
        if config.model.method != Method::Adamix {
            return sum;
        }
        if config.mixture.kind == MixtureKind::Adapter {
            let (d, r) = (d as f64, config.mixture.adapter_size as f64);
            return Self { activations: d, single: r, drawn: 2.0 * d * r, ..sum };
        }
        for (slot, placed) in layer.into_iter().flat_map(LayerModules::loras) {
            let Module::Mixture(lora) = &placed.module else { continue };
            let values = |side: Side| lora.bank(side).weight().elem_count() as f64 / lora.bank(side).experts() as f64;
            sum.single += lora.bank(Side::Down).weight().dim(1).unwrap_or(0) as f64;
            sum.loras[slot as usize] = true;
            sum.drawn += values(Side::Down) + values(Side::Up);
        }
        sum
    }

    /// Bytes kept for each token.
    fn kept(&self, format: ActivationFormat) -> f64 {
        format.bytes * self.activations + 4.0 * self.single
    }

    /// 1 where this linear layer has a LoRA, else 0.
    fn at(&self, slot: Slot) -> f64 {
        f64::from(u8::from(self.loras[slot as usize]))
    }
}

/// What the memory of a training step depends on, besides the model's shape and the settings.
#[derive(Clone, Copy, Debug)]
pub struct StepConditions {
    /// What the mixtures of one layer keep.
    pub mixtures: Mixtures,
    /// Format of the activations.
    pub format: ActivationFormat,
    /// The largest batch.
    pub load: Load,
    /// Compute threads.
    pub threads: usize,
    /// Whether activations are computed again in the backward pass.
    pub recompute: bool,
}

/// Where the memory goes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// The program itself, its tokenizer, and the rows.
    pub program: f64,
    /// The frozen base model.
    pub weights: f64,
    /// Trained tensors, their moments and the best checkpoint's copy.
    pub trained: f64,
    /// Of a training step or an evaluation, whichever is larger.
    pub step: f64,
}

impl Need {
    /// Of a run with these settings.
    pub fn of(config: &RunConfig, subject: &ModelAndData, recompute: bool) -> Self {
        let counts = subject.model().counts();
        let threads = rayon::current_num_threads();
        let (weights, step, vocabulary, data) = match subject {
            ModelAndData::Classifier(model, task) => {
                let (spec, layer) = (&model.base.spec, model.base.modules().next());
                let mixtures = Mixtures::new(config, spec.hidden_size, layer);
                let load = Load::of(config, &lengths(&task.train));
                let format = ActivationFormat::of_encoder(&model.base);
                let step = StepConditions { mixtures, format, load, threads, recompute };
                let step = step_bytes(spec, config, &step).max(encoder::evaluation_bytes(
                    spec,
                    config,
                    format,
                    &lengths(&task.dev),
                ));
                // Biases and norms are wider than a narrow base model's matrices, and few.
                let weights = model.dtype().size_in_bytes() * counts.base;
                (weights, step, spec.vocab_size, data_bytes(&task.train) + data_bytes(&task.dev))
            }
            ModelAndData::Lm(model, texts) => {
                let (spec, layer) = (&model.base.spec, model.base.modules().next());
                let mixtures = Mixtures::new(config, spec.hidden_size, layer);
                let load = Load::of(config, &texts.train.lengths());
                let learned = load.tokens * texts.train.learned() as f64 / texts.train.tokens().max(1) as f64;
                let format = ActivationFormat::of_decoder(&model.base);
                let step = StepConditions { mixtures, format, load, threads, recompute };
                let step = decoder_step_bytes(spec, &step, learned)
                    .max(decoder::evaluation_bytes(spec, config, format, &texts.dev));
                let weights = model.base.weight_bytes();
                (weights, step, spec.vocab_size, text_bytes(&texts.train) + text_bytes(&texts.dev))
            }
        };
        Self {
            program: PROGRAM + TOKENIZER * vocabulary as f64 + data,
            weights: weights as f64,
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

fn lengths(data: &Dataset) -> Vec<usize> {
    data.encoded.iter().map(|text| text.ids.len()).collect()
}

/// Texts and token ids with their bookkeeping.
fn data_bytes(data: &Dataset) -> f64 {
    let text = |row: &crate::data::Row| row.text.len() + row.pair.as_ref().map_or(0, String::len);
    let texts: usize = data.rows.iter().map(text).sum();
    (texts + 8 * data.tokens() + 176 * data.len()) as f64
}

/// The same of texts.
fn text_bytes(data: &TextDataset) -> f64 {
    let turns = || data.examples.iter().flat_map(|example| &example.turns);
    let texts: usize = turns().map(|turn| turn.text.len()).sum();
    (texts + 80 * turns().count() + 5 * data.tokens() + 176 * data.len()) as f64
}

/// Whether this run computes activations again, and what its user should know about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// [`Recompute::On`] or [`Recompute::Off`].
    pub recompute: Recompute,
    /// In words, where it was decided by the estimate and is not what one expects.
    pub note: Option<String>,
}

/// Decides [`Recompute::Auto`]: by what is free now, with the model loaded. `free`: bytes of the host's memory, where known;
/// that of a GPU of any vendor is asked for here.
pub fn settle(config: &RunConfig, subject: &ModelAndData, free: Option<u64>) -> Settled {
    let kept = || Need::of(config, subject, false).to_come();
    let again = || Need::of(config, subject, true).to_come();
    match (config.train.recompute, free) {
        (Recompute::Auto, Some(free)) if subject.model().device().is_cpu() => decide(kept(), again(), free),
        (Recompute::Auto, _) if subject.model().device().is_gpu() => match device::memory(subject.model().device()) {
            Some((free, _)) => decide(kept(), again(), free),
            None => Settled { recompute: Recompute::Off, note: None },
        },
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
    use crate::bench::Shape;
    use crate::config::{MixtureConfig, Task};
    use crate::model::EncoderSpec;

    fn bytes(config: &RunConfig, spec: &EncoderSpec, recompute: bool) -> f64 {
        let load = Load { tokens: 2048.0, sequences: 32.0, longest: 64.0 };
        let mixtures = Mixtures::new(config, spec.hidden_size, None);
        let format = ActivationFormat { bytes: 4.0, narrow_head: false };
        step_bytes(spec, config, &StepConditions { mixtures, format, load, threads: 2, recompute })
    }

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
        let share = |name: &str| {
            let spec = Shape::by_name(name).unwrap().spec().unwrap();
            bytes(&config, &spec, true) / bytes(&config, &spec, false)
        };
        let (lab, base, large) = (share("lab"), share("roberta-base"), share("roberta-large"));
        assert!(lab < 0.85 && base < 0.4 && large < 0.25 && large < base, "{lab} {base} {large}");
        let head = RunConfig { mixture: MixtureConfig::default(), ..RunConfig::default() };
        let head_only = |recompute| {
            let mut config = head.clone();
            config.model.method = Method::HeadOnly;
            let spec = Shape::by_name("minilm").unwrap().spec().unwrap();
            bytes(&config, &spec, recompute)
        };
        assert_eq!(head_only(true), head_only(false), "nothing is kept, so nothing is saved");
    }

    #[test]
    fn the_load_is_a_large_batch_but_a_possible_one() {
        let mut config = RunConfig::default();
        config.train.batch_size = 4;
        let even = Load::of(&config, &[10; 50]);
        assert_eq!((even.tokens, even.sequences, even.longest), (80.0, 8.0, 10.0));
        let mixed = Load::of(&config, &[5, 15].repeat(25));
        assert!(mixed.tokens > 80.0 && mixed.tokens <= 120.0, "{mixed:?}");
        config.train.batch_size = 500;
        assert_eq!(Load::of(&config, &[10; 50]).sequences, 100.0);
        // Filled by tokens: as many as are allowed, or as there are.
        config.text.max_tokens_per_batch = 200;
        assert_eq!(Load::of(&config, &[10; 50]).sequences, 100.0, "only texts are");
        config.data.task = Task::Text;
        let filled = Load::of(&config, &[10; 50]);
        assert_eq!((filled.tokens, filled.sequences), (400.0, 40.0));
        assert_eq!(Load::of(&config, &[10; 5]).tokens, 100.0);
    }
}
