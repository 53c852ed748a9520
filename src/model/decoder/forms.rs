//! A decoder in other number formats, and how large it is.

use super::Decoder;
use crate::error::Result;
use crate::model::loras::AdaptedLinear;
use crate::model::network::BaseModel as _;
use crate::nn::{Linear, PreNorm, Weight};
use crate::tensor::{DType, NumberFormat, Tensor};

impl Decoder {
    /// The same decoder with its matrices stored in `dtype`, as [`Decoder::load`] would have them.
    pub fn stored_as(&self, dtype: DType) -> Result<Self> {
        let mut cast = self.with_matrices(|table| table.cast(dtype), |linear| linear.cast(dtype))?.computing_in(dtype);
        cast.position_embeddings = cast.position_embeddings.map(|table| table.to_dtype(dtype)).transpose()?;
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
        model.token_embeddings = table(&model.token_embeddings)?;
        // A tied head stays the table itself.
        model.head = if self.spec.tied { model.token_embeddings.clone() } else { table(&model.head)? };
        for adapted in model.modules_mut().flat_map(|of| &mut of.linears) {
            adapted.linear = layer(&adapted.linear)?;
        }
        Ok(model)
    }

    /// Bytes of its weights as they are held; a head that is the embedding table counts once.
    pub fn weight_bytes(&self) -> usize {
        self.sum(Weight::bytes, |t| t.elem_count() * t.dtype().size_in_bytes())
    }

    /// Over all tensors; a head that is the embedding table counts once.
    pub(super) fn sum(&self, matrix: impl Fn(&Weight) -> usize, vector: impl Fn(&Tensor) -> usize) -> usize {
        let norm = |norm: &PreNorm| match norm {
            PreNorm::Layer(norm) => vector(norm.gamma()) + vector(norm.beta()),
            PreNorm::Rms { gamma, .. } => vector(gamma),
        };
        let mut sum = norm(&self.final_norm) + matrix(&self.token_embeddings);
        sum += self.position_embeddings.as_ref().map_or(0, &vector);
        sum += if self.spec.tied { 0 } else { matrix(&self.head) };
        for layer in &self.layers {
            for AdaptedLinear { linear, .. } in &layer.modules.linears {
                sum += matrix(linear.weight()) + linear.bias().map_or(0, &vector);
            }
            sum += norm(&layer.attention_norm) + norm(&layer.ffn_norm);
            sum += layer.qk_norm.iter().flat_map(|norm| &norm.gamma).map(&vector).sum::<usize>();
        }
        sum
    }
}
