//! Prediction heads on the first token's vector.
//!
//! * BERT: `dropout(tanh(pooler(x)))`, linear; the pooler is pre-trained and frozen, or, where the checkpoint has none, new.
//! * RoBERTa: `dropout`, dense, tanh, `dropout`, linear; both new.

use super::dropout::DropKeys;
use super::spec::{EncoderSpec, Family};
use super::weights::Weights;
use crate::error::Result;
use crate::nn::kernels::activation::{self, Act};
use crate::nn::{Dropout, Grads, Linear, Params};
use crate::rng::Stream;
use crate::tensor::{DType, Device, Tensor};

/// First place number of the head's dropouts: beyond any layer's.
const DROP_PLACE: u64 = 1 << 40;

/// A prediction head.
#[derive(Clone, Debug)]
pub struct Head {
    family: Family,
    /// BERT's pooler or RoBERTa's dense layer. `[d, d]`
    dense: Linear,
    dense_name: &'static str,
    /// Logits. `[classes, d]`
    out: Linear,
    out_name: &'static str,
    drop_rate: f64,
    dense_is_new: bool,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Saved {
    x: Tensor,
    z: Tensor,
    a: Tensor,
    drops: [Dropout; 2],
    /// The base model's format.
    narrow: DType,
}

fn fresh(stream: &mut Stream, d_out: usize, d_in: usize, dtype: DType, device: &Device) -> Result<Linear> {
    let weight = Tensor::from_vec(stream.normal_vec(d_out * d_in, 0.02), (d_out, d_in), device)?.to_dtype(dtype)?;
    Ok(Linear::new(weight, Some(Tensor::zeros(d_out, dtype, device)?)))
}

impl Head {
    /// The head of this family: layers that the checkpoint holds in the right shape are read, others drawn from N(0, 0.02).
    pub fn new(
        spec: &EncoderSpec,
        weights: Option<&Weights>,
        classes: usize,
        stream: &mut Stream,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let d = spec.hidden_size;
        let (dense_name, out_name) = match spec.family {
            Family::Bert => ("pooler.dense", "classifier"),
            Family::Roberta => ("classifier.dense", "classifier.out_proj"),
        };
        let mut layer = |name: &str, d_out: usize| -> Result<(Linear, bool)> {
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            // Drawn in any case, so that what follows does not depend on what the checkpoint holds.
            let new = fresh(stream, d_out, d, dtype, device)?;
            match weights {
                Some(weights) if weights.shape(&weight) == Some(&[d_out, d]) && weights.has(&bias) => {
                    let weight = weights.get(&weight, &[d_out, d], dtype, device)?;
                    Ok((Linear::new(weight, Some(weights.get(&bias, &[d_out], dtype, device)?)), false))
                }
                _ => Ok((new, true)),
            }
        };
        let (dense, dense_is_new) = layer(dense_name, d)?;
        let (out, _) = layer(out_name, classes)?;
        Ok(Self { family: spec.family, dense, dense_name, out, out_name, drop_rate: spec.head_dropout, dense_is_new })
    }

    /// Makes trained what the reference trains: all but a pre-trained pooler; with `whole` the pooler too.
    pub fn train(&mut self, whole: bool, params: &mut Params) {
        if self.family == Family::Roberta || self.dense_is_new || whole {
            self.dense.train(self.dense_name, params);
        }
        self.out.train(self.out_name, params);
    }

    /// Outputs: classes, or 1.
    pub fn classes(&self) -> usize {
        self.out.weight().dims2().map_or(0, |(outputs, _)| outputs)
    }

    /// Logits from the first tokens' vectors. x `[n, d]` -> `[n, classes]`
    pub fn forward(&self, x: &Tensor, drop: Option<DropKeys>) -> Result<(Tensor, Saved)> {
        let at = |i: u64| drop.map_or_else(Dropout::none, |keys| keys.at(DROP_PLACE + i, self.drop_rate));
        let before = if self.family == Family::Roberta { at(0) } else { Dropout::none() };
        let drops = [before, at(1)];
        let narrow = x.dtype();
        let x = drops[0].apply(&x.to_dtype(self.out.weight().dtype())?)?;
        let z = self.dense.forward(&x)?;
        let a = drops[1].apply(&activation::forward(Act::Tanh, &z)?)?;
        Ok((self.out.forward(&a)?, Saved { x, z, a, drops, narrow }))
    }

    /// Adds the gradients of what is trained and returns the gradient of x. dlogits `[n, classes]` -> `[n, d]`
    pub fn backward(&self, saved: &Saved, dlogits: &Tensor, grads: &mut Grads) -> Result<Tensor> {
        self.out.add_grads(&saved.a, dlogits, grads)?;
        let da = self.out.backward(dlogits)?;
        let da = if saved.drops[1].active() { saved.drops[1].apply(&da)? } else { da };
        let dz = activation::backward(Act::Tanh, &saved.z, da)?;
        self.dense.add_grads(&saved.x, &dz, grads)?;
        saved.drops[0].apply(&self.dense.backward(&dz)?)?.to_dtype(saved.narrow)
    }
}
