//! One step of reading with a [`KvCache`]: new tokens run through the layers and attend to what was read before.

use super::cache::{CachedId, Extension, KvCache};
use super::layer::Stream;
use super::{CausalLm, Decoder, DecoderPass, Packed};
use crate::error::{Error, Result};
use crate::mixture::Route;
use crate::model::network::BaseModel as _;
use crate::model::stack::{ForwardOptions, check_ids};
use crate::nn::Dropout;
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::cached_attention::{self, HeadCounts, Query};
use crate::nn::kernels::device::NewTokens;
use crate::nn::kernels::{HostRef, host, is_fast};
use crate::tensor::{DType, Device, Tensor};
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
    /// Reads new tokens of some sequences, each named once: final hidden states of the last new token of each sequence, or of
    /// `all` new tokens. `[sequences or new tokens, d]`. The route is of these sequences and tokens.
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
        let result = self.run_step(cache, new, batch, all, route);
        if result.is_err() {
            cache.shrink(new);
        }
        result
    }

    fn run_step(
        &self,
        cache: &mut KvCache,
        new: &[Extension<'_>],
        batch: Packed<'_>,
        all: bool,
        route: Option<&Route>,
    ) -> Result<Tensor> {
        let (spec, step) = (&self.spec, Step::new(cache, new, self.device())?);
        let mut pass = DecoderPass::new(spec, batch, &ForwardOptions { route, ..ForwardOptions::eval() });
        pass.angles = cache.angles(spec, step.positions.iter().max().map_or(0, |&position| position as usize + 1));
        pass.positions.clone_from(&step.positions);
        let mut stream = Stream { sum: self.embed(batch, &pass, 1)?, delta: None };
        for (i, layer) in self.layers.iter().enumerate() {
            let context = pass.context(spec, i, self.activation_dtype());
            let attend = &mut |qkv: &Qkv, layout: &Layout| {
                Ok((cache.attend(i, &step, qkv, layout)?, attention::Saved::default()))
            };
            stream = layer.forward(&stream, &context, attend)?.0;
        }
        let last: Vec<u32> = batch.offsets.iter().skip(1).map(|&end| end as u32 - 1).collect();
        let rows = if all { None } else { Some(Tensor::new(last, self.device())?) };
        Ok(self.final_norm(stream, rows.as_ref(), Dropout::none())?.0)
    }

    fn check_extension(&self, cache: &KvCache, new: &[Extension<'_>], batch: Packed<'_>) -> Result<()> {
        let spec = &self.spec;
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
        check_ids(batch.ids, spec.vocab_size)
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
        if cache.on_device {
            tokens.extend(list);
            step.words = Some(Tensor::new(tokens, device)?);
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
            let pool = &self.device_pool(layer, joint)?;
            let longest = step.seen.iter().map(|&(_, seen)| seen).max().unwrap_or(0);
            let new = NewTokens { qkv: joint, pool, words, longest, counts };
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
        out.to_device(joint.device())?.to_dtype(joint.dtype())
    }
}

impl CausalLm {
    /// Reads new tokens and returns the logits of what follows each sequence. `[sequences, vocab]`
    pub fn extend(&self, cache: &mut KvCache, new: &[Extension<'_>], route: Option<&Route>) -> Result<Tensor> {
        let hidden = self.base.extend(cache, new, false, route)?;
        self.base.head.logits(&hidden)
    }
}
