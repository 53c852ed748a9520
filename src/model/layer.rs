//! One encoder layer with a mixture at the reference's place (paper.md's order):
//!
//! ```text
//! x1 = LayerNorm(dropout(attention(x)) + x)
//! h  = W2 act(W1 x1 + b1) + b2
//! h  = h + up(act(down(h)))              <- the mixture, before dropout
//! y  = LayerNorm(dropout(h) + x1)
//! ```
//!
//! In a classifier's last layer only the first token of each sequence goes on: its queries alone attend
//! (keys and values still come from all tokens), and everything after attention has one row a sequence.

use crate::error::{Error, Result};
use crate::mixture::{Adapter, AdapterMixture, Route, RowMap, adapter};
use crate::nn::kernels::activation::{self, Act};
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Dropout, Grads, LayerNorm, Linear, Params, norm};
use candle_core::Tensor;

/// What sits after the feed-forward block.
#[derive(Clone, Debug)]
pub enum FfnAdapter {
    /// Nothing: the untouched trunk.
    None,
    /// Experts, routed.
    Mixture(AdapterMixture),
    /// One adapter, merged.
    Merged(Adapter),
}

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    /// Queries, keys and values in one matrix. `[3d, d]`
    pub qkv: Linear,
    /// Output projection of attention. `[d, d]`
    pub attention_out: Linear,
    /// After attention.
    pub attention_norm: LayerNorm,
    /// W1. `[intermediate, d]`
    pub inner: Linear,
    /// W2. `[d, intermediate]`
    pub outer: Linear,
    /// After the feed-forward block.
    pub output_norm: LayerNorm,
    /// The mixture.
    pub adapter: FfnAdapter,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
}

/// What all layers of one forward share.
pub struct LayerContext<'a> {
    /// Where the sequences lie, and the attention's dropout.
    pub layout: Layout,
    /// Rows after attention.
    pub rows: &'a RowMap,
    /// Rows of the first tokens, when only they go on. `[sequences]`
    pub first_tokens: Option<&'a Tensor>,
    /// Which experts run, and the index of this layer's site.
    pub route: Option<(&'a Route, usize)>,
    /// Dropout after attention and after the feed-forward block.
    pub drops: [Dropout; 2],
}

/// What the backward pass of one layer needs.
#[derive(Debug)]
pub struct Saved {
    layout: Layout,
    first_tokens: Option<Tensor>,
    /// Inputs of trained linear layers: x, attention output, x1.
    inputs: Option<[Tensor; 3]>,
    tokens: usize,
    qkv: Qkv,
    attention_norm: norm::Saved,
    inner: Tensor,
    adapter: Option<adapter::Saved>,
    output_norm: norm::Saved,
}

impl EncoderLayer {
    /// Makes every weight of the layer trained, under the names of the Hugging Face layout (q, k and v stay one matrix).
    pub fn train(&mut self, name: &str, params: &mut Params) {
        self.qkv.train(&format!("{name}.attention.self.qkv"), params);
        self.attention_out.train(&format!("{name}.attention.output.dense"), params);
        self.attention_norm.train(&format!("{name}.attention.output.LayerNorm"), params);
        self.inner.train(&format!("{name}.intermediate.dense"), params);
        self.outer.train(&format!("{name}.output.dense"), params);
        self.output_norm.train(&format!("{name}.output.LayerNorm"), params);
    }

    /// x `[tokens, d]` -> `[rows, d]`
    pub fn forward(&self, x: &Tensor, ctx: LayerContext<'_>) -> Result<(Tensor, Saved)> {
        let (tokens, d) = x.dims2()?;
        let (qkv, residual) = timed(Phase::TrunkForward, || self.project(x, d, ctx.first_tokens))?;
        let attended = timed(Phase::AttentionForward, || attention::forward(&qkv, &ctx.layout))?;
        let projected = timed(Phase::TrunkForward, || self.attention_out.forward(&attended))?;
        let (x1, attention_norm) =
            timed(Phase::Elementwise, || self.attention_norm.forward(&projected, Some(&residual), ctx.drops[0]))?;
        drop(projected);
        let (inner, activated) = timed(Phase::TrunkForward, || self.inner.forward_act(&x1, self.act))?;
        let h = timed(Phase::TrunkForward, || self.outer.forward(&activated))?;
        drop(activated);
        let adapting = scope(Phase::Adapters);
        let (h, adapter) = match (&self.adapter, ctx.route) {
            (FfnAdapter::None, _) => (h, None),
            (FfnAdapter::Merged(adapter), _) => (adapter.forward(&h, ctx.rows)?, None),
            (FfnAdapter::Mixture(mixture), Some((route, site))) => {
                let (h, saved) = mixture.forward(&h, route, site, ctx.rows)?;
                (h, Some(saved))
            }
            (FfnAdapter::Mixture(_), None) => return Err(Error::internal("a mixture was run without a route")),
        };
        drop(adapting);
        let (y, output_norm) = timed(Phase::Elementwise, || self.output_norm.forward(&h, Some(&x1), ctx.drops[1]))?;
        let inputs = self.qkv.is_trained().then(|| [x.clone(), attended, x1]);
        let saved = Saved {
            layout: ctx.layout,
            first_tokens: ctx.first_tokens.cloned(),
            inputs,
            tokens,
            qkv,
            attention_norm,
            inner,
            adapter,
            output_norm,
        };
        Ok((y, saved))
    }

    /// Queries, keys and values, and what the residual carries: all rows, or those of the first tokens.
    fn project(&self, x: &Tensor, d: usize, first_tokens: Option<&Tensor>) -> Result<(Qkv, Tensor)> {
        let Some(first) = first_tokens else { return Ok((Qkv::Joint(self.qkv.forward(x)?), x.clone())) };
        let x_first = x.index_select(first, 0)?;
        let q = self.qkv.rows(0, d)?.forward(&x_first)?;
        Ok((Qkv::Split(q, self.qkv.rows(d, 2 * d)?.forward(x)?), x_first))
    }

    /// Consumes what was saved, so that its memory is free for the layer below. Adds the gradients of what is trained here; with `below` also returns the gradient of x. dy `[rows, d]` -> `[tokens, d]`
    #[expect(clippy::needless_pass_by_value, reason = "frees the saved tensors before the layer below runs")]
    pub fn backward(&self, saved: Saved, dy: &Tensor, below: bool, grads: &mut Grads) -> Result<Option<Tensor>> {
        let trunk = saved.inputs.is_some();
        let (mut dh, dx1) = timed(Phase::Elementwise, || self.output_norm.backward(&saved.output_norm, dy, grads))?;
        if let (FfnAdapter::Mixture(mixture), Some(adapter)) = (&self.adapter, &saved.adapter) {
            match timed(Phase::Adapters, || mixture.backward(adapter, &dh, below || trunk, grads))? {
                Some(grad) => dh = grad,
                None => return Ok(None),
            }
        } else if !below && !trunk {
            return Ok(None);
        }
        let _products = scope(Phase::TrunkBackward);
        if trunk {
            self.outer.add_grads(&activation::forward(self.act, &saved.inner)?, &dh, grads)?;
        }
        let dinner = self.outer.backward_act(&dh, self.act, &saved.inner)?;
        if let Some([_, _, x1]) = &saved.inputs {
            self.inner.add_grads(x1, &dinner, grads)?;
        }
        let dx1 = self.inner.backward_add(&dinner, dx1)?;
        let (dprojected, dresidual) =
            timed(Phase::Elementwise, || self.attention_norm.backward(&saved.attention_norm, &dx1, grads))?;
        if let Some([_, attended, _]) = &saved.inputs {
            self.attention_out.add_grads(attended, &dprojected, grads)?;
        }
        let dattended = self.attention_out.backward(&dprojected)?;
        let dqkv = timed(Phase::AttentionBackward, || attention::backward(&saved.qkv, &saved.layout, &dattended))?;
        self.input_gradient(&saved, &dqkv, dresidual, grads).map(Some)
    }

    fn input_gradient(&self, saved: &Saved, dqkv: &Qkv, dresidual: Tensor, grads: &mut Grads) -> Result<Tensor> {
        let (_, d) = dresidual.dims2()?;
        match (dqkv, &saved.first_tokens) {
            (Qkv::Joint(dqkv), _) => {
                if let Some([x, ..]) = &saved.inputs {
                    self.qkv.add_grads(x, dqkv, grads)?;
                }
                self.qkv.backward_add(dqkv, dresidual)
            }
            (Qkv::Split(dq, dkv), Some(first)) => {
                if let Some([x, ..]) = &saved.inputs {
                    Linear::add_block_grads(&self.qkv, 0, &x.index_select(first, 0)?, dq, grads)?;
                    Linear::add_block_grads(&self.qkv, d, x, dkv, grads)?;
                }
                let dfirst = self.qkv.rows(0, d)?.backward_add(dq, dresidual)?;
                let dx = self.qkv.rows(d, 2 * d)?.backward(dkv)?;
                debug_assert_eq!(dx.dims(), [saved.tokens, d]);
                Ok(dx.index_add(first, &dfirst, 0)?)
            }
            (Qkv::Split(..), None) => Err(Error::internal("split attention without first tokens")),
        }
    }
}
