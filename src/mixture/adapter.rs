//! Bottleneck adapters: `out = h + W^U act(W^D h + b^D) + b^U` (paper section 3.1). [`AdapterMixture`] holds M experts of
//! one module and routes each row; [`Adapter`] is the merged one, of its own type because it cannot be routed.

use super::bank::Bank;
use super::routing::{Route, RowMap, Side};
use crate::error::{Error, Result};
use crate::nn::Act;
use crate::nn::kernels::bottleneck::{Bottleneck, Routed};
use crate::nn::{Grads, Params};
use crate::tensor::Tensor;

/// M adapters behind one feed-forward block, sharing one side or none.
#[derive(Clone, Debug)]
pub struct AdapterMixture {
    down: Bank,
    up: Bank,
    act: Act,
}

/// One adapter: the result of a merge.
#[derive(Clone, Debug)]
pub struct Adapter {
    module: AdapterMixture,
}

/// What the backward pass needs of one adapted module. h `[n, d]`, z (before the nonlinearity) `[n, r]`
#[derive(Clone, Debug)]
pub struct Saved {
    h: Tensor,
    z: Tensor,
    routed: Routed,
}

impl AdapterMixture {
    /// From its two banks. down `[M or 1, r, d]`, up `[M or 1, d, r]`
    pub fn new(down: Bank, up: Bank, act: Act) -> Self {
        Self { down, up, act }
    }

    /// Makes all experts trained, under `{name}.down.*` and `{name}.up.*`.
    pub fn train(&mut self, name: &str, params: &mut Params) -> Result<()> {
        self.down.train(&format!("{name}.down"), params)?;
        self.up.train(&format!("{name}.up"), params)
    }

    /// The bank of one side.
    pub fn bank(&self, side: Side) -> &Bank {
        match side {
            Side::Down => &self.down,
            Side::Up => &self.up,
        }
    }

    /// h `[n, d]` -> `[n, d]`, each row through the experts its route names.
    pub fn forward(&self, h: &Tensor, route: &Route, site: usize, rows: &RowMap) -> Result<(Tensor, Saved)> {
        let down = rows.groups(route, site, Side::Down, self.down.experts())?;
        let up = rows.groups(route, site, Side::Up, self.up.experts())?;
        self.run(h, Routed { down, up })
    }

    fn experts(&self) -> Bottleneck<'_> {
        Bottleneck { down: self.down.matrices(), up: self.up.matrices(), act: self.act }
    }

    fn run(&self, h: &Tensor, routed: Routed) -> Result<(Tensor, Saved)> {
        let (out, z) = self.experts().forward(h, &routed)?;
        Ok((out, Saved { h: h.clone(), z, routed }))
    }

    /// Adds the gradients of the experts that ran; with `below` also returns the gradient of h. dout `[n, d]`
    pub fn backward(&self, saved: &Saved, dout: &Tensor, below: bool, grads: &mut Grads) -> Result<Option<Tensor>> {
        let back = self.experts().backward([&saved.h, &saved.z], dout, &saved.routed, below)?;
        self.up.add_grads(back.up, grads)?;
        self.down.add_grads(back.down, grads)?;
        Ok(back.input)
    }

    /// The weighted mean of the experts, side by side: `W̄ = Σ w_j W_j`, `b̄ = Σ w_j b_j`. Weights `[M]`
    #[must_use = "merging makes a new adapter and leaves the experts as they are"]
    pub fn merge(&self, weights: &[f64]) -> Result<Adapter> {
        self.with(&mut |_, bank| bank.mean(weights))
    }

    /// One adapter of what `of` makes of each side's bank: a bank of one expert.
    pub fn with(&self, of: &mut dyn FnMut(Side, &Bank) -> Result<Bank>) -> Result<Adapter> {
        Ok(Adapter { module: Self::new(of(Side::Down, &self.down)?, of(Side::Up, &self.up)?, self.act) })
    }
}

impl Adapter {
    /// The matrix and the bias of one side. `[r, d]` and `[r]`, or `[d, r]` and `[d]`
    pub fn side(&self, side: Side) -> Result<(Tensor, Tensor)> {
        let bank = self.module.bank(side);
        let bias = bank.bias().ok_or_else(|| Error::internal("an adapter's projection without a bias"))?;
        Ok((bank.weight().squeeze(0)?, bias.squeeze(0)?))
    }

    /// h `[n, d]` -> `[n, d]`
    pub fn forward(&self, h: &Tensor, rows: &RowMap) -> Result<Tensor> {
        Ok(self.module.run(h, Routed { down: rows.single(), up: rows.single() })?.0)
    }
}
