//! Decoder families: GPT-2, and the Llama kind (Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen3), over packed sequences.
//!
//! [`Decoder`] is the base model from token ids to final hidden states; [`CausalLm`] adds the mixture, the head and what is
//! trained. Attention is causal inside each sequence, and positions start again with each.
//!
//! With matrices in bf16 on a processor that multiplies it, the activations are bf16 too ([`Decoder::activation_dtype`]);
//! the residual stream, the final hidden states and the logits stay in f32, for rounding errors of the sum would grow with
//! depth.

pub mod cache;
pub mod dir;
mod extend;
mod forms;
pub mod layer;
pub mod lm;
pub mod read;
pub mod rope;
pub mod spec;
pub mod targets;
pub mod train;

pub use cache::{CachedId, KvCache};
pub use dir::LmSource;
pub use layer::DecoderLayer;
pub use lm::{CausalLm, LmSetup};
pub use spec::{DecoderFamily, DecoderSpec};

use super::encoder::activation_dtype;
use super::layer::FfnAdapter;
use super::loras::LayerLoras;
use super::network::{AdaptableLayer, BaseModel, LayerParts};
use super::stack::{At, ForwardOptions, PassMode, SavedActivations, Stack};
use super::weights::{Weights, random_tensors};
use crate::data::text::TextBatch;
use crate::error::{Error, Result};
use crate::nn::kernels::attention::{self, Layout};
use crate::nn::kernels::device::{takes_model, wide};
use crate::nn::kernels::residual;
use crate::nn::kernels::rope::{Angles, Heads};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Dropout, Grads, pre_norm};
use crate::rng::SeedStream;
use candle_core::{DType, Device, Tensor};
use layer::{Back, LayerContext, Positions, Stream};
use read::{Reader, Segments, Source, Tensors};
use std::sync::Arc;
use train::EmbeddingSaved;

/// Token sequences back to back: `ids[offsets[i]..offsets[i + 1]]` is sequence `i`.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// Token ids of all sequences. `[tokens]`
    pub ids: &'a [u32],
    /// Where each sequence starts, and the end of the last one. `[sequences + 1]`
    pub offsets: &'a [usize],
}

impl Packed<'_> {
    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The rows whose next token is wanted, and those tokens: `wanted[i]` says whether token `i` is a target. The first
    /// token of a sequence is never one: nothing comes before it.
    pub fn targets(&self, wanted: &[bool]) -> (Vec<u32>, Vec<u32>) {
        let later = self.offsets.windows(2).flat_map(|w| w[0] + 1..w[1].max(w[0] + 1));
        let chosen = later.filter(|&i| wanted.get(i).copied().unwrap_or(false) && i < self.ids.len());
        chosen.map(|i| (i as u32 - 1, self.ids[i])).unzip()
    }
}

impl<'a> From<&'a TextBatch> for Packed<'a> {
    fn from(batch: &'a TextBatch) -> Self {
        Self { ids: &batch.ids, offsets: &batch.offsets }
    }
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct DecoderActivations {
    pass: DecoderPass,
    /// What was looked up in the tables, where they are trained.
    embeddings: Option<EmbeddingSaved>,
    layers: Vec<SavedActivations<Stream, layer::Saved>>,
    norm: pre_norm::Saved,
    rows: Option<Tensor>,
}

/// How one batch goes through the layers.
#[derive(Debug)]
pub(super) struct DecoderPass {
    mode: PassMode,
    /// Position of each token in its sequence, all passes.
    positions: Vec<u32>,
    angles: Option<Arc<Angles>>,
}

impl DecoderPass {
    fn new(spec: &DecoderSpec, batch: Packed<'_>, options: &ForwardOptions<'_>) -> Self {
        let one_pass: Vec<u32> = batch.offsets.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect();
        let longest = batch.offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        Self {
            mode: PassMode::new(batch.offsets, options),
            positions: one_pass.repeat(options.passes),
            angles: spec.rope.as_ref().map(|rope| Arc::new(rope.angles(longest))),
        }
    }

    fn rotation(&self, spec: &DecoderSpec) -> Option<Positions<'_>> {
        let pairing = spec.rope.as_ref()?.pairing;
        let heads = Heads { heads: spec.num_heads + spec.num_kv_heads, head_dim: spec.head_dim, pairing };
        Some(Positions { angles: self.angles.as_deref()?, of: &self.positions, heads })
    }

    /// What layer `i` shares with the others.
    fn context<'a>(&'a self, spec: &DecoderSpec, i: usize, activation_dtype: DType) -> LayerContext<'a> {
        let (mode, place) = (&self.mode, 1 + 3 * i as u64);
        let layout = Layout {
            queries: mode.spans.clone(),
            keys: mode.spans.clone(),
            heads: spec.num_heads,
            kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            causal: true,
            drop: mode.dropout(place, spec.drop.attention),
        };
        LayerContext {
            layout,
            positions: self.rotation(spec),
            rows: &mode.tokens,
            route: mode.route(i),
            lora: mode.lora(),
            // What comes in is the output of the layer below.
            drops: [mode.dropout(place - 1, spec.drop.residual), mode.dropout(place + 1, spec.drop.residual)],
            activation_dtype,
        }
    }
}

/// Embeddings, layers, final norm and head; frozen until [`Decoder::train_base`].
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: DecoderSpec,
    segments: Segments,
    layers: Vec<DecoderLayer>,
    /// Format of the activations between the layers' products.
    activation_dtype: DType,
}

impl Decoder {
    /// Reads all tensors of a checkpoint: matrices in `dtype`, vectors in f32. On the CPU a GGUF file's matrices stay as they
    /// are stored there, and `dtype` is that of the activations (see [`Decoder::computing_in`]).
    pub fn load(spec: DecoderSpec, weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
        takes_model(device, spec.head_dim, spec.hidden_size)?;
        let decoder = match weights.gguf().filter(|_| device.is_cpu()) {
            Some(file) => Self::from_source(spec, file),
            None => Self::from_tensors(spec, &|name, shape| {
                weights.get(name, shape, if shape.len() > 1 { dtype } else { wide(dtype) }, device)
            }),
        };
        Ok(decoder?.computing_in(dtype))
    }

    /// The activations have the format that a model read in `dtype` has: 16 bits where the device multiplies them, else f32.
    #[must_use]
    pub fn computing_in(self, dtype: DType) -> Self {
        let dtype = activation_dtype(dtype, self.device());
        self.with_activation_dtype(dtype)
    }

    /// The activations between the layers' products have this format, whatever that of the matrices is. The residual stream,
    /// the final hidden states and the logits keep the vectors' format.
    #[must_use]
    pub fn with_activation_dtype(self, dtype: DType) -> Self {
        Self { activation_dtype: dtype, ..self }
    }

    /// From a source that gives the tensor of a Hugging Face name (without the base model's prefix) in the shape it has there.
    pub fn from_tensors(spec: DecoderSpec, source: &dyn Fn(&str, &[usize]) -> Result<Tensor>) -> Result<Self> {
        let input_major = spec.family == DecoderFamily::Gpt2;
        Self::from_source(spec, &Tensors { get: source, input_major })
    }

    /// From any source of values.
    pub fn from_source(spec: DecoderSpec, source: &dyn Source) -> Result<Self> {
        let reader = Reader { source, spec: &spec };
        let segments = reader.segments()?;
        let layers = (0..spec.num_layers).map(|i| reader.layer(i)).collect::<Result<_>>()?;
        let activation_dtype = segments.norm.gamma().dtype();
        Ok(Self { spec, segments, layers, activation_dtype })
    }

    /// Random weights, N(0, 0.02), norms 1 and biases 0: for benchmarks.
    pub fn random(spec: DecoderSpec, seed: SeedStream, device: &Device) -> Result<Self> {
        Self::from_tensors(spec, &random_tensors(seed, device))
    }

    /// Shape and constants.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }
    /// The layers, bottom first.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }
    /// The layers, for putting mixtures in.
    pub fn layers_mut(&mut self) -> &mut [DecoderLayer] {
        &mut self.layers
    }
    /// Tables, final norm and head.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }
    /// The device the weights are on.
    pub fn device(&self) -> &Device {
        self.segments.norm.gamma().device()
    }
    /// The format of the vectors, the residual stream and the final hidden states.
    pub fn dtype(&self) -> DType {
        self.segments.norm.gamma().dtype()
    }
    /// The format of the activations between the layers' products.
    pub fn activation_dtype(&self) -> DType {
        self.activation_dtype
    }

    /// The format of the matrices.
    pub fn stored(&self) -> DType {
        self.segments.tokens.dtype()
    }

    /// Runs a batch `options.passes` times as one. `rows` are the rows of one pass whose final hidden states are wanted
    /// (ascending, each once); absent: all. -> `[passes * rows, d]`, and what backward needs
    pub fn forward(
        &self,
        batch: Packed<'_>,
        rows: Option<&[u32]>,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor, Option<DecoderActivations>)> {
        self.check(batch, rows)?;
        let (s, pass) = (&self.spec, DecoderPass::new(&self.spec, batch, &options));
        let sum = timed(Phase::Elementwise, || self.embed(batch, &pass, options.passes))?;
        let (stream, layers) = self.forward_layers(Stream { sum, delta: None }, &pass, &options)?;
        let _norm = scope(Phase::Elementwise);
        let rows = rows.map(|rows| self.repeat_rows(rows, batch.ids.len(), options.passes)).transpose()?;
        let drop = pass.mode.dropout(3 * self.layers.len() as u64, s.drop.residual);
        let (y, norm) = self.final_norm(stream, rows.as_ref(), drop)?;
        let drop = pass.mode.dropout(0, s.drop.embedding);
        let embeddings = self.base_trained().then(|| EmbeddingSaved { tokens: batch.ids.repeat(options.passes), drop });
        Ok((y, options.keep.then_some(DecoderActivations { pass, embeddings, layers, norm, rows })))
    }

    /// Final hidden states of some rows of the stream (all, if absent), and what the norm's backward needs.
    fn final_norm(&self, stream: Stream, rows: Option<&Tensor>, drop: Dropout) -> Result<(Tensor, pre_norm::Saved)> {
        let chosen = |x: Tensor| rows.map_or(Ok(x.clone()), |rows| x.index_select(rows, 0));
        let (sum, norm) = (chosen(stream.sum)?, &self.segments.norm);
        let (y, _, saved) = match stream.delta.map(chosen).transpose()? {
            Some(delta) => norm.forward(&delta, Some(&sum), drop, self.dtype())?,
            None => norm.forward(&sum, None, Dropout::none(), self.dtype())?,
        };
        Ok((y, saved))
    }

    /// Adds the gradients of everything trained; stops at the lowest trained module. dy as forward's output
    pub fn backward(&self, activations: DecoderActivations, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        if self.lowest_trained().is_none() {
            return Ok(());
        }
        let DecoderActivations { pass, embeddings, layers, norm, rows } = activations;
        self.segments.norm.add_grads(&norm, dy, grads)?;
        let back = timed(Phase::Elementwise, || self.norm_backward(&norm, rows.as_ref(), &pass, dy))?;
        let back = self.backward_layers(layers, back, &pass, grads)?;
        match (back, embeddings) {
            (Some(back), Some(saved)) => {
                timed(Phase::Elementwise, || self.embed_backward(&saved, &pass.positions, &back.sum, grads))
            }
            _ => Ok(()),
        }
    }

    /// From the final hidden states back to the stream; rows that were not looked at have no gradient.
    fn norm_backward(
        &self,
        norm: &pre_norm::Saved,
        rows: Option<&Tensor>,
        pass: &DecoderPass,
        dy: &Tensor,
    ) -> Result<Back> {
        let back = Back::of(norm, self.segments.norm.backward(norm, dy, None)?)?;
        let Some(rows) = rows else { return Ok(back) };
        let whole = |part: &Tensor| -> Result<Tensor> {
            let zeros = Tensor::zeros((pass.mode.tokens.rows(), self.spec.hidden_size), part.dtype(), part.device())?;
            Ok(zeros.index_add(rows, part, 0)?)
        };
        Ok(Back { sum: whole(&back.sum)?, delta: whole(&back.delta)? })
    }

    fn embed(&self, batch: Packed<'_>, pass: &DecoderPass, passes: usize) -> Result<Tensor> {
        let index = |ids: Vec<u32>| {
            let n = ids.len();
            Tensor::from_vec(ids, n, self.device())
        };
        let drop = pass.mode.dropout(0, self.spec.drop.embedding);
        let x = self.segments.tokens.gather(&batch.ids.repeat(passes))?.to_dtype(self.activation_dtype)?;
        let Some(table) = &self.segments.positions else { return drop.apply(&x) };
        let positions = table.index_select(&index(pass.positions.clone())?, 0)?.to_dtype(self.activation_dtype)?;
        drop.apply(&residual::add(&x, Some(&positions), Dropout::none())?)
    }

    /// The wanted rows of every pass.
    fn repeat_rows(&self, rows: &[u32], tokens: usize, passes: usize) -> Result<Tensor> {
        let all: Vec<u32> =
            (0..passes).flat_map(|pass| rows.iter().map(move |row| row + (pass * tokens) as u32)).collect();
        let n = all.len();
        Ok(Tensor::from_vec(all, n, self.device())?)
    }

    fn check(&self, batch: Packed<'_>, rows: Option<&[u32]>) -> Result<()> {
        let (s, tokens) = (&self.spec, batch.ids.len());
        if batch.sequences() == 0 || batch.offsets[0] != 0 || batch.offsets.last() != Some(&tokens) {
            return Err(Error::internal("a batch whose offsets do not fit its tokens"));
        }
        if let Some(w) = batch.offsets.windows(2).find(|w| w[1] <= w[0] || w[1] - w[0] > s.max_length()) {
            let why = match s.sliding_window {
                Some(window) if window < s.max_positions => format!(" (its sliding_window is {window})"),
                _ => String::new(),
            };
            return Err(Error::config(format!(
                "a sequence of {} tokens; this model takes 1 to {}{why}, lower max_length",
                w[1].saturating_sub(w[0]),
                s.max_length()
            )));
        }
        self.check_ids(batch.ids)?;
        match rows {
            Some(rows) if rows.is_empty() || rows.iter().any(|&row| row as usize >= tokens) => {
                Err(Error::internal(format!("{} rows of a batch of {tokens} tokens", rows.len())))
            }
            _ => Ok(()),
        }
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let known = self.spec.vocab_size;
        match ids.iter().find(|&&id| id as usize >= known) {
            Some(id) => Err(Error::config(format!(
                "token id {id} is outside the model's vocabulary of {known}; the tokenizer belongs to another model"
            ))),
            None => Ok(()),
        }
    }
}

impl BaseModel for Decoder {
    type Layer = DecoderLayer;
    fn stack(&self) -> &[DecoderLayer] {
        &self.layers
    }
    fn stack_mut(&mut self) -> &mut [DecoderLayer] {
        &mut self.layers
    }
    fn width(&self) -> usize {
        self.spec.hidden_size
    }
    fn place(&self) -> &Device {
        self.device()
    }
    fn matrix_dtype(&self) -> DType {
        self.stored()
    }
    fn weights(&self) -> usize {
        self.parameter_count()
    }
}

impl AdaptableLayer for DecoderLayer {
    fn modules(&self) -> (&FfnAdapter, &LayerLoras) {
        (&self.adapter, &self.loras)
    }
    fn parts_mut(&mut self) -> LayerParts<'_> {
        let linears = [&mut self.qkv, &mut self.out, &mut self.inner, &mut self.outer];
        LayerParts { adapter: &mut self.adapter, loras: &mut self.loras, linears }
    }
}

impl Stack for Decoder {
    type Hidden = Stream;
    type Gradient = Back;
    type Saved = layer::Saved;
    type Pass = DecoderPass;

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn lowest_trained(&self) -> Option<usize> {
        if self.base_trained() { Some(0) } else { self.layers.iter().position(DecoderLayer::is_trained) }
    }

    fn embeddings_trained(&self) -> bool {
        self.base_trained()
    }

    fn layer_forward(&self, i: usize, x: &Stream, pass: &DecoderPass) -> Result<(Stream, layer::Saved)> {
        let context = pass.context(&self.spec, i, self.activation_dtype);
        self.layers[i].forward(x, context, &mut attention::forward)
    }

    fn layer_backward(
        &self,
        at: At<'_, DecoderPass>,
        saved: layer::Saved,
        dy: Back,
        grads: &mut Grads,
    ) -> Result<Option<Back>> {
        self.layers[at.layer].backward(saved, dy, at.pass.rotation(&self.spec), at.below, grads)
    }
}
