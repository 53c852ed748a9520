//! The encoder: embeddings and a list of layers, over packed sequences.

use super::layer::{self, EncoderLayer, FfnAdapter, LayerContext};
use super::loras::{LayerLoras, LoraRun, Slot, Target};
use super::spec::{EncoderSpec, Family};
use super::weights::Weights;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap};
use crate::nn::embedding::{self, Ids};
use crate::nn::kernels::attention::Layout;
use crate::nn::kernels::device::{takes_model, wide};
use crate::nn::kernels::gemm;
use crate::nn::profile::{Phase, timed};
use crate::nn::{Dropout, Embeddings, Grads, LayerNorm, Linear, Params, Weight};
use crate::rng::{Purpose, SeedStream};
use candle_core::{DType, Device, Tensor};

/// Where dropout masks of one forward come from. The same value gives the same masks.
#[derive(Clone, Copy, Debug)]
pub struct DropKeys {
    base: u64,
}

impl DropKeys {
    /// Of training micro-batch number `index`.
    pub fn new(seed: SeedStream, index: u64) -> Self {
        Self { base: seed.stream(Purpose::Dropout, index).next_u64() }
    }
    /// The dropout at one place of the network.
    pub fn at(self, place: u64, p: f64) -> Dropout {
        if p > 0.0 {
            Dropout::new(self.base.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)), p)
        } else {
            Dropout::none()
        }
    }
}

/// How to run a batch.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Times the batch goes through, packed as one: 2 for the consistency term.
    pub passes: usize,
    /// Which experts run; needed where there is a mixture.
    pub route: Option<&'a Route>,
    /// The trunk's and the head's dropout; absent: none, as in evaluation.
    pub drop: Option<DropKeys>,
    /// Dropout of LoRA's inputs; absent: none, as in evaluation.
    pub lora_drop: Option<DropKeys>,
    /// Return every token's vector instead of the first token's of each sequence.
    pub all_tokens: bool,
    /// Keep what the backward pass needs.
    pub keep: bool,
    /// Of most layers keep the input only and run them again in the backward pass: less memory, more work, same bits.
    pub recompute: bool,
}

impl Run<'_> {
    /// Evaluation of a model without a mixture (or merged).
    pub fn eval() -> Self {
        Self { passes: 1, route: None, drop: None, lora_drop: None, all_tokens: false, keep: false, recompute: false }
    }
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Trace {
    embeddings: embedding::Saved,
    layers: Vec<Kept>,
    /// How to run a layer again, where only its input was kept.
    again: Option<(Course, Option<Route>)>,
}

/// What was kept of a layer.
#[derive(Debug)]
enum Kept {
    /// Nothing: no gradient comes down to it.
    Nothing,
    /// Its input; the rest is computed again.
    Input(Tensor),
    /// All its backward needs.
    All(Box<layer::Saved>),
}

/// How one batch goes through the layers.
#[derive(Debug)]
struct Course {
    /// Bounds of the sequences, all passes.
    offsets: Vec<usize>,
    /// Rows of the first tokens.
    first: Tensor,
    token_rows: RowMap,
    first_rows: RowMap,
    drop: Option<DropKeys>,
    lora_drop: Option<DropKeys>,
    all_tokens: bool,
}

impl Course {
    fn new(batch: &Batch, run: &Run<'_>, device: &Device) -> Result<Self> {
        let offsets = repeat_offsets(&batch.offsets, run.passes);
        let first: Vec<u32> = offsets[..offsets.len() - 1].iter().map(|&o| o as u32).collect();
        Ok(Self {
            first: Tensor::from_vec(first, offsets.len() - 1, device)?,
            offsets,
            token_rows: RowMap::tokens(&batch.offsets, run.passes),
            first_rows: RowMap::first_tokens(&batch.offsets, run.passes),
            drop: run.drop,
            lora_drop: run.lora_drop,
            all_tokens: run.all_tokens,
        })
    }

    fn drop(&self, place: u64, p: f64) -> Dropout {
        self.drop.map_or_else(Dropout::none, |keys| keys.at(place, p))
    }

    /// What layer `i` shares with the others.
    fn context<'a>(&'a self, spec: &EncoderSpec, i: usize, route: Option<&'a Route>) -> LayerContext<'a> {
        let pooled = i + 1 == spec.num_layers && !self.all_tokens;
        let spans = || self.offsets.windows(2).map(|w| w[0]..w[1]).collect::<Vec<_>>();
        let place = 1 + 3 * i as u64;
        let head_dim = spec.hidden_size / spec.num_heads;
        let drop = self.drop(place, spec.attention_dropout);
        let mut layout = Layout::bidirectional(spans(), spec.num_heads, head_dim, drop);
        if pooled {
            layout.queries = (0..self.offsets.len() - 1).map(|q| q..q + 1).collect();
        }
        LayerContext {
            layout,
            tokens: &self.token_rows,
            rows: if pooled { &self.first_rows } else { &self.token_rows },
            first_tokens: pooled.then_some(&self.first),
            route: route.map(|route| (route, i)),
            lora: LoraRun { route, drop: self.lora_drop },
            drops: [self.drop(place + 1, spec.hidden_dropout), self.drop(place + 2, spec.hidden_dropout)],
        }
    }
}

/// Embeddings and layers.
#[derive(Clone, Debug)]
pub struct Encoder {
    spec: EncoderSpec,
    embeddings: Embeddings,
    layers: Vec<EncoderLayer>,
    trunk_trained: bool,
}

/// Reads tensors of one dtype onto one device.
struct Reader<'a> {
    weights: &'a Weights,
    dtype: DType,
    device: &'a Device,
}

impl Reader<'_> {
    /// Matrices have the trunk's format, vectors the wide one.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let dtype = if shape.len() > 1 { self.dtype } else { wide(self.dtype) };
        self.weights.get(name, shape, dtype, self.device)
    }
    fn linear(&self, name: &str, d_out: usize, d_in: usize) -> Result<Linear> {
        Ok(Linear::new(
            self.get(&format!("{name}.weight"), &[d_out, d_in])?,
            Some(self.get(&format!("{name}.bias"), &[d_out])?),
        ))
    }
    fn norm(&self, name: &str, d: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm::new(self.get(&format!("{name}.weight"), &[d])?, self.get(&format!("{name}.bias"), &[d])?, eps))
    }
}

impl Encoder {
    /// Reads all tensors of the trunk.
    pub fn load(spec: EncoderSpec, weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
        takes_model(device, spec.hidden_size / spec.num_heads.max(1), spec.hidden_size)?;
        let reader = Reader { weights, dtype, device };
        let (d, eps) = (spec.hidden_size, spec.layer_norm_eps);
        let embeddings = Embeddings::new(
            reader.get("embeddings.word_embeddings.weight", &[spec.vocab_size, d])?,
            reader.get("embeddings.position_embeddings.weight", &[spec.max_positions, d])?,
            reader.get("embeddings.token_type_embeddings.weight", &[spec.type_vocab_size, d])?,
            reader.norm("embeddings.LayerNorm", d, eps)?,
        );
        let embeddings = embeddings.with_activation_dtype(flow(dtype, device));
        let layers = (0..spec.num_layers).map(|i| read_layer(&reader, &spec, i)).collect::<Result<_>>()?;
        Ok(Self { spec, embeddings, layers, trunk_trained: false })
    }

    /// Random weights, N(0, 0.02), for benchmarks and for training from scratch. `init` makes each tensor's values: `(shape, std)`.
    pub fn random(spec: EncoderSpec, seed: SeedStream, device: &Device) -> Result<Self> {
        let mut stream = seed.stream(Purpose::Init, 1 << 32);
        let (d, f, eps) = (spec.hidden_size, spec.intermediate_size, spec.layer_norm_eps);
        let mut normal = |shape: &[usize]| -> Result<Tensor> {
            Ok(Tensor::from_vec(stream.normal_vec(shape.iter().product(), 0.02), shape, device)?)
        };
        let zeros = |n: usize| Tensor::zeros(n, DType::F32, device);
        let norm = || -> Result<LayerNorm> { Ok(LayerNorm::new(Tensor::ones(d, DType::F32, device)?, zeros(d)?, eps)) };
        let (word, position) = (normal(&[spec.vocab_size, d])?, normal(&[spec.max_positions, d])?);
        let embeddings = Embeddings::new(word, position, normal(&[spec.type_vocab_size, d])?, norm()?);
        let mut layers = Vec::new();
        for _ in 0..spec.num_layers {
            let mut linear =
                |o: usize, i: usize| -> Result<Linear> { Ok(Linear::new(normal(&[o, i])?, Some(zeros(o)?))) };
            layers.push(EncoderLayer {
                qkv: linear(3 * d, d)?,
                attention_out: linear(d, d)?,
                attention_norm: norm()?,
                inner: linear(f, d)?,
                outer: linear(d, f)?,
                output_norm: norm()?,
                adapter: FfnAdapter::None,
                loras: LayerLoras::default(),
                act: spec.act,
            });
        }
        Ok(Self { spec, embeddings, layers, trunk_trained: false })
    }

    /// The same trunk with its matrices stored in `dtype`, as [`Encoder::load`] would have them. Only before anything of it
    /// is trained.
    pub fn stored(&self, dtype: DType) -> Result<Self> {
        let mut cast = self.cast(dtype)?;
        cast.embeddings = cast.embeddings.with_activation_dtype(flow(dtype, self.device()));
        Ok(cast)
    }

    /// The same trunk with its matrices, and what flows through it, in another format. Only before anything of it is trained.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        let mut cast = Self { embeddings: self.embeddings.cast(dtype)?, ..self.clone() };
        for layer in &mut cast.layers {
            for linear in [&mut layer.qkv, &mut layer.attention_out, &mut layer.inner, &mut layer.outer] {
                *linear = linear.cast(dtype)?;
            }
        }
        Ok(cast)
    }

    /// Shape and constants.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }
    /// The layers, bottom first.
    pub fn layers(&self) -> &[EncoderLayer] {
        &self.layers
    }
    /// The layers, for putting adapters in.
    pub fn layers_mut(&mut self) -> &mut [EncoderLayer] {
        &mut self.layers
    }
    /// The embeddings.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }
    /// The device the weights are on.
    pub fn device(&self) -> &Device {
        self.embeddings.word().device()
    }

    /// The format of the trunk's matrices.
    pub fn dtype(&self) -> DType {
        self.embeddings.word().dtype()
    }
    /// The format of what flows through the trunk.
    pub fn flow(&self) -> DType {
        self.embeddings.activation_dtype()
    }

    /// Makes every weight trained, under the names of the Hugging Face layout.
    pub fn train_trunk(&mut self, params: &mut Params) {
        self.embeddings.train("embeddings", params);
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.train(&format!("encoder.layer.{i}"), params);
        }
        self.trunk_trained = true;
    }

    /// Values of the frozen trunk.
    pub fn parameter_count(&self) -> usize {
        let s = &self.spec;
        let d = s.hidden_size;
        let tables = (s.vocab_size + s.max_positions + s.type_vocab_size) * d;
        let per_layer = 4 * (d * d + d) + 2 * d * s.intermediate_size + s.intermediate_size + d + 4 * d;
        tables + 2 * d + s.num_layers * per_layer
    }

    /// Runs a batch `passes` times as one. -> `[passes * sequences, d]` or `[passes * tokens, d]`, and what backward needs
    pub fn forward(&self, batch: &Batch, run: Run<'_>) -> Result<(Tensor, Option<Trace>)> {
        self.check(batch)?;
        let course = Course::new(batch, &run, self.device())?;
        let ids = self.ids(batch, run.passes)?;
        let last = self.layers.len().saturating_sub(1);
        let lowest = if run.keep { self.lowest_trained() } else { None };
        let drop = course.drop(0, self.spec.hidden_dropout);
        let (mut x, embeddings) = timed(Phase::Elementwise, || self.embeddings.forward(&ids, drop))?;
        let mut layers = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let (y, saved) = layer.forward(&x, course.context(&self.spec, i, run.route))?;
            if run.keep {
                layers.push(match lowest {
                    Some(lowest) if i < lowest => Kept::Nothing,
                    // The last layer's turn comes at once: keeping it costs nothing at the peak.
                    Some(_) if run.recompute && i != last => Kept::Input(x),
                    Some(_) => Kept::All(Box::new(saved)),
                    None => Kept::Nothing,
                });
            }
            x = y;
        }
        let again = (run.keep && run.recompute).then(|| (course, run.route.cloned()));
        Ok((x, run.keep.then_some(Trace { embeddings, layers, again })))
    }

    /// The lowest layer that a gradient must reach.
    fn lowest_trained(&self) -> Option<usize> {
        let has_mixture =
            |layer: &EncoderLayer| matches!(layer.adapter, FfnAdapter::Mixture(_)) || layer.loras.lowest().is_some();
        if self.trunk_trained { Some(0) } else { self.layers.iter().position(has_mixture) }
    }

    /// Adds the gradients of everything trained; stops at the lowest trained module. dy as forward's output
    pub fn backward(&self, trace: Trace, dy: Tensor, grads: &mut Grads) -> Result<()> {
        let Some(lowest) = self.lowest_trained() else { return Ok(()) };
        let Trace { embeddings, layers, again } = trace;
        let mut dy = dy;
        for (i, (layer, kept)) in self.layers.iter().zip(layers).enumerate().skip(lowest).rev() {
            let below = i > lowest || self.trunk_trained;
            let saved = match (kept, &again) {
                (Kept::All(saved), _) => *saved,
                (Kept::Input(x), Some((course, route))) => {
                    let context = course.context(&self.spec, i, route.as_ref());
                    timed(Phase::Recompute, || layer.forward(&x, context))?.1
                }
                _ => return Err(Error::internal("nothing was kept of a layer that has a gradient")),
            };
            match layer.backward(saved, &dy, below, grads)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        timed(Phase::Elementwise, || self.embeddings.backward(&embeddings, &dy, grads))
    }

    fn ids(&self, batch: &Batch, passes: usize) -> Result<Ids> {
        let offset = self.spec.position_offset as u32;
        let positions: Vec<u32> =
            batch.offsets.windows(2).flat_map(|w| (0..(w[1] - w[0]) as u32).map(move |i| i + offset)).collect();
        let segments = match self.spec.family {
            Family::Bert => batch.type_ids.clone(),
            Family::Roberta => vec![0; batch.tokens()],
        };
        Ids::new(batch.ids.repeat(passes), positions.repeat(passes), segments.repeat(passes), self.device())
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let s = &self.spec;
        let total = batch.offsets.last().copied().unwrap_or(0);
        if batch.is_empty() || total != batch.ids.len() || batch.type_ids.len() != total || batch.offsets[0] != 0 {
            return Err(Error::internal("a batch whose offsets do not fit its tokens"));
        }
        if let Some(w) = batch.offsets.windows(2).find(|w| w[1] <= w[0] || w[1] - w[0] > s.max_length()) {
            let length = w[1].saturating_sub(w[0]);
            return Err(Error::config(format!(
                "a sequence of {length} tokens; this model takes 1 to {}, lower max_length",
                s.max_length()
            )));
        }
        if let Some(id) = batch.ids.iter().find(|&&id| id as usize >= s.vocab_size) {
            return Err(Error::config(format!(
                "token id {id} is outside the model's vocabulary of {}; the tokenizer belongs to another model",
                s.vocab_size
            )));
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

/// The matrices of a layer that can have a LoRA, under their Hugging Face names.
pub fn lora_targets(spec: &EncoderSpec) -> Vec<Target> {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    let target = |path: &str, slot: Slot, rows: std::ops::Range<usize>, d_in: usize| Target {
        path: path.to_owned(),
        slot,
        columns: vec![rows],
        d_in,
        whole: true,
    };
    vec![
        target("attention.self.query", Slot::Qkv, 0..d, d),
        target("attention.self.key", Slot::Qkv, d..2 * d, d),
        target("attention.self.value", Slot::Qkv, 2 * d..3 * d, d),
        target("attention.output.dense", Slot::Out, 0..d, d),
        target("intermediate.dense", Slot::Inner, 0..f, d),
        target("output.dense", Slot::Outer, 0..d, f),
    ]
}

/// The targets of an empty setting: the paper's queries and values.
pub const DEFAULT_TARGETS: [&str; 2] = ["query", "value"];

/// The format of what flows through a trunk whose matrices have format `dtype`: the same, where the device computes in it.
/// Elsewhere on the CPU 16-bit weights only save memory, and everything between the products is f32.
pub(super) fn flow(dtype: DType, device: &Device) -> DType {
    if device.is_cpu() && !(dtype == DType::BF16 && gemm::multiplies_bf16()) { wide(dtype) } else { dtype }
}

/// Offsets of `passes` copies of a batch, one after the other.
pub(super) fn repeat_offsets(offsets: &[usize], passes: usize) -> Vec<usize> {
    let total = offsets.last().copied().unwrap_or(0);
    let mut all = vec![0];
    for pass in 0..passes {
        all.extend(offsets.iter().skip(1).map(|o| o + pass * total));
    }
    all
}

fn read_layer(reader: &Reader<'_>, spec: &EncoderSpec, i: usize) -> Result<EncoderLayer> {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    let name = |part: &str| format!("encoder.layer.{i}.{part}");
    let parts = ["query", "key", "value"].map(|part| reader.linear(&name(&format!("attention.self.{part}")), d, d));
    let [q, k, v] = parts;
    let (q, k, v) = (q?, k?, v?);
    let biases = [&q, &k, &v].iter().filter_map(|linear| linear.bias().cloned()).collect::<Vec<_>>();
    let weights = [&q, &k, &v].map(|linear| linear.weight().clone());
    let qkv = Linear::new(Weight::stack(weights.to_vec())?, Some(Tensor::cat(&biases, 0)?));
    Ok(EncoderLayer {
        qkv,
        attention_out: reader.linear(&name("attention.output.dense"), d, d)?,
        attention_norm: reader.norm(&name("attention.output.LayerNorm"), d, spec.layer_norm_eps)?,
        inner: reader.linear(&name("intermediate.dense"), f, d)?,
        outer: reader.linear(&name("output.dense"), d, f)?,
        output_norm: reader.norm(&name("output.LayerNorm"), d, spec.layer_norm_eps)?,
        adapter: FfnAdapter::None,
        loras: LayerLoras::default(),
        act: spec.act,
    })
}
