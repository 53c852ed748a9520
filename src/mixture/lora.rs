//! Mixture of LoRA: `y = W x + s B_k A_j dropout(x)` with A_j and B_k drawn independently (paper section 3.1); s is
//! alpha / r, or alpha / √r (rsLoRA). [`LoraMixture`] holds M experts on one frozen matrix, [`Lora`] is the merged one.
//!
//! One mixture may write several blocks of the layer's outputs (q and v inside GPT-2's fused q, k, v, as in the
//! reference): A has r rows for each block, B the rows of all blocks, and one draw serves them together.
//!
//! Two averages: *mean of factors* `B̄ Ā`, the paper's, is also the mean over all M² pairs of independent draws; *mean of
//! deltas* `Σ w_j B_j A_j` pairs expert j with expert j and has rank M r. They are equal where one side is shared.

use super::bank::Bank;
use super::merging;
use super::routing::{Route, RowMap, Side};
use super::tap::Tap;
use crate::config::Pairs;
use crate::error::{Error, Result};
use crate::nn::kernels::bottleneck::Routed;
use crate::nn::kernels::low_rank::LowRank;
use crate::nn::{Dropout, Grads, Linear, Params};
use crate::tensor::Tensor;
use std::ops::Range;

pub use crate::nn::kernels::low_rank::Columns;

/// M LoRA modules on one linear layer, sharing one side or none.
#[derive(Clone, Debug)]
pub struct LoraMixture {
    a: Bank,
    b: Bank,
    columns: Columns,
    scale: f64,
    dropout: f64,
}

/// One LoRA module: the result of a merge.
#[derive(Clone, Debug)]
pub struct Lora {
    module: LoraMixture,
    tap: Option<Tap>,
}

impl From<LoraMixture> for Lora {
    /// Of a mixture of one.
    fn from(module: LoraMixture) -> Self {
        Self { module, tap: None }
    }
}

/// What the backward pass needs of one adapted module. z `[n, blocks * r]`
#[derive(Clone, Debug)]
pub struct Saved {
    z: Tensor,
    routed: Routed,
    drop: Dropout,
}

/// What a module's product is added to.
pub enum Onto<'a> {
    /// The output of the layer, whose memory nobody else may hold. `[n, out]`
    Output(Tensor),
    /// What this layer makes of the same x: where the device can, one product makes both.
    Layer(&'a Linear),
}

impl From<Tensor> for Onto<'_> {
    fn from(output: Tensor) -> Self {
        Self::Output(output)
    }
}

impl Onto<'_> {
    /// The layer's output without any module. x `[n, in]` -> `[n, out]`
    pub fn alone(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Output(y) => Ok(y),
            Self::Layer(linear) => linear.forward(x),
        }
    }
}

impl LoraMixture {
    /// From its two banks. a `[M or 1, blocks * r, in]`, b `[M or 1, sum of the blocks' widths, r]`, neither with a bias
    pub fn new(a: Bank, b: Bank, columns: Columns, scale: f64, dropout: f64) -> Result<Self> {
        let ((_, rows, _), (_, d_out, rank)) = (a.weight().dims3()?, b.weight().dims3()?);
        let width: usize = columns.iter().map(Range::len).sum();
        if rows != columns.len() * rank || d_out != width || a.bias().is_some() || b.bias().is_some() {
            return Err(Error::format(format!(
                "LoRA of A {:?} and B {:?} does not fit {} blocks of {width} outputs",
                a.weight().dims(),
                b.weight().dims(),
                columns.len()
            )));
        }
        Ok(Self { a, b, columns, scale, dropout })
    }

    /// What the product of B and A is multiplied with.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Makes all experts trained, under `{name}.lora_a.weight` and `{name}.lora_b.weight`.
    pub fn train(&mut self, name: &str, params: &mut Params) -> Result<()> {
        self.a.train(&format!("{name}.lora_a"), params)?;
        self.b.train(&format!("{name}.lora_b"), params)
    }

    /// The bank of one side: A is [`Side::Down`], B is [`Side::Up`].
    pub fn bank(&self, side: Side) -> &Bank {
        match side {
            Side::Down => &self.a,
            Side::Up => &self.b,
        }
    }
    /// The blocks of the layer's outputs that are written, in the order of B's rows.
    pub fn columns(&self) -> &[Range<usize>] {
        &self.columns
    }
    /// Probability with which each input value is dropped in training.
    pub fn dropout(&self) -> f64 {
        self.dropout
    }
    /// r.
    pub fn rank(&self) -> usize {
        self.b.weight().dims()[2]
    }
    /// The same module writing `by` columns further to the left: for a part of a layer's outputs.
    #[must_use]
    pub fn shifted(&self, by: usize) -> Self {
        let columns = self.columns.iter().map(|c| c.start.saturating_sub(by)..c.end.saturating_sub(by)).collect();
        Self { columns, ..self.clone() }
    }

    fn experts(&self) -> LowRank<'_> {
        LowRank { a: self.a.weight(), b: self.b.weight(), columns: &self.columns, scale: self.scale }
    }

    /// Adds to the layer's output what each row's experts say. x `[n, in]` -> `[n, out]`
    pub fn forward<'a>(
        &self,
        x: &Tensor,
        onto: impl Into<Onto<'a>>,
        (route, site): (&Route, usize),
        rows: &RowMap,
        drop: Dropout,
    ) -> Result<(Tensor, Saved)> {
        let down = rows.groups(route, site, Side::Down, self.a.experts())?;
        let up = rows.groups(route, site, Side::Up, self.b.experts())?;
        self.run(x, onto.into(), Routed { down, up }, drop)
    }

    fn run(&self, x: &Tensor, onto: Onto<'_>, routed: Routed, drop: Dropout) -> Result<(Tensor, Saved)> {
        let (y, z) = match onto {
            Onto::Output(y) => self.experts().add(x, drop, &routed, y)?,
            Onto::Layer(linear) => linear.forward_low_rank(x, self.experts(), drop, &routed)?,
        };
        Ok((y, Saved { z, routed, drop }))
    }

    /// Adds the gradients of the experts that ran, and to `dx`, if it is given, the gradient of x. x is the input again
    /// (it is not kept). x `[n, in]`, dy `[n, out]`, dx `[n, in]`
    pub fn backward(
        &self,
        saved: &Saved,
        x: &Tensor,
        dy: &Tensor,
        dx: Option<Tensor>,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        let back = self.experts().backward([x, &saved.z], saved.drop, &saved.routed, dy, dx)?;
        self.b.add_grads(back.up, grads)?;
        self.a.add_grads(back.down, grads)?;
        Ok(back.input)
    }

    /// The paper's merge: `Ā = Σ w_j A_j`, `B̄ = Σ w_k B_k`. Weights `[M]`
    #[must_use = "merging makes a new module and leaves the experts as they are"]
    pub fn merge(&self, weights: &[f64]) -> Result<Lora> {
        self.with(&mut |_, bank| bank.mean(weights))
    }

    /// One LoRA of what `of` makes of each side's bank: a bank of one expert.
    pub fn with(&self, of: &mut dyn FnMut(Side, &Bank) -> Result<Bank>) -> Result<Lora> {
        Ok(self.merged(of(Side::Down, &self.a)?, of(Side::Up, &self.b)?))
    }

    /// One module of these banks of one.
    pub fn merged(&self, a: Bank, b: Bank) -> Lora {
        Lora::from(Self { a, b, dropout: 0.0, ..self.clone() })
    }

    /// All experts side by side: the exact mean of their outputs. Of pairs of the same index that is the mean of deltas, of
    /// all M² pairs the mean of factors, of rank r.
    pub fn wide(&self, pairs: Pairs) -> Result<Lora> {
        let experts = self.a.experts().max(self.b.experts());
        let weights = vec![1.0 / experts as f64; experts];
        match pairs {
            Pairs::Same => self.merge_deltas(&weights),
            Pairs::All => self.merge(&weights),
        }
    }

    /// The same mixture with its experts moved from their mean by a factor; see [`Bank::spread`].
    pub fn spread(&self, alpha: f64) -> Result<Self> {
        Ok(Self { a: self.a.spread(alpha)?, b: self.b.spread(alpha)?, ..self.clone() })
    }

    /// The mean of the experts' deltas, exact: `Σ w_j B_j A_j`, of rank M r where neither side is shared. Weights `[M]`
    #[must_use = "merging makes a new module and leaves the experts as they are"]
    pub fn merge_deltas(&self, weights: &[f64]) -> Result<Lora> {
        self.merge_pairs(weights, 0)
    }

    /// The mean of the products of expert j of A with expert `j + shift` of B, counted round: `Σ w_j B_(j + shift) A_j`. With equal
    /// weights the mean over all M shifts is the product of the means. Weights `[M]`
    #[must_use = "merging makes a new module and leaves the experts as they are"]
    pub fn merge_pairs(&self, weights: &[f64], shift: usize) -> Result<Lora> {
        let experts = self.a.experts();
        if experts == 1 || self.b.experts() == 1 {
            return self.merge(weights);
        }
        merging::one_for_each(weights, experts)?;
        // A's rows block by block, each block with the rows of all experts; B's columns in the same order of experts.
        let (rank, blocks) = (self.rank(), self.columns.len());
        let of = |bank: &Bank, expert: usize| bank.weight().get(expert);
        let mut rows = Vec::new();
        for block in 0..blocks {
            for expert in 0..experts {
                rows.push(of(&self.a, expert)?.narrow(0, block * rank, rank)?);
            }
        }
        let weighted = |(expert, w): (usize, &f64)| of(&self.b, (expert + shift) % experts).and_then(|b| b * *w);
        let columns = weights.iter().enumerate().map(weighted).collect::<Result<Vec<_>, _>>()?;
        let a = Bank::new(Tensor::cat(&rows, 0)?.unsqueeze(0)?, None)?;
        let b = Bank::new(Tensor::cat(&columns, 1)?.unsqueeze(0)?, None)?;
        Ok(Lora::from(Self::new(a, b, self.columns.clone(), self.scale, 0.0)?))
    }

    /// One expert alone: A_j with B_j (or the shared one).
    pub fn expert(&self, expert: usize) -> Result<Lora> {
        let side = |bank: &Bank| {
            let at = if bank.experts() == 1 { 0 } else { expert };
            Bank::new(bank.weight().narrow(0, at, 1)?.copy()?, None)
        };
        Ok(self.merged(side(&self.a)?, side(&self.b)?))
    }
}

impl Lora {
    /// From single matrices. a `[blocks * r, in]`, b `[sum of the blocks' widths, r]`
    pub fn new(a: &Tensor, b: &Tensor, columns: Columns, scale: f64) -> Result<Self> {
        let bank = |weight: &Tensor| Bank::new(weight.unsqueeze(0)?, None);
        Ok(Self::from(LoraMixture::new(bank(a)?, bank(b)?, columns, scale, 0.0)?))
    }

    /// The matrix of one side. A `[blocks * r, in]`, B `[sum of the blocks' widths, r]`
    pub fn side(&self, side: Side) -> Result<Tensor> {
        self.module.bank(side).weight().squeeze(0)
    }
    /// The blocks of the layer's outputs that are written.
    pub fn columns(&self) -> &[Range<usize>] {
        self.module.columns()
    }
    /// What the product is multiplied with.
    pub fn scale(&self) -> f64 {
        self.module.scale
    }
    /// r: M times as large after a merge of deltas.
    pub fn rank(&self) -> usize {
        self.module.rank()
    }
    /// As [`LoraMixture::shifted`].
    #[must_use]
    pub fn shifted(&self, by: usize) -> Self {
        Self { module: self.module.shifted(by), tap: self.tap.clone() }
    }

    /// The same module, which also keeps what it reads.
    #[must_use]
    pub fn tapped(&self, tap: &Tap) -> Self {
        Self { tap: Some(tap.clone()), ..self.clone() }
    }

    /// Adds to the layer's output. x `[n, in]` -> `[n, out]`
    pub fn forward<'a>(&self, x: &Tensor, onto: impl Into<Onto<'a>>, rows: &RowMap) -> Result<Tensor> {
        if let Some(tap) = &self.tap {
            tap.keep(x)?;
        }
        let routed = Routed { down: rows.single(), up: rows.single() };
        Ok(self.module.run(x, onto.into(), routed, Dropout::none())?.0)
    }
}
