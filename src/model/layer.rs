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

use super::loras::{self, LoraRun, Slot};
use super::network::LayerModules;
use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap, adapter};
use crate::nn::kernels::activation::{self, Act};
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Dropout, Grads, LayerNorm, Params, norm};
use crate::tensor::Tensor;

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    /// Linear layers with their modules: queries, keys and values in one matrix `[3d, d]`, output projection of attention
    /// `[d, d]`, W1 `[intermediate, d]`, W2 `[d, intermediate]`.
    pub modules: LayerModules,
    /// After attention.
    pub attention_norm: LayerNorm,
    /// After the feed-forward block.
    pub output_norm: LayerNorm,
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
    attention: attention::Saved,
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

/// A layer up to its adapter.
struct BelowAdapter {
    h: Tensor,
    x1: Tensor,
    attended: Tensor,
    loras: [loras::Saved; 4],
    kv_loras: loras::Saved,
    qkv: Qkv,
    attention: attention::Saved,
    attention_norm: norm::Saved,
    inner: Tensor,
}

impl EncoderLayer {
    /// Makes every weight of the layer trained, under the names of the Hugging Face layout (q, k and v stay one matrix).
    pub fn train(&mut self, name: &str, params: &mut Params) {
        let [qkv, attention_out, inner, outer] = self.modules.linears.each_mut().map(|adapted| &mut adapted.linear);
        qkv.train(&format!("{name}.attention.self.qkv"), params);
        attention_out.train(&format!("{name}.attention.output.dense"), params);
        self.attention_norm.train(&format!("{name}.attention.output.LayerNorm"), params);
        inner.train(&format!("{name}.intermediate.dense"), params);
        outer.train(&format!("{name}.output.dense"), params);
        self.output_norm.train(&format!("{name}.output.LayerNorm"), params);
    }

    /// x `[tokens, d]` -> `[rows, d]`
    pub fn forward(&self, x: &Tensor, ctx: LayerContext<'_>) -> Result<(Tensor, Saved)> {
        let below = self.below_adapter(x, &ctx)?;
        let [qkv_linear, attention_out, inner_linear, _] = &self.modules.linears;
        let (h, adapter) = self.modules.adapter.forward(below.h, ctx.route, ctx.rows)?;
        let (y, output_norm) =
            timed(Phase::Elementwise, || self.output_norm.forward(&h, Some(&below.x1), ctx.drops[1]))?;
        let saved = Saved {
            layout: ctx.layout,
            first_tokens: ctx.first_tokens.cloned(),
            x: qkv_linear.needs_input().then(|| x.clone()),
            attended: attention_out.needs_input().then_some(below.attended),
            x1: inner_linear.needs_input().then_some(below.x1),
            tokens: x.dims2()?.0,
            loras: below.loras,
            kv_loras: below.kv_loras,
            qkv: below.qkv,
            attention: below.attention,
            attention_norm: below.attention_norm,
            inner: below.inner,
            adapter,
            output_norm,
        };
        Ok((y, saved))
    }

    /// What the adapter reads, and the residual beside it. x `[tokens, d]` -> two of `[rows, d]`
    pub fn to_adapter(&self, x: &Tensor, ctx: &LayerContext<'_>) -> Result<[Tensor; 2]> {
        let below = self.below_adapter(x, ctx)?;
        Ok([below.h, below.x1])
    }

    /// From what [`EncoderLayer::to_adapter`] gives to the layer's output. Both `[rows, d]` -> `[rows, d]`
    pub fn after_adapter(&self, [h, x1]: [Tensor; 2], ctx: &LayerContext<'_>) -> Result<Tensor> {
        let (h, _) = self.modules.adapter.forward(h, ctx.route, ctx.rows)?;
        Ok(timed(Phase::Elementwise, || self.output_norm.forward(&h, Some(&x1), ctx.drops[1]))?.0)
    }

    /// As [`EncoderLayer::forward`] with each of these routes (none: of a merged adapter) for the adapter behind the
    /// feed-forward block; what comes before it runs once. `site`: the adapter's number.
    pub fn branches(
        &self,
        x: &Tensor,
        ctx: &LayerContext<'_>,
        (routes, site): (&[Option<&Route>], usize),
    ) -> Result<Vec<Tensor>> {
        let [h, x1] = self.to_adapter(x, ctx)?;
        let branch = |route: &Option<&Route>| {
            let (h, _) = self.modules.adapter.forward(h.clone(), route.map(|route| (route, site)), ctx.rows)?;
            Ok(self.output_norm.forward(&h, Some(&x1), ctx.drops[1])?.0)
        };
        routes.iter().map(branch).collect()
    }

    /// Attention and the feed-forward block.
    fn below_adapter(&self, x: &Tensor, ctx: &LayerContext<'_>) -> Result<BelowAdapter> {
        let [_, attention_out, inner_linear, outer] = &self.modules.linears;
        let (_, d) = x.dims2()?;
        let Projected { qkv, residual, loras: [qkv_loras, kv_loras] } =
            timed(Phase::TrunkForward, || self.project(x, d, ctx))?;
        let (attended, attention) = timed(Phase::AttentionForward, || attention::forward_saving(&qkv, &ctx.layout))?;
        let (projected, out_loras) = attention_out.forward(&attended, ctx.lora, ctx.rows)?;
        let (x1, attention_norm) =
            timed(Phase::Elementwise, || self.attention_norm.forward(&projected, Some(&residual), ctx.drops[0]))?;
        drop(projected);
        let (inner, activated, inner_loras) = inner_linear.forward_act(&x1, self.act, ctx.lora, ctx.rows)?;
        let (h, outer_loras) = outer.forward(&activated, ctx.lora, ctx.rows)?;
        let loras = [qkv_loras, out_loras, inner_loras, outer_loras];
        Ok(BelowAdapter { h, x1, attended, loras, kv_loras, qkv, attention, attention_norm, inner })
    }

    /// Queries, keys and values, and what the residual carries: all rows, or those of the first tokens.
    fn project(&self, x: &Tensor, d: usize, ctx: &LayerContext<'_>) -> Result<Projected> {
        let [linear, ..] = &self.modules.linears;
        let Some(first) = ctx.first_tokens else {
            let (qkv, kept) = linear.forward(x, ctx.lora, ctx.tokens)?;
            return Ok(Projected { qkv: Qkv::Joint(qkv), residual: x.clone(), loras: [kept, Vec::new()] });
        };
        let x_first = x.index_select(first, 0)?;
        let (q, kept) = linear.forward_part(&x_first, ctx.lora, ctx.rows, 0..d)?;
        let (kv, kept_kv) = linear.forward_part(x, ctx.lora, ctx.tokens, d..3 * d)?;
        Ok(Projected { qkv: Qkv::Split(q, kv), residual: x_first, loras: [kept, kept_kv] })
    }

    /// Consumes what was saved, so that its memory is free for the layer below. Adds the gradients of what is trained here; with `below` also returns the gradient of x. dy `[rows, d]` -> `[tokens, d]`
    #[expect(clippy::needless_pass_by_value, reason = "frees the saved tensors before the layer below runs")]
    pub fn backward(&self, saved: Saved, dy: &Tensor, below: bool, grads: &mut Grads) -> Result<Option<Tensor>> {
        let [qkv, attention_out, inner, outer] = &self.modules.linears;
        let below = below || qkv.linear.is_trained();
        // Nothing is computed below the lowest linear layer with a trained LoRA.
        let lowest = if below { Some(Slot::Qkv) } else { self.modules.lowest_lora() };
        let goes_below = |slot: Slot| below || lowest.is_some_and(|lowest| lowest < slot);
        let [_, out_loras, inner_loras, outer_loras] = &saved.loras;
        let (dh, dx1) = timed(Phase::Elementwise, || self.output_norm.backward(&saved.output_norm, dy, grads))?;
        let dh = self.modules.adapter.backward(saved.adapter.as_ref(), dh, lowest.is_some(), grads)?;
        let Some(dh) = dh else { return Ok(None) };
        let _products = scope(Phase::TrunkBackward);
        let activated = || activation::forward(self.act, &saved.inner);
        let dinner = if outer.has_mixture() {
            let da = goes_below(Slot::Outer).then(|| outer.linear.backward(&dh)).transpose()?;
            let Some(da) = outer.add_grads(outer_loras, activated, (&dh, 0), da, grads)? else { return Ok(None) };
            activation::backward(self.act, &saved.inner, da)?
        } else {
            outer.add_grads(outer_loras, activated, (&dh, 0), None, grads)?;
            outer.linear.backward_act(&dh, self.act, &saved.inner)?
        };
        let dx1 = goes_below(Slot::Inner).then(|| inner.linear.backward_add(&dinner, dx1)).transpose()?;
        let dx1 = inner.add_grads(inner_loras, || kept(&saved.x1), (&dinner, 0), dx1, grads)?;
        let Some(dx1) = dx1 else { return Ok(None) };
        let (dprojected, dresidual) =
            timed(Phase::Elementwise, || self.attention_norm.backward(&saved.attention_norm, &dx1, grads))?;
        let dattended = goes_below(Slot::Out).then(|| attention_out.linear.backward(&dprojected)).transpose()?;
        let dattended =
            attention_out.add_grads(out_loras, || kept(&saved.attended), (&dprojected, 0), dattended, grads)?;
        let Some(dattended) = dattended else { return Ok(None) };
        let dqkv = timed(Phase::AttentionBackward, || {
            attention::backward_saved(&saved.qkv, &saved.layout, &saved.attention, &dattended)
        })?;
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
        let ([qkv, ..], [loras, ..]) = (&self.modules.linears, &saved.loras);
        let x = || kept(&saved.x);
        match (dqkv, &saved.first_tokens) {
            (Qkv::Joint(dqkv), _) => {
                let dx = dresidual.map(|dresidual| qkv.linear.backward_add(dqkv, dresidual)).transpose()?;
                qkv.add_grads(loras, x, (dqkv, 0), dx, grads)
            }
            (Qkv::Split(dq, dkv), Some(first)) => {
                let d = dq.dim(1)?;
                let mut dfirst = None;
                let mut dx = None;
                if let Some(dresidual) = dresidual {
                    dfirst = Some(qkv.linear.rows(0, d)?.backward_add(dq, dresidual)?);
                    dx = Some(qkv.linear.rows(d, 2 * d)?.backward(dkv)?);
                }
                let x_first = || x()?.index_select(first, 0);
                let dfirst = qkv.add_grads(loras, x_first, (dq, 0), dfirst, grads)?;
                let dx = qkv.add_grads(&saved.kv_loras, x, (dkv, d), dx, grads)?;
                let (Some(dx), Some(dfirst)) = (dx, dfirst) else { return Ok(None) };
                debug_assert_eq!(dx.dims(), [saved.tokens, d]);
                Ok(Some(dx.index_add_once(first, &dfirst)?))
            }
            (Qkv::Split(..), None) => Err(Error::internal("split attention without first tokens")),
        }
    }
}

/// The saved input of a linear layer.
pub(super) fn kept(input: &Option<Tensor>) -> Result<Tensor> {
    input.clone().ok_or_else(|| Error::internal("the input of a trained linear layer was not saved"))
}
