//! Keys and values of what sequences have read, so that only new tokens run.
//!
//! A sequence is a list of rows in a pool: copies (beams, several routes) share rows, and unused rows are used again.

use super::{Decoder, DecoderSpec};
use crate::error::{Error, Result};
use crate::model::network::BaseModel as _;
use crate::nn::kernels::cached_attention::{HeadCounts, Pool};
use crate::nn::kernels::rope::Angles;
use crate::tensor::Tensor;
use std::sync::Arc;

/// A sequence in a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CachedId(usize);

/// Keys and values of one layer, in f32 in the host's memory `[rows, width]` each, or side by side in a device's, in the
/// format of the activations `[rows, 2 width]`.
#[derive(Debug, Default)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
    device_pool: Option<Tensor>,
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
    angles: Option<Arc<Angles>>,
    /// Whether keys and values stay in the memory of the model's device.
    pub(super) on_device: bool,
    /// Rows to take memory for on that device at least.
    reserved: usize,
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
    /// For models of this shape; where their device has kernels for it, keys and values stay in its memory.
    pub fn new(decoder: &Decoder) -> Self {
        let spec = &decoder.spec;
        Self {
            layers: (0..spec.num_layers).map(|_| Layer::default()).collect(),
            width: spec.num_kv_heads * spec.head_dim,
            uses: Vec::new(),
            free: Vec::new(),
            sequences: Vec::new(),
            angles: None,
            on_device: !decoder.device().is_cpu(),
            reserved: 0,
        }
    }

    /// Takes the memory of so many further tokens at once.
    pub fn reserve(&mut self, tokens: usize) {
        let more = tokens.saturating_sub(self.free.len());
        self.reserved = self.reserved.max(self.uses.len() + more);
        if self.on_device {
            return;
        }
        let more = more * self.width;
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

    fn place(&mut self, rows: Vec<u32>) -> CachedId {
        let empty = self.sequences.iter().position(Option::is_none);
        let at = empty.unwrap_or(self.sequences.len());
        if at == self.sequences.len() {
            self.sequences.push(None);
        }
        self.sequences[at] = Some(rows);
        CachedId(at)
    }

    pub(super) fn rows(&self, id: CachedId) -> Result<&[u32]> {
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
    pub(super) fn grow(&mut self, new: &[Extension<'_>]) -> Result<()> {
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
        let len = if self.on_device { 0 } else { self.uses.len() * self.width };
        for layer in &mut self.layers {
            layer.keys.resize(len, 0.0);
            layer.values.resize(len, 0.0);
        }
        Ok(())
    }

    /// Takes the last tokens away again: those of a step that failed.
    pub(super) fn shrink(&mut self, new: &[Extension<'_>]) {
        for extension in new {
            let rows = self.sequences.get_mut(extension.sequence.0).and_then(Option::as_mut);
            let dropped =
                rows.map_or_else(Vec::new, |rows| rows.split_off(rows.len().saturating_sub(extension.ids.len())));
            dropped.into_iter().for_each(|row| self.release(row));
        }
    }

    /// Keeps keys and values of the new tokens.
    pub(super) fn store(&mut self, layer: usize, qkv: &[f32], rows: &[u32], counts: HeadCounts) {
        let (kv, first) = (self.width, counts.heads * counts.head_dim);
        let layer = &mut self.layers[layer];
        for (qkv, &row) in qkv.chunks_exact(first + 2 * kv).zip(rows) {
            let at = row as usize * kv;
            layer.keys[at..at + kv].copy_from_slice(&qkv[first..first + kv]);
            layer.values[at..at + kv].copy_from_slice(&qkv[first + kv..]);
        }
    }

    /// Angles of at least so many positions; grown by half as much again, so that a step seldom computes any.
    pub(super) fn angles(&mut self, spec: &DecoderSpec, positions: usize) -> Option<Arc<Angles>> {
        if let Some(rope) = &spec.rope
            && self.angles.as_ref().is_none_or(|angles| angles.positions() < positions)
        {
            self.angles = Some(Arc::new(rope.angles((positions + positions / 2).max(64))));
        }
        self.angles.clone()
    }

    /// Keys and values of one layer.
    pub(super) fn pool(&self, layer: usize) -> Pool<'_> {
        Pool { keys: &self.layers[layer].keys, values: &self.layers[layer].values }
    }

    /// Keys and values of one layer in the memory of the device of `like`, grown by half as much again where needed, so that
    /// a step seldom copies any.
    pub(super) fn device_pool(&mut self, layer: usize, like: &Tensor) -> Result<Tensor> {
        let (rows, columns) = (self.uses.len(), 2 * self.width);
        let place = &mut self.layers[layer].device_pool;
        if let Some(pool) = place.as_ref().filter(|pool| pool.dims()[0] >= rows) {
            return Ok(pool.clone());
        }
        let capacity = self.reserved.max(rows + rows / 2).max(64);
        let pool = Tensor::zeros((capacity, columns), like.dtype(), like.device())?;
        if let Some(old) = place.take() {
            pool.slice_set(&old, 0, 0)?;
        }
        *place = Some(pool.clone());
        Ok(pool)
    }

    /// Whether it was made for models of this shape.
    pub(super) fn fits(&self, spec: &DecoderSpec) -> bool {
        self.width == spec.num_kv_heads * spec.head_dim && self.layers.len() == spec.num_layers
    }
}
