//! Optimisation, and what is measured how often.

use super::{require, within};
use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Straight down to zero at the last step: the paper.
    #[default]
    Linear,
    /// Half a cosine down to zero.
    Cosine,
    /// Stays where the warm-up left it.
    Constant,
}

/// What becomes of the activations between the forward and the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Kept, unless the estimate says that memory does not suffice.
    #[default]
    Auto,
    /// Of most layers only the input is kept; the layer is run again in the backward pass.
    On,
    /// Kept.
    Off,
}

/// Optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The seed of everything random. Same seed, same machine, same thread count: same bits.
    pub seed: u64,
    /// Optimizer steps; 0: as many as `num_train_epochs` makes.
    pub max_steps: u64,
    /// Passes over the training rows, used when `max_steps` is 0.
    pub num_train_epochs: f64,
    /// Examples in a micro-batch (each goes through the model once per pass).
    pub batch_size: usize,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up.
    pub lr_scheduler: Schedule,
    /// Share of the steps in which the rate climbs from 0. Paper: 0.06.
    pub warmup_ratio: f64,
    /// Decoupled weight decay, not on biases and norms. Paper: 0.1.
    pub weight_decay: f64,
    /// What each class counts in the loss: empty: all the same; `balanced`: the less, the more training rows it has; or one
    /// number for each class in order, separated by commas. A run keeps the numbers.
    pub class_weights: String,
    /// Share of each target token's weight spread over the whole vocabulary (language models). Paper: 0.1 for GPT-2.
    pub label_smoothing: f64,
    /// AdamW's β₁.
    pub adam_beta1: f64,
    /// AdamW's β₂.
    pub adam_beta2: f64,
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Gradients are scaled down to this global norm; 0: never. Reference: 1.
    pub max_grad_norm: f64,
    /// Also move experts that were not drawn, by momentum and decay, as older PyTorch did.
    pub update_unselected: bool,
    /// Whether layers are run again in the backward pass instead of keeping their activations: less memory, about a
    /// third more time, the same bits.
    pub recompute: Recompute,
    /// Stop after so many evaluations without a better metric; 0: never.
    pub early_stopping_patience: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            max_steps: 0,
            num_train_epochs: 3.0,
            batch_size: 32,
            gradient_accumulation_steps: 1,
            learning_rate: 1e-3,
            lr_scheduler: Schedule::Linear,
            warmup_ratio: 0.06,
            weight_decay: 0.1,
            class_weights: String::new(),
            label_smoothing: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            update_unselected: false,
            recompute: Recompute::Auto,
            early_stopping_patience: 0,
        }
    }
}

/// [`TrainConfig::class_weights`] by the shares of the classes.
pub const BALANCED: &str = "balanced";

impl TrainConfig {
    /// One number for each class; nothing where all count the same, or where `balanced` is still to be counted.
    pub fn class_weights(&self) -> Option<Vec<f64>> {
        let text = self.class_weights.trim();
        let numbers = || text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f64>>>();
        if text.is_empty() || text == BALANCED { None } else { numbers() }
    }

    pub(super) fn problems(&self, found: &mut Vec<String>) {
        require(found, self.max_steps > 0 || self.num_train_epochs.is_finite() && self.num_train_epochs > 0.0, || {
            format!("num_train_epochs is {}; choose a number above 0, or set max_steps", self.num_train_epochs)
        });
        require(found, self.max_steps <= 100_000_000 && self.num_train_epochs <= 1e6, || {
            "more than 100 million steps or a million epochs; choose fewer".to_owned()
        });
        within(found, "batch_size", self.batch_size, 1..=65_536, "choose 1 to 65536");
        within(found, "gradient_accumulation_steps", self.gradient_accumulation_steps, 1..=65_536, "choose 1 to 65536");
        let advice = "choose a number above 0, at most 10 (the paper uses 3e-4 to 5e-4)";
        within(found, "learning_rate", self.learning_rate, f64::MIN_POSITIVE..=10.0, advice);
        within(found, "warmup_ratio", self.warmup_ratio, 0.0..=1.0, "choose 0 to 1 (the paper uses 0.06)");
        within(found, "weight_decay", self.weight_decay, 0.0..=1.0, "choose 0 to 1 (the paper uses 0.1)");
        let advice = "choose at least 0 and below 1 (the paper uses 0.1)";
        let named = ["", BALANCED].contains(&self.class_weights.trim());
        let usable = self.class_weights().is_some_and(|list| list.iter().all(|w| w.is_finite() && *w > 0.0));
        require(found, named || usable, || {
            format!(
                "class_weights is {:?}; leave it empty, write balanced, or one number above 0 for each class, separated by commas",
                self.class_weights
            )
        });
        within(found, "label_smoothing", self.label_smoothing, 0.0..1.0, advice);
        require(found, (0.0..1.0).contains(&self.adam_beta1) && (0.0..1.0).contains(&self.adam_beta2), || {
            format!(
                "adam_beta1 is {} and adam_beta2 is {}; both must be at least 0 and below 1",
                self.adam_beta1, self.adam_beta2
            )
        });
        within(found, "adam_epsilon", self.adam_epsilon, f64::MIN_POSITIVE..=f64::MAX, "choose a small number above 0");
        within(found, "max_grad_norm", self.max_grad_norm, 0.0..=f64::MAX, "choose 0 (never clip) or more");
    }
}

/// Most evaluation inputs that are answered while training.
pub const MOST_SAMPLES: usize = 16;
/// Longest answer while training, in tokens.
pub const LONGEST_SAMPLE: usize = 256;

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Optimizer steps between evaluations of the merged model; 0: once an epoch.
    pub eval_steps: u64,
    /// Optimizer steps between checkpoints; 0: with every evaluation.
    pub save_steps: u64,
    /// Checkpoints kept besides the best and the last one.
    pub save_total_limit: usize,
    /// R: whole random routes measured for the band, and averaged in the ensemble.
    pub random_routes: usize,
    /// Examples in an evaluation batch.
    pub eval_batch_size: usize,
    /// Evaluation inputs that a language model answers now and then while it learns; 0: none.
    pub samples: usize,
    /// Optimizer steps between these answers; 0: with every evaluation. They are also written before the first step and
    /// after the last one.
    pub sample_steps: u64,
    /// Longest answer in tokens.
    pub sample_tokens: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            eval_steps: 0,
            save_steps: 0,
            save_total_limit: 2,
            random_routes: 5,
            eval_batch_size: 64,
            samples: 3,
            sample_steps: 0,
            sample_tokens: 48,
        }
    }
}

impl EvalConfig {
    pub(super) fn problems(&self, found: &mut Vec<String>) {
        within(found, "random_routes", self.random_routes, 1..=1000, "choose 1 to 1000");
        within(found, "eval_batch_size", self.eval_batch_size, 1..=65_536, "choose 1 to 65536");
        // They are written while training waits: few, and short.
        within(found, "eval.samples", self.samples, ..=MOST_SAMPLES, &format!("choose 0 (none) to {MOST_SAMPLES}"));
        let advice = &format!("choose 1 to {LONGEST_SAMPLE}");
        within(found, "sample_tokens", self.sample_tokens, 1..=LONGEST_SAMPLE, advice);
    }
}
