//! Decoder families: GPT-2, and the Llama kind (Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen3), over packed sequences.
//!
//! [`Decoder`] is the trunk from token ids to final hidden states, frozen or trained itself ([`train`]); [`CausalLm`] adds
//! the mixture, the head and what is trained. Attention is causal inside each sequence, positions start again with each.
//!
//! With matrices in bf16 on a processor that multiplies it, what flows through the products is bf16 too ([`Decoder::flow`]).
//! The residual stream, the final hidden states and the logits stay in f32: a pre-norm model adds to the stream twice a
//! layer and never normalises it on the way, so that roundings of the sum would pile up with depth, and its largest
//! values, hundreds of times the others, would leave only those few bits.

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

use super::encoder::{DropKeys, Run, flow as flow_of, repeat_offsets};
use super::loras::LoraRun;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap};
use crate::nn::kernels::attention::Layout;
use crate::nn::kernels::device::{takes_model, wide};
use crate::nn::kernels::residual;
use crate::nn::kernels::rope::{Angles, Heads};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Dropout, Grads, pre_norm};
use crate::rng::{Purpose, SeedStream};
use candle_core::{DType, Device, Tensor};
use layer::{Back, LayerContext, Positions, Stream};
use read::{Ends, Reader, Source, Tensors};
use std::cell::RefCell;
use std::ops::Range;
use train::Looked;

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

/// What the backward pass needs.
#[derive(Debug)]
pub struct Trace {
    course: Course,
    /// How to route a layer again, where only its input was kept.
    route: Option<Route>,
    /// What was looked up in the tables, where they are trained.
    looked: Option<Looked>,
    layers: Vec<Kept>,
    norm: pre_norm::Saved,
    rows: Option<Tensor>,
}

/// What was kept of a layer.
#[derive(Debug)]
enum Kept {
    /// Nothing: no gradient comes down to it.
    Nothing,
    /// Its input; the rest is computed again.
    Input(Stream),
    /// All its backward needs.
    All(Box<layer::Saved>),
}

/// How one batch goes through the layers.
#[derive(Debug)]
struct Course {
    /// Rows of the sequences, all passes.
    spans: Vec<Range<usize>>,
    rows: RowMap,
    /// Position of each token in its sequence, all passes.
    positions: Vec<u32>,
    angles: Option<Angles>,
    drop: Option<DropKeys>,
    lora_drop: Option<DropKeys>,
}

impl Course {
    fn new(spec: &DecoderSpec, batch: Packed<'_>, run: &Run<'_>) -> Self {
        let offsets = repeat_offsets(batch.offsets, run.passes);
        let one_pass: Vec<u32> = batch.offsets.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect();
        let longest = batch.offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        Self {
            spans: offsets.windows(2).map(|w| w[0]..w[1]).collect(),
            rows: RowMap::tokens(batch.offsets, run.passes),
            positions: one_pass.repeat(run.passes),
            angles: spec.rope.as_ref().map(|rope| rope.angles(longest)),
            drop: run.drop,
            lora_drop: run.lora_drop,
        }
    }

    fn drop(&self, place: u64, p: f64) -> Dropout {
        self.drop.map_or_else(Dropout::none, |keys| keys.at(place, p))
    }

    fn rotation(&self, spec: &DecoderSpec) -> Option<Positions<'_>> {
        let pairing = spec.rope.as_ref()?.pairing;
        let heads = Heads { heads: spec.num_heads + spec.num_kv_heads, head_dim: spec.head_dim, pairing };
        Some(Positions { angles: self.angles.as_ref()?, of: &self.positions, heads })
    }

    /// What layer `i` shares with the others.
    fn context<'a>(
        &'a self,
        spec: &DecoderSpec,
        (i, flow): (usize, DType),
        route: Option<&'a Route>,
    ) -> LayerContext<'a> {
        let place = 1 + 3 * i as u64;
        let layout = Layout {
            queries: self.spans.clone(),
            keys: self.spans.clone(),
            heads: spec.num_heads,
            kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            causal: true,
            drop: self.drop(place, spec.drop.attention),
        };
        LayerContext {
            layout,
            positions: self.rotation(spec),
            rows: &self.rows,
            route: route.map(|route| (route, i)),
            lora: LoraRun { route, drop: self.lora_drop },
            // What comes in is the output of the layer below.
            drops: [self.drop(place - 1, spec.drop.residual), self.drop(place + 1, spec.drop.residual)],
            flow,
        }
    }
}

/// Embeddings, layers, final norm and head; frozen until [`Decoder::train_trunk`].
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: DecoderSpec,
    ends: Ends,
    layers: Vec<DecoderLayer>,
    /// Format of what flows through the layers' products.
    flow: DType,
}

impl Decoder {
    /// Reads all tensors of a checkpoint. `dtype` is that of the matrices; vectors are f32, and so is what is computed, but
    /// for bf16 where the processor multiplies it, and for what flows through the layers' products on a GPU, which has the
    /// matrices' format: half the memory for the price of rounded weights (none, if that is how they are stored).
    /// The matrices of a GGUF file stay as they are stored there, and `dtype` is what flows through them; on a GPU they
    /// are widened to `dtype`.
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

    /// What flows is what a trunk read in `dtype` has: 16 bits where the device multiplies them, else f32.
    #[must_use]
    pub fn computing_in(self, dtype: DType) -> Self {
        let flow = flow_of(dtype, self.device());
        self.flowing(flow)
    }

    /// What flows through the layers' products has this format, whatever that of the matrices is. The residual stream,
    /// the final hidden states and the logits keep the vectors' format.
    #[must_use]
    pub fn flowing(self, flow: DType) -> Self {
        Self { flow, ..self }
    }

    /// From a source that gives the tensor of a Hugging Face name (without the trunk's prefix) in the shape it has there.
    pub fn from_tensors(spec: DecoderSpec, source: &dyn Fn(&str, &[usize]) -> Result<Tensor>) -> Result<Self> {
        let input_major = spec.family == DecoderFamily::Gpt2;
        Self::from_source(spec, &Tensors { get: source, input_major })
    }

    /// From any source of values.
    pub fn from_source(spec: DecoderSpec, source: &dyn Source) -> Result<Self> {
        let reader = Reader { source, spec: &spec };
        let ends = reader.ends()?;
        let layers = (0..spec.num_layers).map(|i| reader.layer(i)).collect::<Result<_>>()?;
        let flow = ends.norm.gamma().dtype();
        Ok(Self { spec, ends, layers, flow })
    }

    /// Random weights, N(0, 0.02), norms 1 and biases 0: for benchmarks.
    pub fn random(spec: DecoderSpec, seed: SeedStream, device: &Device) -> Result<Self> {
        let stream = RefCell::new(seed.stream(Purpose::Init, 1 << 32));
        Self::from_tensors(spec, &|name, shape| {
            let n = shape.iter().product();
            let values = match (name.ends_with(".bias"), name.contains("norm") || name.contains("ln_")) {
                (true, _) => vec![0.0; n],
                (_, true) => vec![1.0; n],
                _ => stream.borrow_mut().normal_vec(n, 0.02),
            };
            Ok(Tensor::from_vec(values, shape, device)?)
        })
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
    pub fn ends(&self) -> &Ends {
        &self.ends
    }
    /// The device the weights are on.
    pub fn device(&self) -> &Device {
        self.ends.norm.gamma().device()
    }
    /// The format of the vectors, the residual stream and the final hidden states.
    pub fn dtype(&self) -> DType {
        self.ends.norm.gamma().dtype()
    }
    /// The format of what flows through the layers' products.
    pub fn flow(&self) -> DType {
        self.flow
    }

    /// The format of the matrices.
    pub fn stored(&self) -> DType {
        self.ends.tokens.dtype()
    }

    /// Runs a batch `run.passes` times as one. `rows` are the rows of one pass whose final hidden states are wanted
    /// (ascending, each once); absent: all. -> `[passes * rows, d]`, and what backward needs
    pub fn forward(&self, batch: Packed<'_>, rows: Option<&[u32]>, run: Run<'_>) -> Result<(Tensor, Option<Trace>)> {
        self.check(batch, rows)?;
        let (s, course) = (&self.spec, Course::new(&self.spec, batch, &run));
        let last = self.layers.len().saturating_sub(1);
        let lowest = if run.keep { self.lowest_trained() } else { None };
        let sum = timed(Phase::Elementwise, || self.embed(batch, &course, run.passes))?;
        let mut stream = Stream { sum, delta: None };
        let mut layers = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let (next, saved) = layer.forward(&stream, course.context(s, (i, self.flow), run.route))?;
            if run.keep {
                layers.push(match lowest {
                    Some(lowest) if i < lowest => Kept::Nothing,
                    // The last layer's turn comes at once: keeping it costs nothing at the peak.
                    Some(_) if run.recompute && i != last => Kept::Input(stream),
                    Some(_) => Kept::All(Box::new(saved)),
                    None => Kept::Nothing,
                });
            }
            stream = next;
        }
        let _norm = scope(Phase::Elementwise);
        let rows = rows.map(|rows| self.repeat_rows(rows, batch.ids.len(), run.passes)).transpose()?;
        if let Some(rows) = &rows {
            let chosen = |x: &Tensor| x.index_select(rows, 0);
            stream = Stream { sum: chosen(&stream.sum)?, delta: stream.delta.as_ref().map(chosen).transpose()? };
        }
        let drop = course.drop(3 * self.layers.len() as u64, s.drop.residual);
        let (y, _, norm) = match &stream.delta {
            Some(delta) => self.ends.norm.forward(delta, Some(&stream.sum), drop, self.dtype())?,
            None => self.ends.norm.forward(&stream.sum, None, Dropout::none(), self.dtype())?,
        };
        let route = run.route.filter(|_| run.recompute).cloned();
        let embed_drop = course.drop(0, s.drop.embedding);
        let looked = self.trunk_trained().then(|| Looked { tokens: batch.ids.repeat(run.passes), drop: embed_drop });
        Ok((y, run.keep.then_some(Trace { course, route, looked, layers, norm, rows })))
    }

    /// The lowest layer that a gradient must reach.
    fn lowest_trained(&self) -> Option<usize> {
        if self.trunk_trained() { Some(0) } else { self.layers.iter().position(DecoderLayer::is_trained) }
    }

    /// Adds the gradients of everything trained; stops at the lowest trained module. dy as forward's output
    pub fn backward(&self, trace: Trace, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        let Some(lowest) = self.lowest_trained() else { return Ok(()) };
        let Trace { course, route, looked, layers, norm, rows } = trace;
        self.ends.norm.add_grads(&norm, dy, grads)?;
        let mut back = timed(Phase::Elementwise, || self.norm_backward(&norm, rows.as_ref(), &course, dy))?;
        for (i, (layer, kept)) in self.layers.iter().zip(layers).enumerate().skip(lowest).rev() {
            let saved = match kept {
                Kept::All(saved) => *saved,
                Kept::Input(x) => {
                    let context = course.context(&self.spec, (i, self.flow), route.as_ref());
                    timed(Phase::Recompute, || layer.forward(&x, context))?.1
                }
                Kept::Nothing => return Err(Error::internal("nothing was kept of a layer that has a gradient")),
            };
            let below = i > lowest || looked.is_some();
            match layer.backward(saved, back, course.rotation(&self.spec), below, grads)? {
                Some(next) => back = next,
                None => return Ok(()),
            }
        }
        match looked {
            Some(looked) => {
                timed(Phase::Elementwise, || self.embed_backward(&looked, &course.positions, &back.sum, grads))
            }
            None => Ok(()),
        }
    }

    /// From the final hidden states back to the stream; rows that were not looked at have no gradient.
    fn norm_backward(
        &self,
        norm: &pre_norm::Saved,
        rows: Option<&Tensor>,
        course: &Course,
        dy: &Tensor,
    ) -> Result<Back> {
        let back = Back::of(norm, self.ends.norm.backward(norm, dy, None)?)?;
        let Some(rows) = rows else { return Ok(back) };
        let whole = |part: &Tensor| -> Result<Tensor> {
            let zeros = Tensor::zeros((course.rows.rows(), self.spec.hidden_size), part.dtype(), part.device())?;
            Ok(zeros.index_add(rows, part, 0)?)
        };
        Ok(Back { sum: whole(&back.sum)?, delta: whole(&back.delta)? })
    }

    fn embed(&self, batch: Packed<'_>, course: &Course, passes: usize) -> Result<Tensor> {
        let index = |ids: Vec<u32>| {
            let n = ids.len();
            Tensor::from_vec(ids, n, self.device())
        };
        let drop = course.drop(0, self.spec.drop.embedding);
        let x = self.ends.tokens.gather(&batch.ids.repeat(passes))?.to_dtype(self.flow)?;
        let Some(table) = &self.ends.positions else { return drop.apply(&x) };
        let positions = table.index_select(&index(course.positions.clone())?, 0)?.to_dtype(self.flow)?;
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
