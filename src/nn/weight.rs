//! A matrix of the base model: values in a tensor, or quantised and widened where they are used.

use super::kernels::activation::{self, Act};
use super::kernels::bottleneck::Routed;
use super::kernels::device;
use super::kernels::gemm::{self, Precision};
use super::kernels::low_rank::LowRank;
use super::kernels::quant::Quantised;
use super::kernels::types::Dropout;
use super::kernels::vocab_loss::Head;
use super::profile::{Phase, timed};
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, NumberFormat, Tensor};

/// W `[out, in]`. Cloning shares the values.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Values in a tensor, of any device and precision.
    Dense(Tensor),
    /// Quantised values, in the host's memory or that of a GPU of any vendor; never trained.
    Quantised(Quantised),
}

impl From<Tensor> for Weight {
    fn from(dense: Tensor) -> Self {
        Self::Dense(dense)
    }
}

impl<'a> From<&'a Weight> for Head<'a> {
    fn from(weight: &'a Weight) -> Self {
        match weight {
            Weight::Dense(dense) => Self::Dense(dense),
            Weight::Quantised(quantised) => Self::Quantised(quantised, Precision::Single),
        }
    }
}

impl Weight {
    /// Outputs and inputs.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(dense) => Ok(dense.dims2()?),
            Self::Quantised(quantised) => Ok(quantised.dims()),
        }
    }

    /// Number of values.
    pub fn elem_count(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.elem_count(),
            Self::Quantised(quantised) => quantised.dims().0 * quantised.dims().1,
        }
    }

    /// Bytes the values take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.elem_count() * dense.dtype().size_in_bytes(),
            Self::Quantised(quantised) => quantised.bytes(),
        }
    }

    /// The precision of the values: f32 for quantised ones, which are widened to it.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Dense(dense) => dense.dtype(),
            Self::Quantised(_) => DType::F32,
        }
    }

    /// The tensor itself; an error for quantised values, which cannot be trained or changed.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Dense(dense) => Ok(dense),
            Self::Quantised(_) => Err(Error::internal("quantised weights cannot be trained or changed in place")),
        }
    }

    /// Matrices with the same inputs, one below the other. If any is quantised, so is the result.
    pub fn stack(list: Vec<Self>) -> Result<Self> {
        let dense: Vec<&Tensor> = list.iter().filter_map(|weight| weight.tensor().ok()).collect();
        if let [one] = list.as_slice() {
            return Ok(one.clone());
        }
        if dense.len() == list.len() {
            return Ok(Self::Dense(Tensor::cat(&dense, 0)?));
        }
        let parts = list.into_iter().map(|weight| match weight {
            Self::Dense(tensor) => Quantised::of(&tensor, NumberFormat::F32),
            Self::Quantised(quantised) => Ok(quantised),
        });
        Ok(Self::Quantised(Quantised::stack(parts.collect::<Result<_>>()?)?))
    }

    /// A block of outputs.
    pub fn rows(&self, start: usize, len: usize) -> Result<Self> {
        Ok(match self {
            Self::Dense(dense) => Self::Dense(dense.narrow(0, start, len)?),
            Self::Quantised(quantised) => Self::Quantised(quantised.narrow(start, len)?),
        })
    }

    /// Some rows, in any order, as a table of embeddings gives them. `[ids, in]`
    pub fn gather(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => Ok(dense.index_select(&Tensor::new(ids, dense.device())?, 0)?),
            Self::Quantised(quantised) => quantised.gather(ids),
        }
    }

    /// In another precision; quantised values stay as they are.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        Ok(match self {
            Self::Dense(dense) => Self::Dense(dense.to_dtype(dtype)?),
            Self::Quantised(_) => self.clone(),
        })
    }

    /// In the memory of a device; quantised values stay quantised where it decodes them.
    pub fn on(&self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Dense(dense) => Self::Dense(dense.to_device(device)?),
            Self::Quantised(quantised) => Self::Quantised(quantised.on(device)?),
        })
    }

    /// Quantised in a format, or one that takes its place ([`NumberFormat::for_columns`]); quantised values stay as they are.
    pub fn quantised(&self, format: NumberFormat) -> Result<Self> {
        Ok(match self {
            Self::Dense(dense) => Self::Quantised(Quantised::of(dense, format)?),
            Self::Quantised(_) => self.clone(),
        })
    }

    /// `x Wᵀ (+ b)`. x `[n, in]`, b `[out]` -> `[n, out]`
    pub fn linear(&self, x: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::linear(x, dense, b),
            Self::Quantised(quantised) => quantised.linear(x, b),
        }
    }

    /// `x Wᵀ (+ b)` and what a LoRA module adds to it; and the module's z, for its backward. x `[n, in]`, b `[out]` ->
    /// `[n, out]`, `[n, blocks * r]`
    pub fn linear_low_rank(
        &self,
        x: &Tensor,
        b: Option<&Tensor>,
        lora: LowRank<'_>,
        drop: Dropout,
        routed: &Routed,
    ) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Dense(dense) if lora.joins(x) => lora.linear(x, (dense, b), drop, routed),
            _ => lora.add(x, drop, routed, timed(Phase::TrunkForward, || self.linear(x, b))?),
        }
    }

    /// `x Wᵀ` in f32 whatever the format of x: scores that are compared. x `[n, in]` -> `[n, out]`
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::logits(x, dense),
            Self::Quantised(quantised) => quantised.linear(&device::widen(x)?, None),
        }
    }

    /// `z = x Wᵀ (+ b)` and `act(z)`. x `[n, in]` -> two of `[n, out]`
    pub fn linear_act(&self, x: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Dense(dense) => gemm::linear_act(x, dense, b, act),
            Self::Quantised(quantised) => {
                let z = quantised.linear(x, b)?;
                let y = activation::forward(act, &z)?;
                Ok((z, y))
            }
        }
    }

    /// `dy W`. dy `[n, out]` -> `[n, in]`
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::linear_backward(dy, dense),
            Self::Quantised(quantised) => quantised.backward(dy),
        }
    }

    /// `(dy W) act'(z)`. dy `[n, out]`, z `[n, in]` -> `[n, in]`
    pub fn backward_act(&self, dy: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::linear_backward_act(dy, dense, act, z),
            Self::Quantised(quantised) => activation::backward(act, z, quantised.backward(dy)?),
        }
    }

    /// `acc + dy W`, in `acc`'s memory where possible. dy `[n, out]`, acc `[n, in]`
    pub fn backward_add(&self, dy: &Tensor, acc: Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::linear_backward_add(dy, dense, acc),
            Self::Quantised(quantised) => quantised.backward_add(dy, acc),
        }
    }
}
