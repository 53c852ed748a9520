//! A trunk in other formats, and how large it is.

use super::{Decoder, DecoderLayer};
use crate::error::Result;
use crate::nn::PreNorm;
use crate::tensor::NumberFormat;
use candle_core::{DType, Tensor};

impl Decoder {
    /// The same trunk with its matrices stored in `dtype`, as [`Decoder::load`] would have them.
    pub fn stored_as(&self, dtype: DType) -> Result<Self> {
        let mut cast = self.clone().computing_in(dtype);
        cast.segments.tokens = cast.segments.tokens.cast(dtype)?;
        cast.segments.positions = cast.segments.positions.map(|table| table.to_dtype(dtype)).transpose()?;
        // A tied head stays the table itself.
        cast.segments.head =
            if self.spec.tied { cast.segments.tokens.clone() } else { cast.segments.head.cast(dtype)? };
        for layer in &mut cast.layers {
            for linear in [&mut layer.qkv, &mut layer.out, &mut layer.inner, &mut layer.outer] {
                *linear = linear.cast(dtype)?;
            }
        }
        Ok(cast)
    }

    /// The same trunk with its matrices quantised, as a GGUF file would have them; what flows stays as it is.
    pub fn quantised(&self, format: NumberFormat) -> Result<Self> {
        let mut cast = self.clone();
        cast.segments.tokens = cast.segments.tokens.quantised(format)?;
        cast.segments.head =
            if self.spec.tied { cast.segments.tokens.clone() } else { cast.segments.head.quantised(format)? };
        for layer in &mut cast.layers {
            for linear in [&mut layer.qkv, &mut layer.out, &mut layer.inner, &mut layer.outer] {
                *linear = linear.quantised(format)?;
            }
        }
        Ok(cast)
    }

    /// Bytes of its weights as they are held; a head that is the embedding table counts once.
    pub fn weight_bytes(&self) -> usize {
        let tensor = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let norm = |norm: &PreNorm| norm.size().1;
        let layer = |l: &DecoderLayer| {
            let linears = [&l.qkv, &l.out, &l.inner, &l.outer];
            let matrices: usize = linears.into_iter().map(|l| l.weight().bytes() + l.bias().map_or(0, tensor)).sum();
            let heads = l.qk_norm.as_ref().map_or(0, |norm| norm.gamma.iter().map(tensor).sum());
            matrices + norm(&l.attention_norm) + norm(&l.ffn_norm) + heads
        };
        let e = &self.segments;
        let head = if self.spec.tied { 0 } else { e.head.bytes() };
        let tables = e.tokens.bytes() + e.positions.as_ref().map_or(0, tensor) + head;
        tables + norm(&e.norm) + self.layers.iter().map(layer).sum::<usize>()
    }

    /// Values of the frozen trunk, head included where it is not the embedding table.
    pub fn parameter_count(&self) -> usize {
        let linear = |l: &crate::nn::Linear| l.weight().elem_count() + l.bias().map_or(0, Tensor::elem_count);
        let norm = |norm: &PreNorm| norm.size().0;
        let layer = |l: &DecoderLayer| {
            let matrices: usize = [&l.qkv, &l.out, &l.inner, &l.outer].into_iter().map(linear).sum();
            matrices
                + norm(&l.attention_norm)
                + norm(&l.ffn_norm)
                + l.qk_norm.as_ref().map_or(0, |_| 2 * self.spec.head_dim)
        };
        let e = &self.segments;
        let head = if self.spec.tied { 0 } else { e.head.elem_count() };
        let tables = e.tokens.elem_count() + e.positions.as_ref().map_or(0, Tensor::elem_count) + head;
        tables + norm(&e.norm) + self.layers.iter().map(layer).sum::<usize>()
    }
}
