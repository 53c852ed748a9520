//! Training of the base model itself: names of its tensors, gradients of its tables and head.

use super::layer::LayerNames;
use super::read::Segments;
use super::{Decoder, DecoderFamily};
use crate::error::{Error, Result};
use crate::nn::{Dropout, Grads, Linear, ParamId, Params, Weight};
use candle_core::Tensor;

/// Where the gradients of the tables and of the head go.
#[derive(Clone, Copy, Debug)]
pub struct TrainedSegments {
    tokens: ParamId,
    positions: Option<ParamId>,
    /// That of `tokens` where they are tied: both contributions are added up.
    head: ParamId,
}

/// What the gradients of the embedding tables need: the tokens of all passes.
#[derive(Debug)]
pub(super) struct EmbeddingSaved {
    pub(super) tokens: Vec<u32>,
    pub(super) drop: Dropout,
}

fn layer_names(family: DecoderFamily, i: usize) -> LayerNames {
    let (prefix, names) = if family == DecoderFamily::Gpt2 {
        ("h", ["ln_1", "attn.c_attn", "", "", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"])
    } else {
        let norms = ["input_layernorm", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"];
        let matrices = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"];
        let ([before, q, k, after], [qkv, out, inner, outer]) = (norms, matrices);
        ("layers", [before, qkv, q, k, out, after, inner, outer])
    };
    let [attention_norm, qkv, q, k, out, ffn_norm, inner, outer] = names.map(|name| format!("{prefix}.{i}.{name}"));
    LayerNames { attention_norm, qkv, qk_norm: [q, k], out, ffn_norm, inner, outer }
}

impl Decoder {
    /// Makes every weight trained. Names are those of the Hugging Face layout without the base model's prefix, but matrices that
    /// are joined here (q, k and v; gate and up) are one tensor, and all are `[out, in]`.
    pub fn train_base(&mut self, params: &mut Params) -> Result<()> {
        let (wide, activations) = (self.dtype(), self.activation_dtype());
        let dense = |weight: &Weight| matches!(weight, Weight::Dense(t) if t.dtype() == wide && activations == wide);
        let linears = |layer: &super::DecoderLayer| {
            [&layer.qkv, &layer.out, &layer.inner, &layer.outer].map(Linear::weight).into_iter().all(dense)
        };
        if !dense(&self.segments.tokens) || !dense(&self.segments.head) || !self.layers.iter().all(linears) {
            return Err(Error::config(
                "only weights in single precision are trained themselves; read the model in f32 from a directory in \
                 Hugging Face layout, or train a mixture around it",
            ));
        }
        let Segments { tokens, positions, norm, head, trained } = &mut self.segments;
        let gpt2 = self.spec.family == DecoderFamily::Gpt2;
        let table = params.add(if gpt2 { "wte.weight" } else { "embed_tokens.weight" }, tokens.tensor()?);
        let positions = positions.as_ref().map(|positions| params.add("wpe.weight", positions));
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.train(&layer_names(self.spec.family, i), params);
        }
        norm.train(if gpt2 { "ln_f" } else { "norm" }, params);
        let head = if self.spec.tied { table } else { params.add("lm_head.weight", head.tensor()?) };
        *trained = Some(TrainedSegments { tokens: table, positions, head });
        Ok(())
    }

    /// Whether the base model itself is trained.
    pub fn base_trained(&self) -> bool {
        self.segments.trained.is_some()
    }

    /// Adds the head's gradient. `[vocab, d]`
    pub fn add_head_grad(&self, grad: Tensor, grads: &mut Grads) -> Result<()> {
        match self.segments.trained {
            Some(trained) => grads.add(trained.head, 0, grad),
            None => Err(Error::internal("the gradient of a head that is not trained")),
        }
    }

    /// Adds the gradients of the tables. dx: of the stream that went into the first layer `[tokens, d]`
    pub(super) fn embed_backward(
        &self,
        saved: &EmbeddingSaved,
        positions: &[u32],
        dx: &Tensor,
        grads: &mut Grads,
    ) -> Result<()> {
        let Some(trained) = self.segments.trained else { return Ok(()) };
        let dx = saved.drop.apply(dx)?;
        let sums = |table: &Tensor, rows: &[u32]| -> Result<Tensor> {
            Ok(table.zeros_like()?.index_add(&Tensor::new(rows, dx.device())?, &dx, 0)?)
        };
        grads.add(trained.tokens, 0, sums(self.segments.tokens.tensor()?, &saved.tokens)?)?;
        if let (Some(id), Some(table)) = (trained.positions, &self.segments.positions) {
            grads.add(id, 0, sums(table, positions)?)?;
        }
        Ok(())
    }
}
