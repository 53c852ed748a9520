//! Weights of the decoder families, from the names and layouts of Hugging Face checkpoints.

use super::layer::{DecoderLayer, QkNorm};
use super::spec::{DecoderFamily, DecoderSpec};
use super::train::TrainedSegments;
use crate::error::Result;
use crate::model::layer::FfnAdapter;
use crate::model::loras::LayerLoras;
use crate::nn::{LayerNorm, Linear, PreNorm, Weight};
use candle_core::Tensor;

/// What is not a layer: tables, final norm, head.
#[derive(Clone, Debug)]
pub struct Segments {
    /// Token embeddings. `[vocab, d]`
    pub tokens: Weight,
    /// Learned positions. `[max_positions, d]`
    pub positions: Option<Tensor>,
    /// After the last layer.
    pub norm: PreNorm,
    /// The language-model head; the token embeddings themselves where they are tied. `[vocab, d]`
    pub head: Weight,
    /// Where their gradients go, if the base model is trained.
    pub trained: Option<TrainedSegments>,
}

/// Where a decoder's values come from. Names are those of Hugging Face checkpoints, without the base model's prefix.
pub trait Source {
    /// A vector or a table, in the shape it has in such a checkpoint.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor>;
    /// A matrix `[out, in]`, also where the checkpoint has it input-major (GPT-2).
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight>;
    /// A table of embeddings or the head. `[vocab, d]`
    fn table(&self, name: &str, rows: usize, d: usize) -> Result<Weight>;
}

/// A source of tensors in the shapes of checkpoints.
pub struct Tensors<'a> {
    /// Gives the tensor of a name.
    pub get: &'a dyn Fn(&str, &[usize]) -> Result<Tensor>,
    /// Whether matrices are input-major, as GPT-2's.
    pub input_major: bool,
}

impl Source for Tensors<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        (self.get)(name, shape)
    }
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight> {
        if self.input_major {
            return Ok((self.get)(name, &[d_in, d_out])?.t()?.contiguous()?.into());
        }
        Ok((self.get)(name, &[d_out, d_in])?.into())
    }
    fn table(&self, name: &str, rows: usize, d: usize) -> Result<Weight> {
        Ok((self.get)(name, &[rows, d])?.into())
    }
}

/// Puts a decoder together from its tensors.
pub struct Reader<'a> {
    /// Where the values come from.
    pub source: &'a dyn Source,
    /// Shape and constants.
    pub spec: &'a DecoderSpec,
}

impl Reader<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.source.tensor(name, shape)
    }

    /// Matrices of the same input, one below the other. `parts`: name and outputs of each.
    fn linear(&self, parts: &[(String, usize)], d_in: usize, bias: bool) -> Result<Linear> {
        let matrix = |(name, d_out): &(String, usize)| self.source.matrix(&format!("{name}.weight"), *d_out, d_in);
        let weights = parts.iter().map(matrix).collect::<Result<Vec<_>>>()?;
        let biases = parts
            .iter()
            .filter(|_| bias)
            .map(|(name, d_out)| self.get(&format!("{name}.bias"), &[*d_out]))
            .collect::<Result<Vec<_>>>()?;
        let join = |list: &[Tensor]| -> Result<Tensor> {
            Ok(if let [one] = list { one.clone() } else { Tensor::cat(list, 0)? })
        };
        Ok(Linear::new(Weight::stack(weights)?, if bias { Some(join(&biases)?) } else { None }))
    }

    fn norm(&self, name: &str) -> Result<PreNorm> {
        let (d, eps) = (self.spec.hidden_size, self.spec.norm_eps);
        let gamma = self.get(&format!("{name}.weight"), &[d])?;
        Ok(if self.spec.family == DecoderFamily::Gpt2 {
            PreNorm::Layer(LayerNorm::new(gamma, self.get(&format!("{name}.bias"), &[d])?, eps))
        } else {
            PreNorm::Rms { gamma, eps, trained: None }
        })
    }

    /// Everything that is not a layer.
    pub fn segments(&self) -> Result<Segments> {
        let (s, d) = (self.spec, self.spec.hidden_size);
        let gpt2 = s.family == DecoderFamily::Gpt2;
        let name = if gpt2 { "wte.weight" } else { "embed_tokens.weight" };
        let tokens = self.source.table(name, s.vocab_size, d)?;
        let positions = if gpt2 { Some(self.get("wpe.weight", &[s.max_positions, d])?) } else { None };
        let norm = self.norm(if gpt2 { "ln_f" } else { "norm" })?;
        let head = if s.tied { tokens.clone() } else { self.source.table("lm_head.weight", s.vocab_size, d)? };
        Ok(Segments { tokens, positions, norm, head, trained: None })
    }

    /// Layer number `i`.
    pub fn layer(&self, i: usize) -> Result<DecoderLayer> {
        if self.spec.family == DecoderFamily::Gpt2 { self.gpt2_layer(i) } else { self.llama_layer(i) }
    }

    fn gpt2_layer(&self, i: usize) -> Result<DecoderLayer> {
        let (s, d, f) = (self.spec, self.spec.hidden_size, self.spec.intermediate_size);
        let one = |part: &str, d_out: usize, d_in: usize, bias: bool| {
            self.linear(&[(format!("h.{i}.{part}"), d_out)], d_in, bias)
        };
        Ok(DecoderLayer {
            attention_norm: self.norm(&format!("h.{i}.ln_1"))?,
            qkv: one("attn.c_attn", 3 * d, d, s.biases.qkv)?,
            qk_norm: None,
            out: one("attn.c_proj", d, d, s.biases.out)?,
            ffn_norm: self.norm(&format!("h.{i}.ln_2"))?,
            inner: one("mlp.c_fc", f, d, s.biases.ffn)?,
            outer: one("mlp.c_proj", d, f, s.biases.ffn)?,
            act: s.act,
            gated: false,
            adapter: FfnAdapter::None,
            loras: LayerLoras::default(),
        })
    }

    fn llama_layer(&self, i: usize) -> Result<DecoderLayer> {
        let (s, d, f) = (self.spec, self.spec.hidden_size, self.spec.intermediate_size);
        let (q, kv) = (s.num_heads * s.head_dim, s.num_kv_heads * s.head_dim);
        let part = |part: &str, d_out: usize| (format!("layers.{i}.{part}"), d_out);
        let qkv = [part("self_attn.q_proj", q), part("self_attn.k_proj", kv), part("self_attn.v_proj", kv)];
        let gate_up = [part("mlp.gate_proj", f), part("mlp.up_proj", f)];
        let qk_norm = if s.qk_norm {
            let gamma = |which: &str| self.get(&format!("layers.{i}.self_attn.{which}.weight"), &[s.head_dim]);
            Some(QkNorm { gamma: [gamma("q_norm")?, gamma("k_norm")?], eps: s.norm_eps, trained: None })
        } else {
            None
        };
        Ok(DecoderLayer {
            attention_norm: self.norm(&format!("layers.{i}.input_layernorm"))?,
            qkv: self.linear(&qkv, d, s.biases.qkv)?,
            qk_norm,
            out: self.linear(&[part("self_attn.o_proj", d)], q, s.biases.out)?,
            ffn_norm: self.norm(&format!("layers.{i}.post_attention_layernorm"))?,
            inner: self.linear(&gate_up, d, s.biases.ffn)?,
            outer: self.linear(&[part("mlp.down_proj", d)], f, s.biases.ffn)?,
            act: s.act,
            gated: true,
            adapter: FfnAdapter::None,
            loras: LayerLoras::default(),
        })
    }
}
