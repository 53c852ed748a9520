//! One step of reading with a [`KvCache`]: new tokens run through the layers and attend to what was read before.

use super::cache::{CachedId, Extension, KvCache};
use super::layer::{LayerContext, Stream};
use super::{CausalLm, Course, Decoder, Packed};
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::model::encoder::Run;
use crate::nn::Dropout;
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::cached_attention::{self, HeadCounts, Query};
use crate::nn::kernels::device::NewTokens;
use crate::nn::kernels::{HostRef, host, is_fast};
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

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
    /// The same for a device's kernels; see [`NewTokens`].
    words: Option<Tensor>,
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
            let step = Step::new(cache, new, self.device())?;
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
        course.angles = cache.take_angles();
        let sum = self.embed(batch, &course, 1)?;
        let mut stream = Stream { sum, delta: None };
        let mut go = || -> Result<Tensor> {
            for (i, layer) in self.layers().iter().enumerate() {
                let context: LayerContext<'_> = course.context(spec, (i, self.flow()), route);
                stream = layer.step(&stream, context, &mut |qkv, layout| cache.attend(i, step, qkv, layout))?;
            }
            if !all {
                let last: Vec<u32> = batch.offsets.iter().skip(1).map(|&end| end as u32 - 1).collect();
                let last = Tensor::new(last, self.device())?;
                let chosen = |x: &Tensor| x.index_select(&last, 0);
                stream = Stream { sum: chosen(&stream.sum)?, delta: stream.delta.as_ref().map(chosen).transpose()? };
            }
            let (y, _, _) = match &stream.delta {
                Some(delta) => self.ends().norm.forward(delta, Some(&stream.sum), Dropout::none(), self.dtype())?,
                None => self.ends().norm.forward(&stream.sum, None, Dropout::none(), self.dtype())?,
            };
            Ok(y)
        };
        let result = go();
        cache.put_angles(course.angles);
        result
    }

    fn check_extension(&self, cache: &KvCache, new: &[Extension<'_>], batch: Packed<'_>) -> Result<()> {
        let spec = self.spec();
        if new.is_empty() || !cache.fits(spec) {
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
    fn new(cache: &KvCache, new: &[Extension<'_>], device: &Device) -> Result<Self> {
        let mut step = Self { positions: Vec::new(), rows: Vec::new(), seen: Vec::new(), fresh: true, words: None };
        let (mut tokens, mut list) = (Vec::new(), Vec::new());
        for extension in new {
            let rows = cache.rows(extension.sequence)?;
            let before: Range<usize> = 0..rows.len() - extension.ids.len();
            step.fresh &= before.is_empty();
            for (at, &row) in rows.iter().enumerate().skip(before.end) {
                step.positions.push(at as u32);
                step.rows.push(row);
                step.seen.push((extension.sequence, at + 1));
                tokens.extend([list.len() as u32, at as u32 + 1, row]);
            }
            list.extend_from_slice(rows);
        }
        if cache.is_there() {
            tokens.extend(list);
            let n = tokens.len();
            step.words = Some(Tensor::from_vec(tokens, n, device)?);
        }
        Ok(step)
    }
}

impl KvCache {
    /// Keeps the new tokens' keys and values, and gives attention's output.
    fn attend(&mut self, layer: usize, step: &Step, qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
        let Qkv::Joint(joint) = qkv else { return Err(Error::internal("queries came apart from keys")) };
        let counts = HeadCounts { heads: layout.heads, kv_heads: layout.kv_heads, head_dim: layout.head_dim };
        if let Some(words) = &step.words {
            let HeadCounts { heads, kv_heads, head_dim } = counts;
            let pool = &self.pool_there(layer, joint)?;
            let new = NewTokens { qkv: joint, pool, words, heads, kv_heads, head_dim };
            return match new.cache(!step.fresh)? {
                Some(out) => Ok(out),
                None => attention::forward(qkv, layout),
            };
        }
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
        let out = cached_attention::attend(&values, &queries, self.pool(layer), counts)?;
        let out = host::tensor(out, (queries.len(), layout.heads * layout.head_dim))?;
        Ok(out.to_device(joint.device())?.to_dtype(joint.dtype())?)
    }
}

impl CausalLm {
    /// Reads new tokens and returns the logits of what follows each sequence. `[sequences, vocab]`
    pub fn extend(&self, cache: &mut KvCache, new: &[Extension<'_>], route: Option<&Route>) -> Result<Tensor> {
        let hidden = self.decoder().extend(cache, new, false, route)?;
        self.head().logits(&hidden)
    }
}
