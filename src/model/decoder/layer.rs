//! One decoder layer, the same for GPT-2 and the Llama kind:
//!
//! ```text
//! h1 = norm(x)                    q, k, v = W h1, q and k normalised (Qwen3) and rotated by their position
//! x1 = x + dropout(Wo attention(q, k, v))
//! h2 = norm(x1)
//! h  = W2 act(W1 h2)              or W2 (act(gate) * up)
//! h  = h + up(act(down(h)))       <- a mixture of adapters, before the residual add
//! y  = x1 + dropout(h)
//! ```
//!
//! The adds are made by the norm that follows: a layer hands on the residual stream and what is still to be added to it.
//! A mixture of LoRA sits on the four linear layers.

use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap, adapter};
use crate::model::layer::kept;
use crate::model::loras::{self, LoraRun, Slot};
use crate::model::network::LayerModules;
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::head_norm::{self, HeadNorm};
use crate::nn::kernels::rope::{self, Angles, Heads, Rope};
use crate::nn::kernels::{activation, gated};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Act, Dropout, Grads, ParamId, PreNorm, pre_norm};
use crate::tensor::{DType, Tensor};

/// Scales of normalised queries and keys. `[head_dim]` each
#[derive(Clone, Debug)]
pub struct QkNorm {
    /// γ of the queries and of the keys.
    pub gamma: [Tensor; 2],
    /// Added to the mean square.
    pub eps: f64,
    /// Where the gradients of both γ go, if they are trained.
    pub trained: Option<[ParamId; 2]>,
}

/// One decoder layer; its own weights are frozen or trained.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// Linear layers with their modules: queries, keys and values in one matrix `[(heads + 2 kv_heads) * head_dim, d]`,
    /// output projection of attention `[d, heads * head_dim]`, W1 (or gate and up in one matrix) `[intermediate or 2
    /// intermediate, d]`, W2 `[d, intermediate]`.
    pub modules: LayerModules,
    /// Before attention.
    pub attention_norm: PreNorm,
    /// Normalisation of queries and keys, if the family has one.
    pub qk_norm: Option<QkNorm>,
    /// Before the feed-forward block.
    pub ffn_norm: PreNorm,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
    /// Whether the feed-forward block is gated.
    pub gated: bool,
}

/// Makes attention's output, and what its backward pass needs, of the joint q, k and v.
pub type Attend<'a> = &'a mut dyn FnMut(&Qkv, &Layout) -> Result<(Tensor, attention::Saved)>;

/// The residual stream, and what the last block still has to add to it. `[tokens, d]` each
#[derive(Clone, Debug)]
pub struct Stream {
    /// The sum so far, in the wide format.
    pub sum: Tensor,
    /// The last block's output, in the activations' format; absent below the first layer.
    pub delta: Option<Tensor>,
}

/// Rotary positions of a batch.
#[derive(Clone, Copy)]
pub struct Positions<'a> {
    /// Cosines and sines.
    pub angles: &'a Angles,
    /// Position of each token in its sequence. `[tokens]`
    pub of: &'a [u32],
    /// Which values are rotated.
    pub heads: Heads,
}

/// What all layers of one forward share.
pub struct LayerContext<'a> {
    /// Rows of the sequences, and the attention's dropout.
    pub layout: Layout,
    /// Rotary positions; absent where positions are learned.
    pub positions: Option<Positions<'a>>,
    /// All tokens.
    pub rows: &'a RowMap,
    /// Which experts run, and the index of this layer's adapter.
    pub route: Option<(&'a Route, usize)>,
    /// How the LoRA modules run.
    pub lora: LoraRun<'a>,
    /// Dropout of what comes in to be added, and of attention's output.
    pub drops: [Dropout; 2],
    /// Format of the activations between the products.
    pub activation_dtype: DType,
}

/// What the backward pass of one layer needs.
#[derive(Debug)]
pub struct Saved {
    layout: Layout,
    attention_norm: pre_norm::Saved,
    /// As attention took them, or, where they are normalised, before that: the rest is computed again.
    qkv: Tensor,
    attention: attention::Saved,
    /// Input of the output projection, where that or its LoRA is trained.
    attended: Option<Tensor>,
    ffn_norm: pre_norm::Saved,
    inner: Tensor,
    adapter: Option<adapter::Saved>,
    loras: [loras::Saved; 4],
}

/// Gradients of a [`Stream`]'s parts.
pub struct StreamGradient {
    /// Of the sum.
    pub sum: Tensor,
    /// Of what was still to be added.
    pub delta: Tensor,
}

impl From<(Tensor, Tensor)> for StreamGradient {
    fn from((sum, delta): (Tensor, Tensor)) -> Self {
        Self { sum, delta }
    }
}

impl DecoderLayer {
    fn activate(&self, inner: &Tensor) -> Result<Tensor> {
        if self.gated { gated::forward(self.act, inner) } else { activation::forward(self.act, inner) }
    }

    fn head_norm<'a>(&'a self, layout: &Layout) -> Option<HeadNorm<'a>> {
        let heads = [layout.heads, layout.kv_heads];
        self.qk_norm.as_ref().map(|norm| HeadNorm { gamma: norm.gamma.each_ref(), heads, eps: norm.eps })
    }

    /// Normalised and rotated queries and keys, the values beside them. The input's memory is reused without a norm.
    fn prepared(&self, qkv: Tensor, layout: &Layout, positions: Option<Positions<'_>>) -> Result<Tensor> {
        let qkv = match self.head_norm(layout) {
            Some(norm) => head_norm::forward(&qkv, norm)?,
            None => qkv,
        };
        match positions {
            Some(p) => rope::rotate(qkv, p.heads, p.angles, p.of, Rope::Forward),
            None => Ok(qkv),
        }
    }

    /// One layer on. `attend` makes attention's output of the joint q, k and v, and may remember keys and values.
    /// `[tokens, qkv columns] -> [tokens, heads * head_dim]`
    pub fn forward(&self, x: &Stream, ctx: &LayerContext<'_>, attend: Attend<'_>) -> Result<(Stream, Saved)> {
        let (h, sum, saved) = self.block(x, ctx, attend)?;
        let (h, adapter) = self.modules.adapter.forward(h, ctx.route, ctx.rows)?;
        Ok((Stream { sum, delta: Some(h) }, saved(adapter)))
    }

    /// As [`DecoderLayer::forward`] with each of these routes (none: of a merged adapter) for the adapter behind the
    /// feed-forward block; what comes before it runs once. `site`: the adapter's number.
    pub fn branches(
        &self,
        x: &Stream,
        ctx: &LayerContext<'_>,
        (routes, site): (&[Option<&Route>], usize),
        attend: Attend<'_>,
    ) -> Result<Vec<Stream>> {
        let (h, sum, _) = self.block(x, ctx, attend)?;
        let branch = |route: &Option<&Route>| {
            let (h, _) = self.modules.adapter.forward(h.clone(), route.map(|route| (route, site)), ctx.rows)?;
            Ok(Stream { sum: sum.clone(), delta: Some(h) })
        };
        routes.iter().map(branch).collect()
    }

    /// Up to the output of the feed-forward block, and the stream that it is added to; and what backward needs, but for the
    /// adapter's part. `[tokens, d]` both
    fn block(
        &self,
        x: &Stream,
        ctx: &LayerContext<'_>,
        attend: Attend<'_>,
    ) -> Result<(Tensor, Tensor, impl FnOnce(Option<adapter::Saved>) -> Saved + use<>)> {
        let [qkv_linear, out_linear, inner_linear, outer] = &self.modules.linears;
        let (h1, sum, attention_norm) = timed(Phase::Elementwise, || match &x.delta {
            Some(delta) => self.attention_norm.forward(delta, Some(&x.sum), ctx.drops[0], ctx.activation_dtype),
            None => self.attention_norm.forward(&x.sum, None, Dropout::none(), ctx.activation_dtype),
        })?;
        let (raw, qkv_loras) = qkv_linear.forward(&h1, ctx.lora, ctx.rows)?;
        drop(h1);
        let kept = self.qk_norm.is_some().then(|| raw.clone());
        let qkv = Qkv::Joint(timed(Phase::Elementwise, || self.prepared(raw, &ctx.layout, ctx.positions))?);
        let (attended, attention) = timed(Phase::AttentionForward, || attend(&qkv, &ctx.layout))?;
        let Qkv::Joint(qkv) = qkv else { return Err(Error::internal("queries came apart from keys")) };
        let (out, out_loras) = out_linear.forward(&attended, ctx.lora, ctx.rows)?;
        let attended = out_linear.needs_input().then_some(attended);
        let (h2, sum, ffn_norm) =
            timed(Phase::Elementwise, || self.ffn_norm.forward(&out, Some(&sum), ctx.drops[1], ctx.activation_dtype))?;
        drop(out);
        let (inner, a, inner_loras) = if self.gated {
            let (inner, saved) = inner_linear.forward(&h2, ctx.lora, ctx.rows)?;
            let a = timed(Phase::Elementwise, || self.activate(&inner))?;
            (inner, a, saved)
        } else {
            inner_linear.forward_act(&h2, self.act, ctx.lora, ctx.rows)?
        };
        drop(h2);
        let (h, outer_loras) = outer.forward(&a, ctx.lora, ctx.rows)?;
        drop(a);
        let layout = ctx.layout.clone();
        let saved = move |adapter| Saved {
            layout,
            attention_norm,
            qkv: kept.unwrap_or(qkv),
            attention,
            attended,
            ffn_norm,
            inner,
            adapter,
            loras: [qkv_loras, out_loras, inner_loras, outer_loras],
        };
        Ok((h, sum, saved))
    }

    /// Consumes what was saved. Adds the gradients of what is trained here; with `below` also returns the gradients of
    /// the stream that came in. Nothing is computed below the lowest trained module.
    pub fn backward(
        &self,
        saved: Saved,
        dy: StreamGradient,
        positions: Option<Positions<'_>>,
        below: bool,
        grads: &mut Grads,
    ) -> Result<Option<StreamGradient>> {
        let [qkv, out, inner, outer] = &self.modules.linears;
        let lowest = if below { Some(Slot::Qkv) } else { self.modules.lowest_lora() };
        let goes_below = |slot: Slot| below || lowest.is_some_and(|lowest| lowest < slot);
        let [qkv_loras, out_loras, inner_loras, outer_loras] = &saved.loras;
        let StreamGradient { sum: dsum, delta: dh } = dy;
        let dh = self.modules.adapter.backward(saved.adapter.as_ref(), dh, lowest.is_some(), grads)?;
        let Some(dh) = dh else { return Ok(None) };
        let _products = scope(Phase::TrunkBackward);
        let da = goes_below(Slot::Outer).then(|| outer.linear.backward(&dh)).transpose()?;
        let a = || timed(Phase::Elementwise, || self.activate(&saved.inner));
        let da = outer.add_grads(outer_loras, a, (&dh, 0), da, grads)?;
        drop(dh);
        let Some(da) = da else { return Ok(None) };
        let (z, act) = (saved.inner, self.act);
        let dinner = timed(Phase::Elementwise, || match self.gated {
            true => gated::backward(act, z, &da),
            false => activation::backward(act, &z, da),
        })?;
        let dh2 = goes_below(Slot::Inner).then(|| inner.linear.backward(&dinner)).transpose()?;
        let h2 = || timed(Phase::Elementwise, || self.ffn_norm.output(&saved.ffn_norm));
        let dh2 = inner.add_grads(inner_loras, h2, (&dinner, 0), dh2, grads)?;
        drop(dinner);
        let Some(dh2) = dh2 else { return Ok(None) };
        self.ffn_norm.add_grads(&saved.ffn_norm, &dh2, grads)?;
        let (dsum, dout) = timed(Phase::Elementwise, || self.ffn_norm.backward(&saved.ffn_norm, &dh2, Some(dsum)))?;
        let dattended = goes_below(Slot::Out).then(|| out.linear.backward(&dout)).transpose()?;
        let dattended = out.add_grads(out_loras, || kept(&saved.attended), (&dout, 0), dattended, grads)?;
        drop(dout);
        let Some(dattended) = dattended else { return Ok(None) };
        let taken = (saved.qkv, saved.attention);
        let dqkv = self.attention_backward(taken, &saved.layout, &dattended, positions, grads)?;
        let dh1 = below.then(|| qkv.linear.backward(&dqkv)).transpose()?;
        let h1 = || timed(Phase::Elementwise, || self.attention_norm.output(&saved.attention_norm));
        let dh1 = qkv.add_grads(qkv_loras, h1, (&dqkv, 0), dh1, grads)?;
        let Some(dh1) = dh1 else { return Ok(None) };
        let _norm = scope(Phase::Elementwise);
        self.attention_norm.add_grads(&saved.attention_norm, &dh1, grads)?;
        Ok(Some(self.attention_norm.backward(&saved.attention_norm, &dh1, Some(dsum))?.into()))
    }

    /// From attention's output back to the joint q, k, v as their linear layer made them.
    fn attention_backward(
        &self,
        (qkv, saved): (Tensor, attention::Saved),
        layout: &Layout,
        dattended: &Tensor,
        positions: Option<Positions<'_>>,
        grads: &mut Grads,
    ) -> Result<Tensor> {
        let norm = self.head_norm(layout);
        let raw = norm.is_some().then(|| qkv.clone());
        // Without a norm, what was saved is what attention took.
        let taken = if norm.is_some() { self.prepared(qkv, layout, positions)? } else { qkv };
        let taken = Qkv::Joint(taken);
        let back = timed(Phase::AttentionBackward, || attention::backward_saved(&taken, layout, &saved, dattended))?;
        let Qkv::Joint(dqkv) = back else { return Err(Error::internal("queries came apart from keys")) };
        let _rest = scope(Phase::Elementwise);
        let dqkv = match positions {
            Some(p) => rope::rotate(dqkv, p.heads, p.angles, p.of, Rope::Backward)?,
            None => dqkv,
        };
        match (norm, raw) {
            (Some(norm), Some(raw)) => {
                if let Some(ids) = self.qk_norm.as_ref().and_then(|norm| norm.trained) {
                    for (id, grad) in ids.into_iter().zip(head_norm::gamma_grads(&raw, norm, &dqkv)?) {
                        grads.add(id, 0, grad)?;
                    }
                }
                head_norm::backward(&raw, norm, dqkv)
            }
            _ => Ok(dqkv),
        }
    }
}
