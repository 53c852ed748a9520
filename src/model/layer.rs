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
//! A mixture of LoRA sits on the linear layers themselves ([`super::loras`]).

use super::loras::{self, LayerLoras, LoraRun, Slot};
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
    /// Nothing: the untouched base model.
    None,
    /// Experts, routed.
    Mixture(AdapterMixture),
    /// One adapter, merged.
    Merged(Adapter),
}

impl FfnAdapter {
    /// What goes on after the feed-forward block, and what backward needs. `route`: with the number of this module. h `[rows, d]`
    pub fn forward(
        &self,
        h: Tensor,
        route: Option<(&Route, usize)>,
        rows: &RowMap,
    ) -> Result<(Tensor, Option<adapter::Saved>)> {
        match (self, route) {
            (Self::None, _) => Ok((h, None)),
            (Self::Merged(adapter), _) => Ok((adapter.forward(&h, rows)?, None)),
            (Self::Mixture(mixture), Some((route, site))) => {
                let (h, saved) = mixture.forward(&h, route, site, rows)?;
                Ok((h, Some(saved)))
            }
            (Self::Mixture(_), None) => Err(Error::internal("a mixture was run without a route")),
        }
    }
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
    /// The mixture of adapters.
    pub adapter: FfnAdapter,
    /// LoRA modules on the four linear layers.
    pub loras: LayerLoras,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
}

/// What all layers of one forward share.
pub struct LayerContext<'a> {
    /// Rows of the sequences, and the attention's dropout.
    pub layout: Layout,
    /// Rows up to attention: all tokens.
    pub tokens: &'a RowMap,
    /// Rows after attention.
    pub rows: &'a RowMap,
    /// Rows of the first tokens, when only they go on. `[sequences]`
    pub first_tokens: Option<&'a Tensor>,
    /// Which experts run, and the index of this layer's adapter.
    pub route: Option<(&'a Route, usize)>,
    /// How the LoRA modules run.
    pub lora: LoraRun<'a>,
    /// Dropout after attention and after the feed-forward block.
    pub drops: [Dropout; 2],
}

/// What the backward pass of one layer needs.
#[derive(Debug)]
pub struct Saved {
    layout: Layout,
    first_tokens: Option<Tensor>,
    /// Inputs of linear layers that are trained or have a trained LoRA: x, attention output, x1.
    x: Option<Tensor>,
    attended: Option<Tensor>,
    x1: Option<Tensor>,
    tokens: usize,
    loras: [loras::Saved; 4],
    /// Of the keys and values, where the queries are apart.
    kv_loras: loras::Saved,
    qkv: Qkv,
    attention_norm: norm::Saved,
    inner: Tensor,
    adapter: Option<adapter::Saved>,
    output_norm: norm::Saved,
}

/// What attention takes, with what the LoRA modules of q, k and v (and of k and v, where q is apart) saved.
struct Projected {
    qkv: Qkv,
    residual: Tensor,
    loras: [loras::Saved; 2],
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
        let mut saved = <[loras::Saved; 4]>::default();
        let Projected { qkv, residual, loras: [kept, kv_loras] } =
            timed(Phase::TrunkForward, || self.project(x, d, &ctx))?;
        saved[Slot::Qkv as usize] = kept;
        let mut lora = |slot: Slot, x: &Tensor, y: Tensor| -> Result<Tensor> {
            let (y, kept) = self.loras.at(slot).forward(x, y, ctx.lora, ctx.rows)?;
            saved[slot as usize] = kept;
            Ok(y)
        };
        let attended = timed(Phase::AttentionForward, || attention::forward(&qkv, &ctx.layout))?;
        let projected = timed(Phase::TrunkForward, || self.attention_out.forward(&attended))?;
        let projected = lora(Slot::Out, &attended, projected)?;
        let (x1, attention_norm) =
            timed(Phase::Elementwise, || self.attention_norm.forward(&projected, Some(&residual), ctx.drops[0]))?;
        drop(projected);
        let (inner, activated) = if self.loras.at(Slot::Inner).is_empty() {
            timed(Phase::TrunkForward, || self.inner.forward_act(&x1, self.act))?
        } else {
            let inner = timed(Phase::TrunkForward, || self.inner.forward(&x1))?;
            let inner = lora(Slot::Inner, &x1, inner)?;
            let activated = timed(Phase::Elementwise, || activation::forward(self.act, &inner))?;
            (inner, activated)
        };
        let h = timed(Phase::TrunkForward, || self.outer.forward(&activated))?;
        let h = lora(Slot::Outer, &activated, h)?;
        drop(activated);
        let adapting = scope(Phase::Adapters);
        let (h, adapter) = self.adapter.forward(h, ctx.route, ctx.rows)?;
        drop(adapting);
        let (y, output_norm) = timed(Phase::Elementwise, || self.output_norm.forward(&h, Some(&x1), ctx.drops[1]))?;
        let trunk = self.qkv.is_trained();
        let needs = |slot: Slot| trunk || self.loras.at(slot).trained();
        let saved = Saved {
            layout: ctx.layout,
            first_tokens: ctx.first_tokens.cloned(),
            x: needs(Slot::Qkv).then(|| x.clone()),
            attended: needs(Slot::Out).then_some(attended),
            x1: needs(Slot::Inner).then_some(x1),
            tokens,
            loras: saved,
            kv_loras,
            qkv,
            attention_norm,
            inner,
            adapter,
            output_norm,
        };
        Ok((y, saved))
    }

    /// Queries, keys and values, and what the residual carries: all rows, or those of the first tokens.
    fn project(&self, x: &Tensor, d: usize, ctx: &LayerContext<'_>) -> Result<Projected> {
        let loras = self.loras.at(Slot::Qkv);
        let Some(first) = ctx.first_tokens else {
            let (qkv, kept) = loras.forward(x, self.qkv.forward(x)?, ctx.lora, ctx.tokens)?;
            let loras = [kept, loras::Saved::default()];
            return Ok(Projected { qkv: Qkv::Joint(qkv), residual: x.clone(), loras });
        };
        let x_first = x.index_select(first, 0)?;
        let q = self.qkv.rows(0, d)?.forward(&x_first)?;
        let (q, kept) = loras.forward_part(&x_first, q, ctx.lora, ctx.rows, 0..d)?;
        let kv = self.qkv.rows(d, 2 * d)?.forward(x)?;
        let (kv, kept_kv) = loras.forward_part(x, kv, ctx.lora, ctx.tokens, d..3 * d)?;
        Ok(Projected { qkv: Qkv::Split(q, kv), residual: x_first, loras: [kept, kept_kv] })
    }

    /// Consumes what was saved, so that its memory is free for the layer below. Adds the gradients of what is trained here; with `below` also returns the gradient of x. dy `[rows, d]` -> `[tokens, d]`
    #[expect(clippy::needless_pass_by_value, reason = "frees the saved tensors before the layer below runs")]
    pub fn backward(&self, saved: Saved, dy: &Tensor, below: bool, grads: &mut Grads) -> Result<Option<Tensor>> {
        let trunk = self.qkv.is_trained();
        // Nothing is computed below the lowest linear layer with a trained LoRA.
        let lowest = if below || trunk { Some(Slot::Qkv) } else { self.loras.lowest() };
        let (below, goal) = (below || trunk, lowest.map_or(4, |slot| slot as usize));
        let lora = |slot: Slot, x: &Tensor, dy: &Tensor, dx: Option<Tensor>, grads: &mut Grads| {
            self.loras.at(slot).backward(&saved.loras[slot as usize], x, (dy, 0), dx, grads)
        };
        let (mut dh, dx1) = timed(Phase::Elementwise, || self.output_norm.backward(&saved.output_norm, dy, grads))?;
        if let (FfnAdapter::Mixture(mixture), Some(adapter)) = (&self.adapter, &saved.adapter) {
            match timed(Phase::Adapters, || mixture.backward(adapter, &dh, goal < 4, grads))? {
                Some(grad) => dh = grad,
                None => return Ok(None),
            }
        }
        if goal > Slot::Outer as usize {
            return Ok(None);
        }
        let _products = scope(Phase::TrunkBackward);
        let stop = |slot: Slot| goal == slot as usize && !below;
        if trunk {
            self.outer.add_grads(&activation::forward(self.act, &saved.inner)?, &dh, grads)?;
        }
        let dinner = if self.loras.at(Slot::Outer).trained() {
            let a = activation::forward(self.act, &saved.inner)?;
            let da = if stop(Slot::Outer) { None } else { Some(self.outer.backward(&dh)?) };
            let Some(da) = lora(Slot::Outer, &a, &dh, da, grads)? else { return Ok(None) };
            activation::backward(self.act, &saved.inner, da)?
        } else {
            self.outer.backward_act(&dh, self.act, &saved.inner)?
        };
        let mut dx1 = if stop(Slot::Inner) { None } else { Some(self.inner.backward_add(&dinner, dx1)?) };
        if let Some(x1) = &saved.x1 {
            self.inner.add_grads(x1, &dinner, grads)?;
            dx1 = lora(Slot::Inner, x1, &dinner, dx1, grads)?;
        }
        let Some(dx1) = dx1 else { return Ok(None) };
        let (dprojected, dresidual) =
            timed(Phase::Elementwise, || self.attention_norm.backward(&saved.attention_norm, &dx1, grads))?;
        let mut dattended = if stop(Slot::Out) { None } else { Some(self.attention_out.backward(&dprojected)?) };
        if let Some(attended) = &saved.attended {
            self.attention_out.add_grads(attended, &dprojected, grads)?;
            dattended = lora(Slot::Out, attended, &dprojected, dattended, grads)?;
        }
        let Some(dattended) = dattended else { return Ok(None) };
        let dqkv = timed(Phase::AttentionBackward, || attention::backward(&saved.qkv, &saved.layout, &dattended))?;
        self.input_gradient(&saved, &dqkv, below.then_some(dresidual), grads)
    }

    /// Gradients of q, k and v's own matrices, and, where `dresidual` came along, of x.
    fn input_gradient(
        &self,
        saved: &Saved,
        dqkv: &Qkv,
        dresidual: Option<Tensor>,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        let loras = self.loras.at(Slot::Qkv);
        let kept = &saved.loras[Slot::Qkv as usize];
        match (dqkv, &saved.first_tokens) {
            (Qkv::Joint(dqkv), _) => {
                let dx = dresidual.map(|dresidual| self.qkv.backward_add(dqkv, dresidual)).transpose()?;
                let Some(x) = &saved.x else { return Ok(dx) };
                self.qkv.add_grads(x, dqkv, grads)?;
                loras.backward(kept, x, (dqkv, 0), dx, grads)
            }
            (Qkv::Split(dq, dkv), Some(first)) => {
                let d = dq.dim(1)?;
                let mut dfirst = None;
                let mut dx = None;
                if let Some(dresidual) = dresidual {
                    dfirst = Some(self.qkv.rows(0, d)?.backward_add(dq, dresidual)?);
                    dx = Some(self.qkv.rows(d, 2 * d)?.backward(dkv)?);
                }
                if let Some(x) = &saved.x {
                    let x_first = x.index_select(first, 0)?;
                    Linear::add_block_grads(&self.qkv, 0, &x_first, dq, grads)?;
                    Linear::add_block_grads(&self.qkv, d, x, dkv, grads)?;
                    dfirst = loras.backward(kept, &x_first, (dq, 0), dfirst, grads)?;
                    dx = loras.backward(&saved.kv_loras, x, (dkv, d), dx, grads)?;
                }
                let (Some(dx), Some(dfirst)) = (dx, dfirst) else { return Ok(None) };
                debug_assert_eq!(dx.dims(), [saved.tokens, d]);
                Ok(Some(dx.index_add(first, &dfirst, 0)?))
            }
            (Qkv::Split(..), None) => Err(Error::internal("split attention without first tokens")),
        }
    }
}
