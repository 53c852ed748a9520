//! Merging weights: the mean of the experts' parameters (paper section 3.3), uniform or weighted.

use crate::config::MixtureConfig;
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// How much each expert counts, for all adapted modules or for each. Always sums to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeWeights {
    /// One list for all adapted modules, or one for each. `[1 or sites][M]`
    lists: Vec<Vec<f64>>,
}

impl MergeWeights {
    /// 1/M for each expert: the paper.
    pub fn uniform(experts: usize) -> Self {
        Self { lists: vec![vec![1.0 / experts.max(1) as f64; experts.max(1)]] }
    }

    /// What a mixture says itself: the scores it was imported with, else the mean. Without a mixture: one expert.
    pub fn own(mixture: Option<&MixtureConfig>) -> Result<Self> {
        match mixture {
            Some(mixture) if !mixture.merge_weights.is_empty() => Self::per_site(&mixture.merge_weights),
            mixture => Ok(Self::uniform(mixture.map_or(1, |mixture| mixture.num_experts))),
        }
    }

    /// The same weights in every adapted module; they are divided by their sum, and may be negative. `[M]`
    pub fn global(weights: &[f64]) -> Result<Self> {
        Ok(Self { lists: vec![normalized(weights)?] })
    }

    /// Own weights of each adapted module. `[sites][M]`
    pub fn per_site(weights: &[Vec<f64>]) -> Result<Self> {
        Ok(Self { lists: weights.iter().map(|list| normalized(list)).collect::<Result<_>>()? })
    }

    /// The weights of adapted module number `site`. `[M]`
    pub fn site(&self, site: usize) -> Result<&[f64]> {
        let list = if self.lists.len() == 1 { self.lists.first() } else { self.lists.get(site) };
        list.map(Vec::as_slice).ok_or_else(|| {
            Error::config(format!("merge weights given for {} sites, but there is a site {site}", self.lists.len()))
        })
    }

    /// Checks the number of adapted modules and experts.
    pub fn check(&self, sites: usize, experts: usize) -> Result<()> {
        if self.lists.len() != 1 && self.lists.len() != sites {
            return Err(Error::config(format!(
                "merge weights given for {} of {sites} sites; give one list, or one for each",
                self.lists.len()
            )));
        }
        self.lists.iter().try_for_each(|list| one_for_each(list, experts))
    }

    /// Whether all experts count the same.
    pub fn is_uniform(&self) -> bool {
        self.lists.iter().all(|list| list.iter().all(|w| (w - 1.0 / list.len() as f64).abs() < 1e-12))
    }
}

/// An error unless there is a weight for each expert.
pub(super) fn one_for_each(weights: &[f64], experts: usize) -> Result<()> {
    if weights.len() == experts {
        return Ok(());
    }
    Err(Error::config(format!("{} merge weights for {experts} experts; give one for each", weights.len())))
}

fn normalized(weights: &[f64]) -> Result<Vec<f64>> {
    let sum: f64 = weights.iter().sum();
    if weights.is_empty() || !sum.is_finite() || sum.abs() < 1e-9 {
        return Err(Error::config(format!(
            "merge weights {weights:?} have no usable sum; give finite numbers that do not cancel out"
        )));
    }
    Ok(weights.iter().map(|w| w / sum).collect())
}

/// `Σ w_j bank[j]`, accumulated in f64; a shared side (one expert) is returned as it is. `[M, ...] -> [1, ...]`
pub fn mean(bank: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let experts = bank.dim(0)?;
    if experts == 1 {
        return bank.copy();
    }
    one_for_each(weights, experts)?;
    // A GPU of our own has no f64.
    let values = if bank.device().is_gpu() { bank.to_device(&Device::Cpu)? } else { bank.clone() };
    let mut sum: Option<Tensor> = None;
    for (expert, &weight) in weights.iter().enumerate() {
        let part = (values.narrow(0, expert, 1)?.to_dtype(DType::F64)? * weight)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    let sum = sum.ok_or_else(|| Error::internal("a bank without experts"))?;
    sum.to_dtype(bank.dtype())?.to_device(bank.device())
}

/// `mean + alpha (bank[j] - mean)` of each expert, in f64; a shared side (one expert) is returned as it is. `[M, ...]` as before
pub fn spread(bank: &Tensor, alpha: f64) -> Result<Tensor> {
    let experts = bank.dim(0)?;
    if experts == 1 {
        return bank.copy();
    }
    let values = if bank.device().is_gpu() { bank.to_device(&Device::Cpu)? } else { bank.clone() };
    let values = values.to_dtype(DType::F64)?;
    let mean = (values.sum_keepdim(0)? / experts as f64)?;
    let moved = (values.broadcast_sub(&mean)? * alpha)?.broadcast_add(&mean)?;
    moved.to_dtype(bank.dtype())?.to_device(bank.device())
}
