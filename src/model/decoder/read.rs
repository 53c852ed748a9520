//! Weights of the decoder families, from the names and layouts of Hugging Face checkpoints.

use super::layer::{DecoderLayer, QkNorm};
use super::spec::{DecoderFamily, DecoderSpec};
use crate::error::Result;
use crate::model::network::LayerModules;
use crate::nn::{LayerNorm, Linear, PreNorm, Weight};
use crate::tensor::gguf::NamingScheme;
use crate::tensor::{Device, Tensor};

/// Where a decoder's values come from. Names are those of Hugging Face checkpoints, without the base model's prefix.
pub trait Source {
    /// A vector or a table, in the shape it has in such a checkpoint.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor>;
    /// A matrix `[out, in]`, also where the checkpoint has it input-major (GPT-2); tables of embeddings are `[vocab, d]`.
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight>;
}

/// A source of tensors in the shapes of checkpoints.
pub struct Tensors<'a> {
    /// Gives the tensor of a name.
    pub get: &'a dyn Fn(&str, &[usize]) -> Result<Tensor>,
    /// How the checkpoint names them: which are input-major.
    pub naming: NamingScheme,
}

impl Source for Tensors<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        (self.get)(name, shape)
    }
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight> {
        if self.naming.input_major(name) {
            return Ok((self.get)(name, &[d_in, d_out])?.t()?.contiguous()?.into());
        }
        Ok((self.get)(name, &[d_out, d_in])?.into())
    }
}

/// A source's values in the memory of a device, quantised ones as they are stored.
pub struct OnDevice<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The device: the processor, or a GPU whose kernels decode them.
    pub device: &'a Device,
}

impl Source for OnDevice<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.source.tensor(name, shape)?.to_device(self.device)
    }
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight> {
        self.source.matrix(name, d_out, d_in)?.on(self.device)
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
    fn is_gpt2(&self) -> bool {
        self.spec.family == DecoderFamily::Gpt2
    }

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
        Ok(if self.is_gpt2() {
            PreNorm::Layer(LayerNorm::new(gamma, self.get(&format!("{name}.bias"), &[d])?, eps))
        } else {
            PreNorm::Rms { gamma, eps, trained: None }
        })
    }

    /// Token embeddings. `[vocab, d]`
    pub fn token_embeddings(&self) -> Result<Weight> {
        let name = if self.is_gpt2() { "wte.weight" } else { "embed_tokens.weight" };
        self.source.matrix(name, self.spec.vocab_size, self.spec.hidden_size)
    }

    /// Learned positions, where they are not rotary. `[max_positions, d]`
    pub fn position_embeddings(&self) -> Result<Option<Tensor>> {
        let shape = [self.spec.max_positions, self.spec.hidden_size];
        self.is_gpt2().then(|| self.get("wpe.weight", &shape)).transpose()
    }

    /// After the last layer.
    pub fn final_norm(&self) -> Result<PreNorm> {
        self.norm(if self.is_gpt2() { "ln_f" } else { "norm" })
    }

    /// The language-model head. `[vocab, d]`
    pub fn head(&self, token_embeddings: &Weight) -> Result<Weight> {
        if self.spec.tied {
            return Ok(token_embeddings.clone());
        }
        self.source.matrix("lm_head.weight", self.spec.vocab_size, self.spec.hidden_size)
    }

    /// Layer number `i`.
    pub fn layer(&self, i: usize) -> Result<DecoderLayer> {
        let (s, d, f) = (self.spec, self.spec.hidden_size, self.spec.intermediate_size);
        let (q, kv) = (s.num_heads * s.head_dim, s.num_kv_heads * s.head_dim);
        let gpt2 = self.is_gpt2();
        let name = |part: &str| if gpt2 { format!("h.{i}.{part}") } else { format!("layers.{i}.{part}") };
        // Matrices of the same input, one below the other: name and outputs of each.
        let linear = |parts: &[(&str, usize)], d_in: usize, bias: bool| {
            let parts: Vec<_> = parts.iter().map(|(part, d_out)| (name(part), *d_out)).collect();
            self.linear(&parts, d_in, bias)
        };
        let linears = if gpt2 {
            [
                linear(&[("attn.c_attn", 3 * d)], d, s.biases.qkv)?,
                linear(&[("attn.c_proj", d)], d, s.biases.out)?,
                linear(&[("mlp.c_fc", f)], d, s.biases.ffn)?,
                linear(&[("mlp.c_proj", d)], f, s.biases.ffn)?,
            ]
        } else {
            let qkv = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
            [
                linear(&qkv, d, s.biases.qkv)?,
                linear(&[("self_attn.o_proj", d)], q, s.biases.out)?,
                linear(&[("mlp.gate_proj", f), ("mlp.up_proj", f)], d, s.biases.ffn)?,
                linear(&[("mlp.down_proj", d)], f, s.biases.ffn)?,
            ]
        };
        let qk_norm = if s.qk_norm {
            let gamma = |which: &str| self.get(&name(&format!("self_attn.{which}.weight")), &[s.head_dim]);
            Some(QkNorm { gamma: [gamma("q_norm")?, gamma("k_norm")?], eps: s.norm_eps, trained: None })
        } else {
            None
        };
        Ok(DecoderLayer {
            modules: LayerModules::new(linears),
            attention_norm: self.norm(&name(if gpt2 { "ln_1" } else { "input_layernorm" }))?,
            qk_norm,
            ffn_norm: self.norm(&name(if gpt2 { "ln_2" } else { "post_attention_layernorm" }))?,
            act: s.act,
            gated: !gpt2,
        })
    }
}
