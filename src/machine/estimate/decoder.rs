//! Decoders.

use crate::config::RunConfig;
use crate::data::text::TextDataset;
use crate::eval;
use crate::machine::estimate::{ActivationFormat, Load, StepConditions};
use crate::model::DecoderSpec;
use crate::model::loras::Slot;
use crate::nn::kernels::vocab_loss::MAX_LOGITS;

/// Bytes a training step has in use at its peak beyond weights and optimizer: activations, gradients, working memory.
/// `learned`: target tokens, all passes counted.
pub fn decoder_step_bytes(spec: &DecoderSpec, step: &StepConditions, learned: f64) -> f64 {
    let StepConditions { mixtures, format, load, threads, recompute } = *step;
    let Widths { d, f, q, qkv, inner } = Widths::of(spec);
    let (layers, vocabulary) = (spec.num_layers as f64, spec.vocab_size as f64);
    let Load { tokens, longest, .. } = load;
    let (b, outer) = (format.bytes, mixtures.at(Slot::Outer));
    // Both norms with each row's 1/σ; q, k, v; the inner layer; attention's output where it has a LoRA.
    let layer = tokens * (b * (2.0 * d + qkv + inner + q * mixtures.at(Slot::Out)) + 4.0 * 2.0 + mixtures.kept(format));
    // The stream between the layers: the sum, in single precision, and what is still to be added to it.
    let stream = tokens * (4.0 + b) * d;
    let kept = if recompute { (layers - 1.0) * stream + layer } else { layers * layer };
    // The final norm, the hidden states and their gradient.
    let ends = 4.0 * learned * 3.0 * d;
    let slice = (MAX_LOGITS as f64).min(learned * vocabulary);
    let rounded = if format.narrow_head { 2.0 } else { 0.0 };
    let loss = (4.0 + rounded) * slice + 4.0 * learned.min(slice / vocabulary) * 2.0 * d;
    // Backward through one layer: the stream's gradients, of which single precision shares one with the block, then the
    // inner gradient (with a LoRA behind the inner layer, its output once more), or attention's.
    let own = if b < 4.0 { b } else { 0.0 };
    let stream_back = tokens * d * (4.0 + own + 2.0 * b);
    let ffn = stream_back + tokens * b * (f * (1.0 + outer) + d * mixtures.at(Slot::Inner));
    let attention = stream_back
        + tokens * b * (q + qkv + d * mixtures.at(Slot::Qkv))
        + 4.0 * threads as f64 * 3.0 * longest * longest;
    let gradients = 4.0 * layers * mixtures.drawn;
    kept + ends + f64::max(stream + loss, ffn.max(attention)) + gradients
}

/// Forward only: one layer's working memory at a time, the hidden states of all routes, and slices of logits.
pub(crate) fn evaluation_bytes(
    spec: &DecoderSpec,
    config: &RunConfig,
    format: ActivationFormat,
    data: &TextDataset,
) -> f64 {
    let Widths { d, f, q, qkv, inner } = Widths::of(spec);
    let tokens = eval::largest_batch(data, config.eval.eval_batch_size) as f64;
    let share = data.learned() as f64 / data.tokens().max(1) as f64;
    let layer = tokens * (4.0 * d + format.bytes * (2.0 * d + f64::max(qkv + q, inner + f)));
    let routes = tokens * share * d * (config.eval.random_routes as f64 + 1.0);
    let slice = (MAX_LOGITS as f64).min(2.0 * tokens * share * spec.vocab_size as f64);
    layer + 4.0 * (routes + slice)
}

/// Values of one token.
struct Widths {
    /// The stream.
    d: f64,
    /// The feed-forward block after its nonlinearity.
    f: f64,
    /// Queries.
    q: f64,
    /// Queries, keys and values.
    qkv: f64,
    /// The feed-forward block before its nonlinearity.
    inner: f64,
}

impl Widths {
    fn of(spec: &DecoderSpec) -> Self {
        let f = spec.intermediate_size as f64;
        Self {
            d: spec.hidden_size as f64,
            f,
            q: (spec.num_heads * spec.head_dim) as f64,
            qkv: spec.qkv_width() as f64,
            inner: if spec.gated() { 2.0 * f } else { f },
        }
    }
}
