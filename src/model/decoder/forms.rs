//! A decoder in other number formats, and how large it is.

use super::Decoder;
use crate::error::Result;
use crate::model::network::AdaptableLayer as _;
use crate::nn::{Linear, PreNorm, Weight};
use crate::tensor::NumberFormat;
use candle_core::{DType, Tensor};

impl Decoder {
    /// The same decoder with its matrices stored in `dtype`, as [`Decoder::load`] would have them.
    pub fn stored_as(&self, dtype: DType) -> Result<Self> {
        let mut cast = self.with_matrices(|table| table.cast(dtype), |linear| linear.cast(dtype))?.computing_in(dtype);
        cast.segments.positions = cast.segments.positions.map(|table| table.to_dtype(dtype)).transpose()?;
        Ok(cast)
    }

    /// The same decoder with its matrices quantised, as a GGUF file would have them; activations keep their format.
    pub fn quantised(&self, format: NumberFormat) -> Result<Self> {
        self.with_matrices(|table| table.quantised(format), |linear| linear.quantised(format))
    }

    fn with_matrices(
        &self,
        table: impl Fn(&Weight) -> Result<Weight>,
        layer: impl Fn(&Linear) -> Result<Linear>,
    ) -> Result<Self> {
        let mut model = self.clone();
        let segments = &mut model.segments;
        segments.tokens = table(&segments.tokens)?;
        // A tied head stays the table itself.
        segments.head = if self.spec.tied { segments.tokens.clone() } else { table(&segments.head)? };
        for linear in model.layers.iter_mut().flat_map(|of| of.parts_mut().linears) {
            *linear = layer(linear)?;
        }
        Ok(model)
    }

    /// Bytes of its weights as they are held; a head that is the embedding table counts once.
    pub fn weight_bytes(&self) -> usize {
        self.sum(Weight::bytes, |t| t.elem_count() * t.dtype().size_in_bytes())
    }

    /// Values of all weights, head included where it is not the embedding table.
    pub fn parameter_count(&self) -> usize {
        self.sum(Weight::elem_count, Tensor::elem_count)
    }

    fn sum(&self, matrix: impl Fn(&Weight) -> usize, vector: impl Fn(&Tensor) -> usize) -> usize {
        let norm = |norm: &PreNorm| match norm {
            PreNorm::Layer(norm) => vector(norm.gamma()) + vector(norm.beta()),
            PreNorm::Rms { gamma, .. } => vector(gamma),
        };
        let mut sum = norm(&self.segments.norm) + matrix(&self.segments.tokens);
        sum += self.segments.positions.as_ref().map_or(0, &vector);
        sum += if self.spec.tied { 0 } else { matrix(&self.segments.head) };
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.out, &layer.inner, &layer.outer] {
                sum += matrix(linear.weight()) + linear.bias().map_or(0, &vector);
            }
            sum += norm(&layer.attention_norm) + norm(&layer.ffn_norm);
            sum += layer.qk_norm.iter().flat_map(|norm| &norm.gamma).map(&vector).sum::<usize>();
        }
        sum
    }
}
