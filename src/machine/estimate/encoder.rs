//! Encoders.

use crate::config::{Method, RunConfig};
use crate::machine::estimate::{ActivationFormat, Load, StepConditions};
use crate::model::EncoderSpec;
use crate::model::loras::Slot;

/// Bytes a training step has in use at its peak beyond weights and optimizer: activations, gradients, working memory.
pub fn step_bytes(spec: &EncoderSpec, config: &RunConfig, step: &StepConditions) -> f64 {
    let StepConditions { mixtures, format, load, threads, recompute } = *step;
    let (d, f) = (spec.hidden_size as f64, spec.intermediate_size as f64);
    let layers = spec.num_layers as f64;
    let Load { tokens, sequences, longest } = load;
    let full = config.model.method == Method::Full;
    let b = format.bytes;
    let inputs = [Slot::Qkv, Slot::Out, Slot::Inner].map(|slot| if full { d } else { d * mixtures.at(slot) });
    // After attention: both norms; the inner layer; each row's 1/σ; what trained modules keep.
    let after = b * (2.0 * d + f + inputs[1] + inputs[2]) + 4.0 * 2.0 + mixtures.kept(format);
    // q, k and v before it.
    let layer = tokens * (b * (3.0 * d + inputs[0]) + after);
    // The last layer's keys and values; the rest for one row a sequence.
    let last = tokens * b * (2.0 * d + inputs[0]) + sequences * (b * 2.0 * d + after);
    let embeddings = tokens * (b * d + 4.0 * 5.0);
    // In the backward pass of the layer below the last: dy, dh, dx1, two of the norm, dattended, dqkv, and the inner
    // gradient; with a LoRA behind it, the inner layer's output once more.
    let working = tokens * b * (9.0 * d + f + f * mixtures.at(Slot::Outer));
    let attention = threads as f64 * 3.0 * longest * longest;
    let kept = match (config.model.method, recompute) {
        // Nothing goes down below the head.
        (Method::HeadOnly, _) => 0.0,
        (_, true) => (layers - 1.0).max(0.0) * tokens * b * d + layer,
        (_, false) => (layers - 1.0).max(0.0) * layer,
    };
    // Gradients: of the head, of the experts drawn, of everything when everything is trained.
    let gradients = d * d
        + match config.model.method {
            Method::HeadOnly => 0.0,
            Method::Adamix => layers * mixtures.drawn,
            Method::Full => (spec.vocab_size + spec.max_positions) as f64 * d + spec.matmul_parameters() as f64,
        };
    let forward_only = tokens * b * (7.0 * d + 2.0 * f);
    let peak = if kept > 0.0 && layers > 1.0 { kept + working } else { forward_only + last };
    embeddings + peak + 4.0 * (attention + gradients)
}

/// Forward only: one layer's working memory at a time, for a batch of the longest rows.
pub(crate) fn evaluation_bytes(
    spec: &EncoderSpec,
    config: &RunConfig,
    format: ActivationFormat,
    lengths: &[usize],
) -> f64 {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let tokens: usize = lengths.iter().take(config.eval.eval_batch_size).sum();
    format.bytes * tokens as f64 * (9.0 * spec.hidden_size as f64 + 2.0 * spec.intermediate_size as f64)
}
