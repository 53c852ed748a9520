//! A model run one layer at a time, without dropout: forwards that share a beginning share its work.

use super::decoder::layer::Stream;
use super::decoder::{CausalLm, Packed};
use super::{Classifier, Network};
use crate::data::Batch;
use crate::data::text::TextBatch;
use crate::error::Result;
use crate::mixture::Route;
use crate::tensor::Tensor;

/// Whole forwards of one pass, in parts: [`Walk::embedded`], each layer by [`Walk::branches`], and what the model's own kind
/// makes of the last layer's output. The same bits as its forward.
pub trait Walk: Network {
    /// What goes through at once.
    type Batch;
    /// What goes from one layer to the next.
    type Hidden: Clone;

    /// What goes into the first layer.
    fn embedded(&self, batch: &Self::Batch) -> Result<Self::Hidden>;

    /// What layer `i` makes of its input along each of these routes of one pass (of which its own modules' picks count);
    /// without one the model must be merged. Where the layer's only module sits behind the feed-forward block, what comes
    /// before it runs once for all.
    fn branches(
        &self,
        i: usize,
        x: &Self::Hidden,
        batch: &Self::Batch,
        routes: &[Option<&Route>],
    ) -> Result<Vec<Self::Hidden>>;

    /// Whether the routes of a layer share all that comes before its module.
    fn shares_layers(&self) -> bool {
        self.layer_modules().into_iter().all(|modules| modules.lowest_lora().is_none())
    }
}

impl Walk for Classifier {
    type Batch = Batch;
    type Hidden = Tensor;

    fn embedded(&self, batch: &Batch) -> Result<Tensor> {
        self.base.embedded(batch)
    }

    fn branches(&self, i: usize, x: &Tensor, batch: &Batch, routes: &[Option<&Route>]) -> Result<Vec<Tensor>> {
        self.base.branches(i, x, batch, routes)
    }
}

impl Walk for CausalLm {
    type Batch = TextBatch;
    type Hidden = Stream;

    fn embedded(&self, batch: &TextBatch) -> Result<Stream> {
        self.base.embedded(Packed::from(batch))
    }

    fn branches(&self, i: usize, x: &Stream, batch: &TextBatch, routes: &[Option<&Route>]) -> Result<Vec<Stream>> {
        self.base.branches(i, x, Packed::from(batch), routes)
    }
}

impl CausalLm {
    /// Final hidden states of these rows of what the last layer gives. -> `[rows, d]`
    pub fn finished(&self, x: Stream, rows: &[u32]) -> Result<Tensor> {
        self.base.finished(x, rows)
    }
}
