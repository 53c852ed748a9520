//! Bottleneck adapters: `out = h + W^U act(W^D h + b^D) + b^U` (paper section 3.1). [`AdapterMixture`] holds M experts of
//! one module and routes each row; [`Adapter`] is the merged one, of its own type because it cannot be routed.

use super::bank::Bank;
use super::routing::{Route, RowMap, Side};
use super::tap::Tap;
use crate::config::Pairs;
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
    tap: Option<Tap>,
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

    /// The weighted mean of the experts' factors: `W̄ = Σ w_j W_j`, `b̄ = Σ w_j b_j`. Weights `[M]`
    #[must_use = "merging makes a new adapter and leaves the experts as they are"]
    pub fn merge(&self, weights: &[f64]) -> Result<Adapter> {
        self.with(&mut |_, bank| bank.mean(weights))
    }

    /// One adapter of what `of` makes of each side's bank: a bank of one expert.
    pub fn with(&self, of: &mut dyn FnMut(Side, &Bank) -> Result<Bank>) -> Result<Adapter> {
        Ok(self.merged(of(Side::Down, &self.down)?, of(Side::Up, &self.up)?))
    }

    /// One adapter of these banks of one, with this mixture's nonlinearity.
    pub fn merged(&self, down: Bank, up: Bank) -> Adapter {
        Adapter { module: Self::new(down, up, self.act), tap: None }
    }

    /// All experts side by side, of bottleneck M r: the exact mean of their outputs,
    /// `down = [D_1; ...; D_M]`, `up = [U_1 ... U_M] / M`, the bias of up averaged. With [`Pairs::All`] every block of up is the
    /// mean of all: the mean over the outputs of all M² pairs. With a shared down-projection the mean of factors is both.
    pub fn wide(&self, pairs: Pairs) -> Result<Adapter> {
        let (experts, r, d) = self.down.weight().dims3()?;
        let mean = |bank: &Bank| bank.mean(&vec![1.0 / bank.experts() as f64; bank.experts()]);
        let mean_up = mean(&self.up)?;
        if experts == 1 {
            return Ok(self.merged(mean(&self.down)?, mean_up));
        }
        let block = |expert: usize| -> Result<Tensor> {
            let apart = pairs == Pairs::Same && self.up.experts() > 1;
            let up = if apart { self.up.weight().get(expert)? } else { mean_up.weight().get(0)? };
            up * (1.0 / experts as f64)
        };
        let blocks = (0..experts).map(block).collect::<Result<Vec<_>>>()?;
        let bias = self.down.bias().map(|bias| bias.contiguous()?.reshape((1, experts * r))).transpose()?;
        let down = Bank::new(self.down.weight().contiguous()?.reshape((1, experts * r, d))?, bias)?;
        let up = Bank::new(Tensor::cat(&blocks, 1)?.unsqueeze(0)?, mean_up.bias().cloned())?;
        Ok(self.merged(down, up))
    }

    /// The same mixture with its experts moved from their mean by a factor; see [`Bank::spread`].
    pub fn spread(&self, alpha: f64) -> Result<Self> {
        Ok(Self::new(self.down.spread(alpha)?, self.up.spread(alpha)?, self.act))
    }
}

impl Adapter {
    /// From matrix and bias of both sides. down `[r, d]` and `[r]`, up `[d, r]` and `[d]`
    pub fn new(down: &(Tensor, Tensor), up: &(Tensor, Tensor), act: Act) -> Result<Self> {
        let bank = |(weight, bias): &(Tensor, Tensor)| Bank::new(weight.unsqueeze(0)?, Some(bias.unsqueeze(0)?));
        Ok(Self { module: AdapterMixture::new(bank(down)?, bank(up)?, act), tap: None })
    }

    /// The same adapter, which also keeps what it reads.
    #[must_use]
    pub fn tapped(&self, tap: &Tap) -> Self {
        Self { tap: Some(tap.clone()), ..self.clone() }
    }

    /// Its bottleneck: r, or M r after a merge side by side.
    pub fn width(&self) -> usize {
        self.module.down.weight().dims()[1]
    }
    /// The nonlinearity between its projections.
    pub fn act(&self) -> Act {
        self.module.act
    }

    /// The matrix and the bias of one side. `[r, d]` and `[r]`, or `[d, r]` and `[d]`
    pub fn side(&self, side: Side) -> Result<(Tensor, Tensor)> {
        let bank = self.module.bank(side);
        let bias = bank.bias().ok_or_else(|| Error::internal("an adapter's projection without a bias"))?;
        Ok((bank.weight().squeeze(0)?, bias.squeeze(0)?))
    }

    /// h `[n, d]` -> `[n, d]`
    pub fn forward(&self, h: &Tensor, rows: &RowMap) -> Result<Tensor> {
        if let Some(tap) = &self.tap {
            tap.keep(h)?;
        }
        Ok(self.module.run(h, Routed { down: rows.single(), up: rows.single() })?.0)
    }
}
