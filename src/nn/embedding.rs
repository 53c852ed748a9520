//! Embeddings of an encoder: `dropout(LayerNorm(word[id] + position[i] + segment[s]))`. -> `[tokens, d]`

use super::kernels::Dropout;
use super::norm::{self, LayerNorm};
use super::params::{Grads, ParamId, Params};
use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};

/// The embeddings of an encoder, frozen or trained.
#[derive(Clone, Debug)]
pub struct Embeddings {
    word: Tensor,
    position: Tensor,
    segment: Tensor,
    norm: LayerNorm,
    trained: Option<[ParamId; 3]>,
    /// Format of the output.
    activation_dtype: DType,
}

/// Which rows of the three tables each token takes. All `[tokens]`
#[derive(Clone, Debug)]
pub struct Ids {
    /// Token ids.
    pub word: Tensor,
    /// Position ids (already with the family's offset).
    pub position: Tensor,
    /// Segment ids.
    pub segment: Tensor,
}

impl Ids {
    /// From host values.
    pub fn new(word: Vec<u32>, position: Vec<u32>, segment: Vec<u32>, device: &Device) -> Result<Self> {
        let make = |ids: Vec<u32>| {
            let n = ids.len();
            Tensor::from_vec(ids, n, device)
        };
        Ok(Self { word: make(word)?, position: make(position)?, segment: make(segment)? })
    }
}

/// What [`Embeddings::backward`] needs.
#[derive(Clone, Debug)]
pub struct Saved {
    ids: Ids,
    norm: norm::Saved,
    drop: Dropout,
}

impl Embeddings {
    /// Frozen tables. word `[vocab, d]`, position `[max_positions, d]`, segment `[types, d]`
    pub fn new(word: Tensor, position: Tensor, segment: Tensor, norm: LayerNorm) -> Self {
        let activation_dtype = word.dtype();
        Self { word, position, segment, norm, trained: None, activation_dtype }
    }

    /// The output gets this format, whatever that of the tables is.
    #[must_use]
    pub fn with_activation_dtype(self, activation_dtype: DType) -> Self {
        Self { activation_dtype, ..self }
    }
    /// Format of the output.
    pub fn activation_dtype(&self) -> DType {
        self.activation_dtype
    }

    /// The same tables and output in another format; the norm keeps the wide one.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        let [word, position, segment] = [&self.word, &self.position, &self.segment].map(|table| table.to_dtype(dtype));
        Ok(Self { word: word?, position: position?, segment: segment?, activation_dtype: dtype, ..self.clone() })
    }

    /// Makes them trained, under the names of the Hugging Face layout.
    pub fn train(&mut self, name: &str, params: &mut Params) {
        self.trained = Some([
            params.add(format!("{name}.word_embeddings.weight"), &self.word),
            params.add(format!("{name}.position_embeddings.weight"), &self.position),
            params.add(format!("{name}.token_type_embeddings.weight"), &self.segment),
        ]);
        self.norm.train(&format!("{name}.LayerNorm"), params);
    }

    /// The word table, for a decoder tied to it. `[vocab, d]`
    pub fn word(&self) -> &Tensor {
        &self.word
    }

    /// `dropout(LayerNorm(word + position + segment))`
    pub fn forward(&self, ids: &Ids, drop: Dropout) -> Result<(Tensor, Saved)> {
        let rows = |table: &Tensor, ids: &Tensor| table.index_select(ids, 0)?.to_dtype(self.activation_dtype);
        let word = rows(&self.word, &ids.word)?;
        let rest = (rows(&self.position, &ids.position)? + rows(&self.segment, &ids.segment)?)?;
        let (y, norm) = self.norm.forward(&word, Some(&rest), Dropout::none())?;
        Ok((drop.apply(&y)?, Saved { ids: ids.clone(), norm, drop }))
    }

    /// Gradients of the tables and the norm; there is nothing below. dy `[tokens, d]`
    pub fn backward(&self, saved: &Saved, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        let Some(params) = self.trained else { return Ok(()) };
        let (dx, _) = self.norm.backward(&saved.norm, &saved.drop.apply(dy)?, grads)?;
        let tables =
            [(&self.word, &saved.ids.word), (&self.position, &saved.ids.position), (&self.segment, &saved.ids.segment)];
        for (param, (table, ids)) in params.into_iter().zip(tables) {
            grads.add(param, 0, table.zeros_like()?.index_add(ids, &dx, 0)?)?;
        }
        Ok(())
    }
}
