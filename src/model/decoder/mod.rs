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
use super::network::{BaseModel, LayerModules};
use super::stack::{At, ForwardOptions, PassMode, SavedActivations, Stack, check_batch};
use super::weights::{Weights, random_tensors};
use crate::data::text::TextBatch;
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::nn::kernels::attention::{self, Layout};
use crate::nn::kernels::device::takes_model;
use crate::nn::kernels::residual;
use crate::nn::kernels::rope::{Angles, Heads};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Dropout, Grads, PreNorm, Weight, pre_norm};
use crate::rng::SeedStream;
use crate::tensor::{DType, Device, Tensor};
use layer::{LayerContext, Positions, Stream, StreamGradient};
use read::{OnDevice, Reader, Source, Tensors};
use std::sync::Arc;
use train::{EmbeddingSaved, TrainedTables};

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
    /// Shape and constants.
    pub spec: DecoderSpec,
    /// `[vocab, d]`
    pub token_embeddings: Weight,
    /// Learned positions, where they are not rotary. `[max_positions, d]`
    position_embeddings: Option<Tensor>,
    /// The layers, bottom first.
    pub layers: Vec<DecoderLayer>,
    final_norm: PreNorm,
    /// The language-model head; the token embeddings themselves where they are tied. `[vocab, d]`
    pub head: Weight,
    /// Where the gradients of the tables and the head go, if the base model is trained.
    trained: Option<TrainedTables>,
    /// Format of the activations between the layers' products.
    activation_dtype: DType,
}

impl Decoder {
    /// Reads all tensors of a checkpoint: matrices in `dtype`, vectors in f32. A GGUF file's matrices stay as they are stored
    /// there, but through CUDA; then `dtype` is that of the activations (see [`Decoder::computing_in`]).
    pub fn load(spec: DecoderSpec, weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
        takes_model(device, spec.head_dim, spec.hidden_size)?;
        let decoder = match weights.gguf().filter(|_| !device.is_cuda()) {
            Some(file) => Self::from_source(spec, &OnDevice { source: file, device }),
            None => Self::from_tensors(spec, &weights.reader(dtype, device)),
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
        let naming = spec.family.naming();
        Self::from_source(spec, &Tensors { get: source, naming })
    }

    /// From any source of values.
    pub fn from_source(spec: DecoderSpec, source: &dyn Source) -> Result<Self> {
        let reader = Reader { source, spec: &spec };
        let token_embeddings = reader.token_embeddings()?;
        let position_embeddings = reader.position_embeddings()?;
        let final_norm = reader.final_norm()?;
        let head = reader.head(&token_embeddings)?;
        let layers = (0..spec.num_layers).map(|i| reader.layer(i)).collect::<Result<_>>()?;
        let activation_dtype = final_norm.gamma().dtype();
        let trained = None;
        Ok(Self { spec, token_embeddings, position_embeddings, layers, final_norm, head, trained, activation_dtype })
    }

    /// Random weights, N(0, 0.02), norms 1 and biases 0: for benchmarks.
    pub fn random(spec: DecoderSpec, seed: SeedStream, device: &Device) -> Result<Self> {
        Self::from_tensors(spec, &random_tensors(seed, device))
    }

    /// The format of the vectors, the residual stream and the final hidden states.
    pub fn dtype(&self) -> DType {
        self.final_norm.gamma().dtype()
    }
    /// The format of the activations between the layers' products.
    pub fn activation_dtype(&self) -> DType {
        self.activation_dtype
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

    /// What goes into the first layer, one pass, without dropout.
    pub(in crate::model) fn embedded(&self, batch: Packed<'_>) -> Result<Stream> {
        self.check(batch, None)?;
        let pass = DecoderPass::new(&self.spec, batch, &ForwardOptions::eval());
        let sum = timed(Phase::Elementwise, || self.embed(batch, &pass, 1))?;
        Ok(Stream { sum, delta: None })
    }

    /// What layer `i` makes of its input along each of these routes, without dropout.
    pub(in crate::model) fn branches(
        &self,
        i: usize,
        x: &Stream,
        batch: Packed<'_>,
        routes: &[Option<&Route>],
    ) -> Result<Vec<Stream>> {
        let layer = &self.layers[i];
        let pass = |route| DecoderPass::new(&self.spec, batch, &ForwardOptions { route, ..ForwardOptions::eval() });
        if layer.modules.lowest_lora().is_none() {
            let pass = pass(None);
            let context = pass.context(&self.spec, i, self.activation_dtype);
            return layer.branches(x, &context, (routes, i), &mut attention::forward_saving);
        }
        routes.iter().map(|route| Ok(self.layer_forward(i, x, &pass(*route))?.0)).collect()
    }

    /// Final hidden states of these rows of what comes out of the last layer. -> `[rows, d]`
    pub(in crate::model) fn finished(&self, x: Stream, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(rows.to_vec(), self.device())?;
        Ok(timed(Phase::Elementwise, || self.final_norm(x, Some(&rows), Dropout::none()))?.0)
    }

    /// As [`Decoder::forward`] of one pass in evaluation, without experts, from layer `from` on: `kept` holds the inputs of the layers
    /// as far as they are known, from the embeddings on, and afterwards those of all. -> `[rows, d]`, and how many layers ran
    pub fn forward_from(
        &self,
        batch: Packed<'_>,
        rows: &[u32],
        kept: &mut Vec<Stream>,
        from: usize,
    ) -> Result<(Tensor, usize)> {
        let pass = DecoderPass::new(&self.spec, batch, &ForwardOptions::eval());
        if kept.is_empty() {
            self.check(batch, Some(rows))?;
            kept.push(Stream { sum: self.embed(batch, &pass, 1)?, delta: None });
        }
        let (stream, layers) = self.resume_layers(kept, from, &pass)?;
        let rows = self.repeat_rows(rows, batch.ids.len(), 1)?;
        Ok((self.final_norm(stream, Some(&rows), Dropout::none())?.0, layers))
    }

    /// Final hidden states of some rows of the stream (all, if absent), and what the norm's backward needs.
    fn final_norm(&self, stream: Stream, rows: Option<&Tensor>, drop: Dropout) -> Result<(Tensor, pre_norm::Saved)> {
        let chosen = |x: Tensor| rows.map_or(Ok(x.clone()), |rows| x.index_select(rows, 0));
        let (sum, norm) = (chosen(stream.sum)?, &self.final_norm);
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
        self.final_norm.add_grads(&norm, dy, grads)?;
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
    ) -> Result<StreamGradient> {
        let back = StreamGradient::from(self.final_norm.backward(norm, dy, None)?);
        let Some(rows) = rows else { return Ok(back) };
        let whole = |part: &Tensor| -> Result<Tensor> {
            let zeros = Tensor::zeros((pass.mode.tokens.rows(), self.spec.hidden_size), part.dtype(), part.device())?;
            zeros.index_add_once(rows, part)
        };
        Ok(StreamGradient { sum: whole(&back.sum)?, delta: whole(&back.delta)? })
    }

    fn embed(&self, batch: Packed<'_>, pass: &DecoderPass, passes: usize) -> Result<Tensor> {
        let drop = pass.mode.dropout(0, self.spec.drop.embedding);
        let x = self.token_embeddings.gather(&batch.ids.repeat(passes))?.to_dtype(self.activation_dtype)?;
        let Some(table) = &self.position_embeddings else { return drop.apply(&x) };
        let index = Tensor::new(pass.positions.as_slice(), self.device())?;
        let positions = table.index_select(&index, 0)?.to_dtype(self.activation_dtype)?;
        drop.apply(&residual::add(&x, Some(&positions), Dropout::none())?)
    }

    /// The wanted rows of every pass.
    fn repeat_rows(&self, rows: &[u32], tokens: usize, passes: usize) -> Result<Tensor> {
        let all: Vec<u32> =
            (0..passes).flat_map(|pass| rows.iter().map(move |row| row + (pass * tokens) as u32)).collect();
        Tensor::new(all, self.device())
    }

    fn check(&self, batch: Packed<'_>, rows: Option<&[u32]>) -> Result<()> {
        let (s, tokens) = (&self.spec, batch.ids.len());
        let why = match s.sliding_window {
            Some(window) if window < s.max_positions => format!(" (its sliding_window is {window})"),
            _ => String::new(),
        };
        check_batch(batch.ids, batch.offsets, s.vocab_size, (s.max_length(), &why))?;
        match rows {
            Some(rows) if rows.is_empty() || rows.iter().any(|&row| row as usize >= tokens) => {
                Err(Error::internal(format!("{} rows of a batch of {tokens} tokens", rows.len())))
            }
            _ => Ok(()),
        }
    }
}

impl BaseModel for Decoder {
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
        self.final_norm.gamma().device()
    }
    fn matrix_dtype(&self) -> DType {
        self.token_embeddings.dtype()
    }
    fn parameter_count(&self) -> usize {
        self.sum(Weight::elem_count, Tensor::elem_count)
    }
    fn base_trained(&self) -> bool {
        self.trained.is_some()
    }
}

impl Stack for Decoder {
    type Hidden = Stream;
    type Gradient = StreamGradient;
    type Saved = layer::Saved;
    type Pass = DecoderPass;

    fn layer_forward(&self, i: usize, x: &Stream, pass: &DecoderPass) -> Result<(Stream, layer::Saved)> {
        let context = pass.context(&self.spec, i, self.activation_dtype);
        self.layers[i].forward(x, &context, &mut attention::forward_saving)
    }

    fn layer_backward(
        &self,
        at: At<'_, DecoderPass>,
        saved: layer::Saved,
        dy: StreamGradient,
        grads: &mut Grads,
    ) -> Result<Option<StreamGradient>> {
        self.layers[at.layer].backward(saved, dy, at.pass.rotation(&self.spec), at.below, grads)
    }
}
