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
use crate::model::layer::FfnAdapter;
use crate::model::loras::{self, LayerLoras, LoraRun, Slot};
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::head_norm::{self, HeadNorm};
use crate::nn::kernels::rope::{self, Angles, Heads, Rope};
use crate::nn::kernels::{activation, gated};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Act, Dropout, Grads, Linear, ParamId, Params, PreNorm, pre_norm};
use candle_core::{DType, Tensor};

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
    /// Before attention.
    pub attention_norm: PreNorm,
    /// Queries, keys and values in one matrix. `[(heads + 2 kv_heads) * head_dim, d]`
    pub qkv: Linear,
    /// Normalisation of queries and keys, if the family has one.
    pub qk_norm: Option<QkNorm>,
    /// Output projection of attention. `[d, heads * head_dim]`
    pub out: Linear,
    /// Before the feed-forward block.
    pub ffn_norm: PreNorm,
    /// W1, or gate and up in one matrix. `[intermediate or 2 intermediate, d]`
    pub inner: Linear,
    /// W2. `[d, intermediate]`
    pub outer: Linear,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
    /// Whether the feed-forward block is gated.
    pub gated: bool,
    /// The mixture of adapters.
    pub adapter: FfnAdapter,
    /// LoRA modules on the four linear layers.
    pub loras: LayerLoras,
}

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
    /// Input of the output projection, where that or its LoRA is trained.
    attended: Option<Tensor>,
    ffn_norm: pre_norm::Saved,
    inner: Tensor,
    adapter: Option<adapter::Saved>,
    loras: [loras::Saved; 4],
}

/// What a family calls the parts of one layer; joint matrices have a name of their own.
pub(super) struct LayerNames {
    pub(super) attention_norm: String,
    pub(super) qkv: String,
    pub(super) qk_norm: [String; 2],
    pub(super) out: String,
    pub(super) ffn_norm: String,
    pub(super) inner: String,
    pub(super) outer: String,
}

/// Gradients of a [`Stream`]'s parts.
pub struct Back {
    /// Of the sum.
    pub sum: Tensor,
    /// Of what was still to be added.
    pub delta: Tensor,
}

impl Back {
    /// From the norm that made the add.
    pub fn of(norm: &pre_norm::Saved, sum: Tensor) -> Result<Self> {
        Ok(Self { delta: norm.through_dropout(&sum)?, sum })
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
    pub fn forward(
        &self,
        x: &Stream,
        ctx: LayerContext<'_>,
        attend: &mut dyn FnMut(&Qkv, &Layout) -> Result<Tensor>,
    ) -> Result<(Stream, Saved)> {
        let mut saved = <[loras::Saved; 4]>::default();
        let mut lora = |slot: Slot, x: &Tensor, y: Tensor| -> Result<Tensor> {
            let (y, kept) = self.loras.at(slot).forward(x, y, ctx.lora, ctx.rows)?;
            saved[slot as usize] = kept;
            Ok(y)
        };
        let (h1, sum, attention_norm) = timed(Phase::Elementwise, || match &x.delta {
            Some(delta) => self.attention_norm.forward(delta, Some(&x.sum), ctx.drops[0], ctx.activation_dtype),
            None => self.attention_norm.forward(&x.sum, None, Dropout::none(), ctx.activation_dtype),
        })?;
        let raw = timed(Phase::TrunkForward, || self.qkv.forward(&h1))?;
        let raw = lora(Slot::Qkv, &h1, raw)?;
        drop(h1);
        let kept = self.qk_norm.is_some().then(|| raw.clone());
        let qkv = Qkv::Joint(timed(Phase::Elementwise, || self.prepared(raw, &ctx.layout, ctx.positions))?);
        let attended = timed(Phase::AttentionForward, || attend(&qkv, &ctx.layout))?;
        let Qkv::Joint(qkv) = qkv else { return Err(Error::internal("queries came apart from keys")) };
        let out = timed(Phase::TrunkForward, || self.out.forward(&attended))?;
        let out = lora(Slot::Out, &attended, out)?;
        let attended = self.needs_input(Slot::Out).then_some(attended);
        let (h2, sum, ffn_norm) =
            timed(Phase::Elementwise, || self.ffn_norm.forward(&out, Some(&sum), ctx.drops[1], ctx.activation_dtype))?;
        drop(out);
        let (inner, a) = if self.gated || !self.loras.at(Slot::Inner).is_empty() {
            let inner = timed(Phase::TrunkForward, || self.inner.forward(&h2))?;
            let inner = lora(Slot::Inner, &h2, inner)?;
            let a = timed(Phase::Elementwise, || self.activate(&inner))?;
            (inner, a)
        } else {
            timed(Phase::TrunkForward, || self.inner.forward_act(&h2, self.act))?
        };
        drop(h2);
        let h = timed(Phase::TrunkForward, || self.outer.forward(&a))?;
        let h = lora(Slot::Outer, &a, h)?;
        drop(a);
        let adapting = scope(Phase::Adapters);
        let (h, adapter) = self.adapter.forward(h, ctx.route, ctx.rows)?;
        drop(adapting);
        let saved = Saved {
            layout: ctx.layout,
            attention_norm,
            qkv: kept.unwrap_or(qkv),
            attended,
            ffn_norm,
            inner,
            adapter,
            loras: saved,
        };
        Ok((Stream { sum, delta: Some(h) }, saved))
    }

    /// Whether anything here is trained.
    pub fn is_trained(&self) -> bool {
        matches!(self.adapter, FfnAdapter::Mixture(_)) || self.loras.lowest().is_some() || self.qkv.is_trained()
    }

    /// Makes all its own weights trained; `names` as the family calls its parts.
    pub(super) fn train(&mut self, names: &LayerNames, params: &mut Params) {
        self.attention_norm.train(&names.attention_norm, params);
        self.qkv.train(&names.qkv, params);
        if let Some(norm) = &mut self.qk_norm {
            let [q, k] = names.qk_norm.each_ref().map(|name| format!("{name}.weight"));
            norm.trained = Some([params.add(q, &norm.gamma[0]), params.add(k, &norm.gamma[1])]);
        }
        self.out.train(&names.out, params);
        self.ffn_norm.train(&names.ffn_norm, params);
        self.inner.train(&names.inner, params);
        self.outer.train(&names.outer, params);
    }

    fn linear(&self, slot: Slot) -> &Linear {
        match slot {
            Slot::Qkv => &self.qkv,
            Slot::Out => &self.out,
            Slot::Inner => &self.inner,
            Slot::Outer => &self.outer,
        }
    }

    /// Whether a gradient is computed from the input of this linear layer.
    fn needs_input(&self, slot: Slot) -> bool {
        self.linear(slot).is_trained() || self.loras.at(slot).trained()
    }

    /// Consumes what was saved. Adds the gradients of what is trained here; with `below` also returns the gradients of
    /// the stream that came in. Nothing is computed below the lowest trained module.
    pub fn backward(
        &self,
        saved: Saved,
        dy: Back,
        positions: Option<Positions<'_>>,
        below: bool,
        grads: &mut Grads,
    ) -> Result<Option<Back>> {
        let lowest = if below { Some(Slot::Qkv) } else { self.loras.lowest() };
        let goal = lowest.map_or(4, |slot| slot as usize);
        let stop = |slot: Slot| goal == slot as usize && !below;
        let kept = saved.loras;
        let lora = |slot: Slot, x: &Tensor, dy: &Tensor, dx: Option<Tensor>, grads: &mut Grads| {
            self.linear(slot).add_grads(x, dy, grads)?;
            self.loras.at(slot).backward(&kept[slot as usize], x, (dy, 0), dx, grads)
        };
        let Back { sum: dsum, delta: mut dh } = dy;
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
        let mut da = if stop(Slot::Outer) { None } else { Some(self.outer.backward(&dh)?) };
        if self.needs_input(Slot::Outer) {
            let a = timed(Phase::Elementwise, || self.activate(&saved.inner))?;
            da = lora(Slot::Outer, &a, &dh, da, grads)?;
        }
        drop(dh);
        let Some(da) = da else { return Ok(None) };
        let (inner, act) = (saved.inner, self.act);
        let dinner = timed(Phase::Elementwise, || match self.gated {
            true => gated::backward(act, inner, &da),
            false => activation::backward(act, &inner, da),
        })?;
        let mut dh2 = if stop(Slot::Inner) { None } else { Some(self.inner.backward(&dinner)?) };
        if self.needs_input(Slot::Inner) {
            let h2 = timed(Phase::Elementwise, || self.ffn_norm.output(&saved.ffn_norm))?;
            dh2 = lora(Slot::Inner, &h2, &dinner, dh2, grads)?;
        }
        drop(dinner);
        let Some(dh2) = dh2 else { return Ok(None) };
        self.ffn_norm.add_grads(&saved.ffn_norm, &dh2, grads)?;
        let Back { sum: dsum, delta: dout } = timed(Phase::Elementwise, || {
            Back::of(&saved.ffn_norm, self.ffn_norm.backward(&saved.ffn_norm, &dh2, Some(dsum))?)
        })?;
        let mut dattended = if stop(Slot::Out) { None } else { Some(self.out.backward(&dout)?) };
        if let Some(attended) = &saved.attended {
            dattended = lora(Slot::Out, attended, &dout, dattended, grads)?;
        }
        drop(dout);
        let Some(dattended) = dattended else { return Ok(None) };
        let dqkv = self.attention_backward(saved.qkv, &saved.layout, &dattended, positions, grads)?;
        let mut dh1 = if below { Some(self.qkv.backward(&dqkv)?) } else { None };
        if self.needs_input(Slot::Qkv) {
            let h1 = timed(Phase::Elementwise, || self.attention_norm.output(&saved.attention_norm))?;
            dh1 = lora(Slot::Qkv, &h1, &dqkv, dh1, grads)?;
        }
        let Some(dh1) = dh1 else { return Ok(None) };
        let _norm = scope(Phase::Elementwise);
        self.attention_norm.add_grads(&saved.attention_norm, &dh1, grads)?;
        let dsum = self.attention_norm.backward(&saved.attention_norm, &dh1, Some(dsum))?;
        Back::of(&saved.attention_norm, dsum).map(Some)
    }

    /// From attention's output back to the joint q, k, v as their linear layer made them.
    fn attention_backward(
        &self,
        qkv: Tensor,
        layout: &Layout,
        dattended: &Tensor,
        positions: Option<Positions<'_>>,
        grads: &mut Grads,
    ) -> Result<Tensor> {
        let norm = self.head_norm(layout);
        let raw = norm.is_some().then(|| qkv.clone());
        // Without a norm, what was saved is what attention took.
        let taken = if norm.is_some() { self.prepared(qkv, layout, positions)? } else { qkv };
        let back = timed(Phase::AttentionBackward, || attention::backward(&Qkv::Joint(taken), layout, dattended))?;
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
