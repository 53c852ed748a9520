//! Writing text token by token: keys and values of what was read are remembered, and only new tokens run.
//!
//! One [`KvCache`] serves any number of sequences. A sequence is a list of rows in a pool, so that a copy of it (a beam
//! that goes on in two ways, a prompt asked along several routes) shares what it has read; rows nobody uses any more
//! are used again. A step computes what its new tokens need and copies nothing of what was there.

use super::layer::{LayerContext, Stream};
use super::{CausalLm, Course, Decoder, DecoderSpec, Packed};
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::model::encoder::Run;
use crate::nn::Dropout;
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::cached_attention::{self, HeadCounts, Pool, Query};
use crate::nn::kernels::rope::Angles;
use crate::nn::kernels::{HostRef, host, is_fast};
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// A sequence in a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CachedId(usize);

/// Keys and values of one layer. `[rows, width]` each
#[derive(Debug, Default)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Keys and values of everything that sequences have read.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Layer>,
    /// Columns of a row: kv_heads * head_dim.
    width: usize,
    /// How many sequences use each row. `[rows]`
    uses: Vec<u32>,
    /// Rows nobody uses.
    free: Vec<u32>,
    /// The rows of each sequence, in order of position.
    sequences: Vec<Option<Vec<u32>>>,
    angles: Option<Angles>,
}

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    /// The sequence they follow.
    pub sequence: CachedId,
    /// Their ids, at least one.
    pub ids: &'a [u32],
}

impl KvCache {
    /// For models of this shape.
    pub fn new(spec: &DecoderSpec) -> Self {
        Self {
            layers: (0..spec.num_layers).map(|_| Layer::default()).collect(),
            width: spec.num_kv_heads * spec.head_dim,
            uses: Vec::new(),
            free: Vec::new(),
            sequences: Vec::new(),
            angles: None,
        }
    }

    /// Takes the memory of so many further tokens at once.
    pub fn reserve(&mut self, tokens: usize) {
        let more = tokens.saturating_sub(self.free.len()) * self.width;
        for layer in &mut self.layers {
            layer.keys.reserve_exact(more);
            layer.values.reserve_exact(more);
        }
    }

    /// An empty sequence.
    pub fn start(&mut self) -> CachedId {
        self.place(Vec::new())
    }

    /// A sequence that has read the same; copies nothing.
    pub fn fork(&mut self, id: CachedId) -> Result<CachedId> {
        let rows = self.rows(id)?.to_vec();
        rows.iter().for_each(|&row| self.uses[row as usize] += 1);
        Ok(self.place(rows))
    }

    /// Forgets a sequence.
    pub fn forget(&mut self, id: CachedId) {
        for row in self.sequences.get_mut(id.0).and_then(Option::take).unwrap_or_default() {
            self.release(row);
        }
    }

    /// Tokens that a sequence has read.
    pub fn tokens(&self, id: CachedId) -> Result<usize> {
        self.rows(id).map(<[u32]>::len)
    }

    /// Rows in use, and rows there is memory for.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.uses.len() - self.free.len(), self.uses.len())
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| 4 * (layer.keys.capacity() + layer.values.capacity())).sum()
    }

    fn place(&mut self, rows: Vec<u32>) -> CachedId {
        let empty = self.sequences.iter().position(Option::is_none);
        let at = empty.unwrap_or(self.sequences.len());
        if at == self.sequences.len() {
            self.sequences.push(None);
        }
        self.sequences[at] = Some(rows);
        CachedId(at)
    }

    fn rows(&self, id: CachedId) -> Result<&[u32]> {
        let rows = self.sequences.get(id.0).and_then(Option::as_deref);
        rows.ok_or_else(|| Error::internal("a sequence that was forgotten"))
    }

    fn release(&mut self, row: u32) {
        let uses = &mut self.uses[row as usize];
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            self.free.push(row);
        }
    }

    /// Gives the new tokens their rows.
    fn grow(&mut self, new: &[Extension<'_>]) -> Result<()> {
        for extension in new {
            for _ in extension.ids {
                let row = match self.free.pop() {
                    Some(row) => row,
                    None => {
                        self.uses.push(0);
                        self.uses.len() as u32 - 1
                    }
                };
                self.uses[row as usize] = 1;
                let rows = self.sequences.get_mut(extension.sequence.0).and_then(Option::as_mut);
                rows.ok_or_else(|| Error::internal("a sequence that was forgotten"))?.push(row);
            }
        }
        let len = self.uses.len() * self.width;
        for layer in &mut self.layers {
            layer.keys.resize(len, 0.0);
            layer.values.resize(len, 0.0);
        }
        Ok(())
    }

    /// Takes the last tokens away again: those of a step that failed.
    fn shrink(&mut self, new: &[Extension<'_>]) {
        for extension in new {
            let rows = self.sequences.get_mut(extension.sequence.0).and_then(Option::as_mut);
            let dropped =
                rows.map_or_else(Vec::new, |rows| rows.split_off(rows.len().saturating_sub(extension.ids.len())));
            dropped.into_iter().for_each(|row| self.release(row));
        }
    }

    /// Keeps keys and values of the new tokens.
    fn store(&mut self, layer: usize, qkv: &[f32], rows: &[u32], counts: HeadCounts) {
        let (kv, first) = (self.width, counts.heads * counts.head_dim);
        let layer = &mut self.layers[layer];
        for (qkv, &row) in qkv.chunks_exact(first + 2 * kv).zip(rows) {
            let at = row as usize * kv;
            layer.keys[at..at + kv].copy_from_slice(&qkv[first..first + kv]);
            layer.values[at..at + kv].copy_from_slice(&qkv[first + kv..]);
        }
    }

    /// Angles of at least so many positions; grown by half as much again, so that a step seldom computes any.
    fn angles_for(&mut self, spec: &DecoderSpec, positions: usize) {
        if let Some(rope) = &spec.rope
            && self.angles.as_ref().is_none_or(|angles| angles.positions() < positions)
        {
            self.angles = Some(rope.angles((positions + positions / 2).max(64)));
        }
    }
}

/// Where the new tokens of a step stand.
struct Step {
    /// Position of each new token in its sequence.
    positions: Vec<u32>,
    /// Row of each new token in the pool.
    rows: Vec<u32>,
    /// Sequence of each new token, and how many of its rows it sees.
    seen: Vec<(CachedId, usize)>,
    /// Whether no sequence has read anything before.
    fresh: bool,
}

impl Decoder {
    /// Reads new tokens of some sequences (each named once) and returns the final hidden states: of the last new token of
    /// each sequence, or of all new tokens. `[sequences or new tokens, d]`. The route's sequences and tokens are those
    /// given here, in this order.
    pub fn extend(
        &self,
        cache: &mut KvCache,
        new: &[Extension<'_>],
        all: bool,
        route: Option<&Route>,
    ) -> Result<Tensor> {
        let mut offsets = vec![0];
        new.iter().for_each(|extension| offsets.push(offsets[offsets.len() - 1] + extension.ids.len()));
        let ids: Vec<u32> = new.iter().flat_map(|extension| extension.ids.iter().copied()).collect();
        let batch = Packed { ids: &ids, offsets: &offsets };
        self.check_extension(cache, new, batch)?;
        cache.grow(new)?;
        let run = |cache: &mut KvCache| {
            let step = Step::new(cache, new)?;
            self.run_step(cache, batch, &step, all, route)
        };
        let result = run(cache);
        if result.is_err() {
            cache.shrink(new);
        }
        result
    }

    fn run_step(
        &self,
        cache: &mut KvCache,
        batch: Packed<'_>,
        step: &Step,
        all: bool,
        route: Option<&Route>,
    ) -> Result<Tensor> {
        let spec = self.spec();
        let furthest = step.positions.iter().max().map_or(0, |&position| position as usize + 1);
        cache.angles_for(spec, furthest);
        let mut course = Course::new(spec, batch, &Run::eval());
        course.positions.clone_from(&step.positions);
        course.angles = cache.angles.take();
        let sum = self.embed(batch, &course, 1)?;
        let mut stream = Stream { sum, delta: None };
        let mut go = || -> Result<Tensor> {
            for (i, layer) in self.layers().iter().enumerate() {
                let context: LayerContext<'_> = course.context(spec, i, route);
                stream = layer.step(&stream, context, &mut |qkv, layout| cache.attend(i, step, qkv, layout))?;
            }
            if !all {
                let last: Vec<u32> = batch.offsets.iter().skip(1).map(|&end| end as u32 - 1).collect();
                let last = Tensor::new(last, self.device())?;
                let chosen = |x: &Tensor| x.index_select(&last, 0);
                stream = Stream { sum: chosen(&stream.sum)?, delta: stream.delta.as_ref().map(chosen).transpose()? };
            }
            let (y, _, _) = match &stream.delta {
                Some(delta) => self.ends().norm.forward(delta, Some(&stream.sum), Dropout::none())?,
                None => self.ends().norm.forward(&stream.sum, None, Dropout::none())?,
            };
            Ok(y)
        };
        let result = go();
        cache.angles = course.angles;
        result
    }

    fn check_extension(&self, cache: &KvCache, new: &[Extension<'_>], batch: Packed<'_>) -> Result<()> {
        let spec = self.spec();
        if new.is_empty() || cache.width != spec.num_kv_heads * spec.head_dim || cache.layers.len() != spec.num_layers {
            return Err(Error::internal(format!("{} sequences for a cache of another shape", new.len())));
        }
        for (i, extension) in new.iter().enumerate() {
            let length = cache.tokens(extension.sequence)? + extension.ids.len();
            if extension.ids.is_empty() || new[..i].iter().any(|other| other.sequence == extension.sequence) {
                return Err(Error::internal("a sequence that goes on without a token, or twice in a step"));
            }
            if length > spec.max_length() {
                return Err(Error::config(format!(
                    "a text of {length} tokens; this model takes {}, give a shorter prompt or ask for fewer new tokens",
                    spec.max_length()
                )));
            }
        }
        self.check_ids(batch.ids)
    }
}

impl Step {
    fn new(cache: &KvCache, new: &[Extension<'_>]) -> Result<Self> {
        let mut step = Self { positions: Vec::new(), rows: Vec::new(), seen: Vec::new(), fresh: true };
        for extension in new {
            let rows = cache.rows(extension.sequence)?;
            let before: Range<usize> = 0..rows.len() - extension.ids.len();
            step.fresh &= before.is_empty();
            for at in before.end..rows.len() {
                step.positions.push(at as u32);
                step.rows.push(rows[at]);
                step.seen.push((extension.sequence, at + 1));
            }
        }
        Ok(step)
    }
}

impl KvCache {
    /// Keeps the new tokens' keys and values, and gives attention's output.
    fn attend(&mut self, layer: usize, step: &Step, qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
        let Qkv::Joint(joint) = qkv else { return Err(Error::internal("queries came apart from keys")) };
        let counts = HeadCounts { heads: layout.heads, kv_heads: layout.kv_heads, head_dim: layout.head_dim };
        // Where the model runs elsewhere or in another precision, what is remembered is f32 in the host's memory.
        let host_qkv =
            if is_fast(joint) { joint.clone() } else { joint.to_device(&Device::Cpu)?.to_dtype(DType::F32)? };
        let values = HostRef::of(&host_qkv)?;
        self.store(layer, &values, &step.rows, counts);
        if step.fresh {
            return attention::forward(qkv, layout);
        }
        let query = |&(sequence, seen): &(CachedId, usize)| Ok(Query { rows: self.rows(sequence)?, seen });
        let queries = step.seen.iter().map(query).collect::<Result<Vec<_>>>()?;
        let pool = Pool { keys: &self.layers[layer].keys, values: &self.layers[layer].values };
        let out = cached_attention::attend(&values, &queries, pool, counts)?;
        let out = host::tensor(out, (queries.len(), layout.heads * layout.head_dim))?;
        Ok(out.to_device(joint.device())?.to_dtype(joint.dtype())?)
    }
}

impl CausalLm {
    /// Reads new tokens and returns the logits of what follows each sequence. `[sequences, vocab]`
    pub fn extend(&self, cache: &mut KvCache, new: &[Extension<'_>], route: Option<&Route>) -> Result<Tensor> {
        let hidden = self.decoder().extend(cache, new, false, route)?;
        self.head().linear(&hidden, None)
    }
}
