//! The encoder: embeddings and a list of layers, over packed sequences.

use super::layer::{self, EncoderLayer, LayerContext};
use super::loras::{Slot, Target};
use super::network::{BaseModel, LayerModules};
use super::spec::{EncoderSpec, Family};
use super::stack::{At, ForwardOptions, PassMode, SavedActivations, Stack, check_batch};
use super::weights::{Weights, random_tensors};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap};
use crate::nn::embedding::{self, Ids};
use crate::nn::kernels::attention::Layout;
use crate::nn::kernels::device::{takes_model, wide};
use crate::nn::kernels::gemm;
use crate::nn::profile::{Phase, timed};
use crate::nn::{Dropout, Embeddings, Grads, LayerNorm, Linear, Params};
use crate::rng::SeedStream;
use crate::tensor::{DType, Device, Tensor};

/// What the backward pass needs.
#[derive(Debug)]
pub struct EncoderActivations {
    embeddings: embedding::Saved,
    layers: Vec<SavedActivations<Tensor, layer::Saved>>,
    pass: EncoderPass,
}

/// How one batch goes through the layers.
#[derive(Debug)]
pub(super) struct EncoderPass {
    mode: PassMode,
    /// Rows of the first tokens, which alone go on after attention in the last layer; absent: all tokens do.
    pooled: Option<(Tensor, RowMap)>,
}

impl EncoderPass {
    fn new(batch: &Batch, options: &ForwardOptions<'_>, device: &Device) -> Result<Self> {
        let mode = PassMode::new(&batch.offsets, options);
        let first: Vec<u32> = mode.spans.iter().map(|span| span.start as u32).collect();
        let pooled = if options.all_tokens {
            None
        } else {
            Some((Tensor::new(first, device)?, RowMap::first_tokens(&batch.offsets, options.passes)))
        };
        Ok(Self { mode, pooled })
    }

    /// What layer `i` shares with the others.
    fn context<'a>(&'a self, spec: &EncoderSpec, i: usize) -> LayerContext<'a> {
        let mode = &self.mode;
        let pooled = self.pooled.as_ref().filter(|_| i + 1 == spec.num_layers);
        let place = 1 + 3 * i as u64;
        let head_dim = spec.hidden_size / spec.num_heads;
        let drop = mode.dropout(place, spec.attention_dropout);
        let mut layout = Layout::bidirectional(mode.spans.clone(), spec.num_heads, head_dim, drop);
        if pooled.is_some() {
            layout.queries = (0..mode.spans.len()).map(|q| q..q + 1).collect();
        }
        LayerContext {
            layout,
            tokens: &mode.tokens,
            rows: pooled.map_or(&mode.tokens, |(_, rows)| rows),
            first_tokens: pooled.map(|(first, _)| first),
            route: mode.route(i),
            lora: mode.lora(),
            drops: [mode.dropout(place + 1, spec.hidden_dropout), mode.dropout(place + 2, spec.hidden_dropout)],
        }
    }
}

/// What is kept of one layer between two evaluations of a batch.
#[derive(Clone, Debug)]
pub struct KeptLayer {
    /// `[tokens, d]`
    input: Tensor,
    /// What its adapter reads, and the residual beside it; absent where the layer has LoRA. `[rows, d]` each
    at_adapter: Option<[Tensor; 2]>,
}

/// Embeddings and layers.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Shape and constants.
    pub spec: EncoderSpec,
    /// Of words, positions and segments, with their normalisation.
    pub embeddings: Embeddings,
    /// The layers, bottom first.
    pub layers: Vec<EncoderLayer>,
    base_trained: bool,
}

/// Gives the tensor of a Hugging Face name, without the base model's prefix, in the shape it has there.
type Source<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Tensor>;

/// Linear layers of the same input, one below the other. `names` of each; `d_out`: outputs of each.
fn linear(source: Source<'_>, names: &[String], d_out: usize, d_in: usize) -> Result<Linear> {
    let join = |part: &str, shape: &[usize]| -> Result<Tensor> {
        let all = names.iter().map(|name| source(&format!("{name}.{part}"), shape)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&all, 0)
    };
    Ok(Linear::new(join("weight", &[d_out, d_in])?, Some(join("bias", &[d_out])?)))
}

fn norm(source: Source<'_>, name: &str, spec: &EncoderSpec) -> Result<LayerNorm> {
    let vector = |part: &str| source(&format!("{name}.{part}"), &[spec.hidden_size]);
    Ok(LayerNorm::new(vector("weight")?, vector("bias")?, spec.layer_norm_eps))
}

impl Encoder {
    /// Reads all tensors of the base model: matrices in `dtype`, vectors never narrower than f32.
    pub fn load(spec: EncoderSpec, weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
        takes_model(device, spec.hidden_size / spec.num_heads.max(1), spec.hidden_size)?;
        let mut encoder = Self::from_tensors(spec, &weights.reader(dtype, device))?;
        encoder.embeddings = encoder.embeddings.with_activation_dtype(activation_dtype(dtype, device));
        Ok(encoder)
    }

    /// Random weights, N(0, 0.02), norms 1 and biases 0: for benchmarks and for training from scratch.
    pub fn random(spec: EncoderSpec, seed: SeedStream, device: &Device) -> Result<Self> {
        Self::from_tensors(spec, &random_tensors(seed, device))
    }

    fn from_tensors(spec: EncoderSpec, source: Source<'_>) -> Result<Self> {
        let table = |name: &str, rows: usize| source(&format!("embeddings.{name}.weight"), &[rows, spec.hidden_size]);
        let embeddings = Embeddings::new(
            table("word_embeddings", spec.vocab_size)?,
            table("position_embeddings", spec.max_positions)?,
            table("token_type_embeddings", spec.type_vocab_size)?,
            norm(source, "embeddings.LayerNorm", &spec)?,
        );
        let layers = (0..spec.num_layers).map(|i| read_layer(source, &spec, i)).collect::<Result<_>>()?;
        Ok(Self { spec, embeddings, layers, base_trained: false })
    }

    /// The same base model with its matrices stored in `dtype`, as [`Encoder::load`] would have them. Only before anything of it
    /// is trained.
    pub fn stored(&self, dtype: DType) -> Result<Self> {
        let mut cast = self.cast(dtype)?;
        cast.embeddings = cast.embeddings.with_activation_dtype(activation_dtype(dtype, self.device()));
        Ok(cast)
    }

    /// The same base model with its matrices and its activations in another format. Only before anything of it is trained.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        let mut cast = Self { embeddings: self.embeddings.cast(dtype)?, ..self.clone() };
        for adapted in cast.modules_mut().flat_map(|layer| &mut layer.linears) {
            adapted.linear = adapted.linear.cast(dtype)?;
        }
        Ok(cast)
    }

    /// The format of the activations.
    pub fn activation_dtype(&self) -> DType {
        self.embeddings.activation_dtype()
    }

    /// Makes every weight trained, under the names of the Hugging Face layout.
    pub fn train_base(&mut self, params: &mut Params) {
        self.embeddings.train("embeddings", params);
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.train(&format!("encoder.layer.{i}"), params);
        }
        self.base_trained = true;
    }

    /// Runs a batch `passes` times as one. -> `[passes * sequences, d]` or `[passes * tokens, d]`, and what backward needs
    pub fn forward(&self, batch: &Batch, options: ForwardOptions<'_>) -> Result<(Tensor, Option<EncoderActivations>)> {
        self.check(batch)?;
        let pass = EncoderPass::new(batch, &options, self.device())?;
        let ids = self.ids(batch, options.passes)?;
        let drop = pass.mode.dropout(0, self.spec.hidden_dropout);
        let (x, embeddings) = timed(Phase::Elementwise, || self.embeddings.forward(&ids, drop))?;
        let (x, layers) = self.forward_layers(x, &pass, &options)?;
        Ok((x, options.keep.then_some(EncoderActivations { embeddings, layers, pass })))
    }

    /// What goes into the first layer, one pass, without dropout. -> `[tokens, d]`
    pub(super) fn embedded(&self, batch: &Batch) -> Result<Tensor> {
        self.check(batch)?;
        let ids = self.ids(batch, 1)?;
        Ok(timed(Phase::Elementwise, || self.embeddings.forward(&ids, Dropout::none()))?.0)
    }

    /// What layer `i` makes of its input along each of these routes, without dropout. The last layer gives the first tokens
    /// alone.
    pub(super) fn branches(
        &self,
        i: usize,
        x: &Tensor,
        batch: &Batch,
        routes: &[Option<&Route>],
    ) -> Result<Vec<Tensor>> {
        let layer = &self.layers[i];
        let pass = |route| EncoderPass::new(batch, &ForwardOptions { route, ..ForwardOptions::eval() }, self.device());
        if layer.modules.lowest_lora().is_none() {
            return layer.branches(x, &pass(None)?.context(&self.spec, i), (routes, i));
        }
        routes.iter().map(|route| Ok(self.layer_forward(i, x, &pass(*route)?)?.0)).collect()
    }

    /// As [`Encoder::forward`] in evaluation, without experts, of a model that has other modules in layer `from` and above than
    /// the one that `kept` is of: what the layers below gave, from the embeddings on; afterwards it is this model's. Attention and
    /// feed-forward block of layer `from` do not run again where only its adapter is another one.
    /// -> `[sequences, d]`, and how many layers ran
    pub fn forward_from(&self, batch: &Batch, kept: &mut Vec<KeptLayer>, from: usize) -> Result<(Tensor, usize)> {
        let pass = EncoderPass::new(batch, &ForwardOptions::eval(), self.device())?;
        if kept.is_empty() {
            self.check(batch)?;
            let (input, _) = self.embeddings.forward(&self.ids(batch, 1)?, pass.mode.dropout(0, 0.0))?;
            kept.push(KeptLayer { input, at_adapter: None });
        }
        let from = from.min(kept.len() - 1);
        kept.truncate(from + 1);
        let (mut x, mut ran) = (kept[from].input.clone(), 0);
        for (i, layer) in self.layers.iter().enumerate().skip(from) {
            let (here, context) = (&mut kept[i], pass.context(&self.spec, i));
            // With LoRA in the layer what the adapter reads depends on it.
            let plain = layer.modules.loras().next().is_none();
            let read = match here.at_adapter.clone().filter(|_| plain) {
                Some(read) => read,
                None => {
                    ran += 1;
                    layer.to_adapter(&here.input, &context)?
                }
            };
            here.at_adapter = plain.then(|| read.clone());
            x = layer.after_adapter(read, &context)?;
            if i + 1 < self.layers.len() {
                kept.push(KeptLayer { input: x.clone(), at_adapter: None });
            }
        }
        Ok((x, ran))
    }

    /// Adds the gradients of everything trained; stops at the lowest trained module. dy as forward's output
    pub fn backward(&self, activations: EncoderActivations, dy: Tensor, grads: &mut Grads) -> Result<()> {
        let EncoderActivations { embeddings, layers, pass } = activations;
        match self.backward_layers(layers, dy, &pass, grads)? {
            Some(dx) => timed(Phase::Elementwise, || self.embeddings.backward(&embeddings, &dx, grads)),
            None => Ok(()),
        }
    }

    fn ids(&self, batch: &Batch, passes: usize) -> Result<Ids> {
        let positions: Vec<u32> =
            batch.offsets.windows(2).flat_map(|w| positions(&self.spec, &batch.ids[w[0]..w[1]])).collect();
        let segments = match self.spec.family {
            Family::Bert => batch.type_ids.clone(),
            Family::Roberta => vec![0; batch.ids.len()],
        };
        Ids::new(batch.ids.repeat(passes), positions.repeat(passes), segments.repeat(passes), self.device())
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let s = &self.spec;
        check_batch(&batch.ids, &batch.offsets, s.vocab_size, (s.max_length(), ""))?;
        if batch.type_ids.len() != batch.ids.len() {
            return Err(Error::internal("a batch whose segments do not fit its tokens"));
        }
        match batch.type_ids.iter().find(|&&id| id as usize >= s.type_vocab_size && s.family == Family::Bert) {
            Some(id) => Err(Error::config(format!(
                "segment id {id}, but the model knows {}; it cannot take sentence pairs",
                s.type_vocab_size
            ))),
            None => Ok(()),
        }
    }
}

/// The positions of a text's tokens. RoBERTa counts only tokens that are not its padding id, which stands at a position of its
/// own: a text may hold it, and some models give the id of `<s>` for it.
fn positions(spec: &EncoderSpec, ids: &[u32]) -> Vec<u32> {
    let offset = spec.position_offset as u32;
    let Some(padding) = offset.checked_sub(1).filter(|_| spec.family == Family::Roberta) else {
        return (offset..).take(ids.len()).collect();
    };
    let mut next = offset;
    let position = |&id: &u32| {
        if id == padding {
            return padding;
        }
        next += 1;
        next - 1
    };
    ids.iter().map(position).collect()
}

impl BaseModel for Encoder {
    fn modules(&self) -> impl Iterator<Item = &LayerModules> {
        self.layers.iter().map(|layer| &layer.modules)
    }
    fn modules_mut(&mut self) -> impl Iterator<Item = &mut LayerModules> {
        self.layers.iter_mut().map(|layer| &mut layer.modules)
    }
    fn hidden_size(&self) -> usize {
        self.spec.hidden_size
    }
    fn device(&self) -> &Device {
        self.embeddings.word().device()
    }
    fn matrix_dtype(&self) -> DType {
        self.embeddings.word().dtype()
    }
    fn parameter_count(&self) -> usize {
        let s = &self.spec;
        let d = s.hidden_size;
        let tables = (s.vocab_size + s.max_positions + s.type_vocab_size) * d;
        let per_layer = 4 * (d * d + d) + 2 * d * s.intermediate_size + s.intermediate_size + d + 4 * d;
        tables + 2 * d + s.num_layers * per_layer
    }
    fn base_trained(&self) -> bool {
        self.base_trained
    }
}

impl Stack for Encoder {
    type Hidden = Tensor;
    type Gradient = Tensor;
    type Saved = layer::Saved;
    type Pass = EncoderPass;

    fn layer_forward(&self, i: usize, x: &Tensor, pass: &EncoderPass) -> Result<(Tensor, layer::Saved)> {
        self.layers[i].forward(x, pass.context(&self.spec, i))
    }

    fn layer_backward(
        &self,
        at: At<'_, EncoderPass>,
        saved: layer::Saved,
        dy: Tensor,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        self.layers[at.layer].backward(saved, &dy, at.below, grads)
    }
}

/// The matrices of a layer that can have a LoRA, under their Hugging Face names.
pub fn lora_targets(spec: &EncoderSpec) -> Vec<Target> {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    vec![
        Target::whole("attention.self.query", Slot::Qkv, 0..d, d),
        Target::whole("attention.self.key", Slot::Qkv, d..2 * d, d),
        Target::whole("attention.self.value", Slot::Qkv, 2 * d..3 * d, d),
        Target::whole("attention.output.dense", Slot::Out, 0..d, d),
        Target::whole("intermediate.dense", Slot::Inner, 0..f, d),
        Target::whole("output.dense", Slot::Outer, 0..d, f),
    ]
}

/// The targets of an empty setting: the paper's queries and values.
pub const DEFAULT_TARGETS: [&str; 2] = ["query", "value"];

/// The format of the activations of a base model whose matrices have format `dtype`: the same, where the device computes
/// in it. Elsewhere on the CPU 16-bit weights only save memory, and everything between the products is f32.
pub(super) fn activation_dtype(dtype: DType, device: &Device) -> DType {
    if device.is_cpu() && !(dtype == DType::BF16 && gemm::multiplies_bf16()) { wide(dtype) } else { dtype }
}

fn read_layer(source: Source<'_>, spec: &EncoderSpec, i: usize) -> Result<EncoderLayer> {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    let name = |part: &str| format!("encoder.layer.{i}.{part}");
    let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
    Ok(EncoderLayer {
        modules: LayerModules::new([
            linear(source, &qkv, d, d)?,
            linear(source, &[name("attention.output.dense")], d, d)?,
            linear(source, &[name("intermediate.dense")], f, d)?,
            linear(source, &[name("output.dense")], d, f)?,
        ]),
        attention_norm: norm(source, &name("attention.output.LayerNorm"), spec)?,
        output_norm: norm(source, &name("output.LayerNorm"), spec)?,
        act: spec.act,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padding_id_in_a_text_does_not_count() {
        let spec = |family: &str, pad: u32| {
            let json = format!(
                r#"{{"model_type":"{family}","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":16,"vocab_size":10,"max_position_embeddings":20,"pad_token_id":{pad},"type_vocab_size":1}}"#
            );
            EncoderSpec::from_json(&json).unwrap()
        };
        // transformers' create_position_ids_from_input_ids of the same ids
        assert_eq!(positions(&spec("roberta", 1), &[0, 5, 6, 2]), [2, 3, 4, 5]);
        assert_eq!(positions(&spec("roberta", 1), &[0, 5, 1, 1, 6, 2]), [2, 3, 1, 1, 4, 5]);
        // The padding id is that of <s>.
        assert_eq!(positions(&spec("roberta", 0), &[0, 5, 6, 2]), [0, 1, 2, 3]);
        assert_eq!(positions(&spec("bert", 0), &[0, 5, 0, 2]), [0, 1, 2, 3]);
    }
}
