//! Training of the base model itself: names of its tensors, gradients of its tables and head.

use super::{Decoder, DecoderFamily, DecoderLayer};
use crate::error::{Error, Result};
use crate::nn::{Dropout, Grads, ParamId, Params, Weight};
use crate::tensor::Tensor;

/// Where the gradients of the tables and of the head go.
#[derive(Clone, Copy, Debug)]
pub struct TrainedTables {
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

impl DecoderLayer {
    /// Makes all its own weights trained.
    fn train(&mut self, family: DecoderFamily, i: usize, params: &mut Params) {
        let name = |gpt2: &str, llama: &str| match family {
            DecoderFamily::Gpt2 => format!("h.{i}.{gpt2}"),
            _ => format!("layers.{i}.{llama}"),
        };
        let [qkv, out, inner, outer] = self.modules.linears.each_mut().map(|adapted| &mut adapted.linear);
        self.attention_norm.train(&name("ln_1", "input_layernorm"), params);
        qkv.train(&name("attn.c_attn", "self_attn.qkv_proj"), params);
        if let Some(norm) = &mut self.qk_norm {
            let [q, k] = ["q_norm", "k_norm"].map(|part| format!("layers.{i}.self_attn.{part}.weight"));
            norm.trained = Some([params.add(q, &norm.gamma[0]), params.add(k, &norm.gamma[1])]);
        }
        out.train(&name("attn.c_proj", "self_attn.o_proj"), params);
        self.ffn_norm.train(&name("ln_2", "post_attention_layernorm"), params);
        inner.train(&name("mlp.c_fc", "mlp.gate_up_proj"), params);
        outer.train(&name("mlp.c_proj", "mlp.down_proj"), params);
    }
}

impl Decoder {
    /// Makes every weight trained. Names are those of the Hugging Face layout without the base model's prefix, but matrices that
    /// are joined here (q, k and v; gate and up) are one tensor, and all are `[out, in]`.
    pub fn train_base(&mut self, params: &mut Params) -> Result<()> {
        let (wide, activations) = (self.dtype(), self.activation_dtype());
        let dense = |weight: &Weight| matches!(weight, Weight::Dense(t) if t.dtype() == wide && activations == wide);
        let mut linears = self.layers.iter().flat_map(|layer| &layer.modules.linears);
        let linears_dense = linears.all(|adapted| dense(adapted.linear.weight()));
        if !dense(&self.token_embeddings) || !dense(&self.head) || !linears_dense {
            return Err(Error::config(
                "only weights in single precision are trained themselves; read the model in f32 from a directory in \
                 Hugging Face layout, or train a mixture around it",
            ));
        }
        let gpt2 = self.spec.family == DecoderFamily::Gpt2;
        let tokens =
            params.add(if gpt2 { "wte.weight" } else { "embed_tokens.weight" }, self.token_embeddings.tensor()?);
        let positions = self.position_embeddings.as_ref().map(|positions| params.add("wpe.weight", positions));
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.train(self.spec.family, i, params);
        }
        self.final_norm.train(if gpt2 { "ln_f" } else { "norm" }, params);
        let head = if self.spec.tied { tokens } else { params.add("lm_head.weight", self.head.tensor()?) };
        self.trained = Some(TrainedTables { tokens, positions, head });
        Ok(())
    }

    /// Adds the head's gradient. `[vocab, d]`
    pub fn add_head_grad(&self, grad: Tensor, grads: &mut Grads) -> Result<()> {
        match self.trained {
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
        let Some(trained) = self.trained else { return Ok(()) };
        let dx = saved.drop.apply(dx)?;
        let sums = |table: &Tensor, rows: &[u32]| -> Result<Tensor> {
            table.zeros_like()?.index_add(&Tensor::new(rows, dx.device())?, &dx, 0)
        };
        grads.add(trained.tokens, 0, sums(self.token_embeddings.tensor()?, &saved.tokens)?)?;
        if let (Some(id), Some(table)) = (trained.positions, &self.position_embeddings) {
            grads.add(id, 0, sums(table, positions)?)?;
        }
        Ok(())
    }
}
