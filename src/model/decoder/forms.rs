//! A decoder in other number formats, how large it is, and the hash of its values.

use super::Decoder;
use crate::error::Result;
use crate::model::loras::AdaptedLinear;
use crate::model::network::BaseModel as _;
use crate::nn::{Linear, PreNorm, Weight};
use crate::tensor::hash::FloatHash;
use crate::tensor::{DType, NumberFormat, Tensor, to_f32};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

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
        let size = |part| match part {
            Part::Matrix(weight) => matrix(weight),
            Part::Vector(tensor) => vector(tensor),
        };
        self.parts().into_iter().map(size).sum()
    }

    /// A hash of the values of all tensors, as they are computed with: of models with other values it is another one, in
    /// whatever formats they are stored.
    pub fn content_hash(&self) -> Result<[u8; 32]> {
        let parts = self.parts();
        let hashes: Vec<[u8; 32]> = match self.device().is_cpu() {
            true => parts.par_iter().map(Part::hash).collect::<Result<_>>()?,
            // What is read from a GPU waits in one line.
            false => parts.iter().map(Part::hash).collect::<Result<_>>()?,
        };
        let mut all = Sha256::new();
        hashes.iter().for_each(|hash| all.update(hash));
        Ok(all.finalize().into())
    }

    /// All tensors in a fixed order; a head that is the embedding table is there once.
    fn parts(&self) -> Vec<Part<'_>> {
        fn norm(norm: &PreNorm) -> Vec<Part<'_>> {
            match norm {
                PreNorm::Layer(norm) => vec![Part::Vector(norm.gamma()), Part::Vector(norm.beta())],
                PreNorm::Rms { gamma, .. } => vec![Part::Vector(gamma)],
            }
        }
        let mut parts = norm(&self.final_norm);
        parts.push(Part::Matrix(&self.token_embeddings));
        parts.extend(self.position_embeddings.as_ref().map(Part::Vector));
        parts.extend((!self.spec.tied).then_some(Part::Matrix(&self.head)));
        for layer in &self.layers {
            for AdaptedLinear { linear, .. } in &layer.modules.linears {
                parts.push(Part::Matrix(linear.weight()));
                parts.extend(linear.bias().map(Part::Vector));
            }
            parts.extend(norm(&layer.attention_norm));
            parts.extend(norm(&layer.ffn_norm));
            parts.extend(layer.qk_norm.iter().flat_map(|norm| &norm.gamma).map(Part::Vector));
        }
        parts
    }
}

/// A tensor of a decoder.
enum Part<'a> {
    Matrix(&'a Weight),
    Vector(&'a Tensor),
}

/// Values of a matrix that are widened at a time.
const WIDENED: usize = 1 << 20;

impl Part<'_> {
    fn hash(&self) -> Result<[u8; 32]> {
        let mut hash = FloatHash::default();
        match self {
            Self::Vector(tensor) => {
                hash.shape(tensor.dims());
                hash.add(&to_f32(tensor)?);
            }
            Self::Matrix(weight) => {
                let (rows, columns) = weight.dims2()?;
                hash.shape(&[rows, columns]);
                let block = (WIDENED / columns.max(1)).max(1);
                for start in (0..rows).step_by(block) {
                    hash.add(&match weight.rows(start, block.min(rows - start))? {
                        Weight::Dense(dense) => to_f32(&dense)?,
                        Weight::Quantised(quantised) => to_f32(&quantised.dense()?)?,
                    });
                }
            }
        }
        Ok(hash.finish())
    }
}
