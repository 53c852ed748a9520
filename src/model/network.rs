//! What classifiers and language models have in common: a frozen trunk, the mixture at its sites, the trained tensors.

use super::classifier::Counts;
use super::loras::Placed;
use super::{CausalLm, Classifier, Site};
use crate::config::MixtureConfig;
use crate::error::{Error, Result};
use crate::mixture::Adapter;
use crate::nn::Params;
use candle_core::{DType, Device, Tensor};

/// A trunk with its mixture, of either kind.
pub trait Network {
    /// All trained tensors, in a fixed order. Empty for a merged model.
    fn params(&self) -> &Params;
    /// The mixture's settings, if this is an unmerged mixture.
    fn mixture(&self) -> Option<&MixtureConfig>;
    /// The mixtures in site order; empty when merged or without a mixture.
    fn sites(&self) -> Vec<Site<'_>>;
    /// Names of the sites, in order.
    fn site_names(&self) -> Vec<String>;
    /// The merged adapters in site order; empty when not merged.
    fn adapters(&self) -> Vec<&Adapter>;
    /// The LoRA modules of every layer, merged or not, with their site names; empty without any.
    fn loras(&self) -> Vec<(String, &Placed)>;
    /// Values by role.
    fn counts(&self) -> Counts;
    /// The device the weights are on.
    fn device(&self) -> &Device;
    /// The format of the trunk's matrices.
    fn dtype(&self) -> DType;
}

macro_rules! network {
    ($model:ty, $trunk:ident, $dtype:ident) => {
        impl Network for $model {
            fn params(&self) -> &Params {
                <$model>::params(self)
            }
            fn mixture(&self) -> Option<&MixtureConfig> {
                <$model>::mixture(self)
            }
            fn sites(&self) -> Vec<Site<'_>> {
                <$model>::sites(self)
            }
            fn site_names(&self) -> Vec<String> {
                <$model>::site_names(self)
            }
            fn adapters(&self) -> Vec<&Adapter> {
                <$model>::adapters(self)
            }
            fn loras(&self) -> Vec<(String, &Placed)> {
                <$model>::loras(self)
            }
            fn counts(&self) -> Counts {
                <$model>::counts(self)
            }
            fn device(&self) -> &Device {
                <$model>::$trunk(self).device()
            }
            fn dtype(&self) -> DType {
                <$model>::$trunk(self).$dtype()
            }
        }
    };
}

network!(Classifier, encoder, dtype);
network!(CausalLm, decoder, stored);

/// Overwrites trained tensors with host values by name. Every one must be there, in its shape.
pub fn overwrite<'a>(params: &Params, values: impl Fn(&str) -> Option<(&'a [usize], &'a [f32])>) -> Result<()> {
    for param in params.iter() {
        let (shape, data) = values(&param.name).ok_or_else(|| {
            Error::format(format!("trained tensor {:?} is missing; the file belongs to other settings", param.name))
        })?;
        if shape != param.value.dims() {
            return Err(Error::format(format!(
                "tensor {:?} has shape {shape:?}, this model needs {:?}; the file belongs to other settings",
                param.name,
                param.value.dims()
            )));
        }
        let new = Tensor::from_slice(data, shape, param.value.device())?.to_dtype(param.value.dtype())?;
        param.value.slice_set(&new, 0, 0)?;
    }
    Ok(())
}
