//! Encoder, mixture and head together: what is trained, evaluated, merged and exported.

use super::encoder::{DropKeys, Encoder, Run, Trace};
use super::head::{self, Head};
use super::layer::FfnAdapter;
use super::spec::EncoderSpec;
use super::weights::Weights;
use crate::config::{self, AdapterInit, Method, MixtureConfig};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::mixture::{Adapter, AdapterMixture, Bank, MergeWeights, Route};
use crate::nn::kernels::device::wide;
use crate::nn::profile::{Phase, timed};
use crate::nn::{Act, Grads, Params};
use crate::rng::{Purpose, SeedStream, Stream};
use candle_core::{DType, Device, Tensor};

/// A classifier or regressor. Cloning shares all tensors.
#[derive(Clone, Debug)]
pub struct Classifier {
    encoder: Encoder,
    head: Head,
    params: Params,
    mixture: Option<MixtureConfig>,
}

/// What is built around the trunk.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// What is trained.
    pub method: Method,
    /// The mixture, used when the method is `adamix`.
    pub mixture: &'a MixtureConfig,
    /// Outputs: classes, or 1 for regression.
    pub outputs: usize,
    /// Seed of the new weights.
    pub seed: SeedStream,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct ClassifierTrace {
    encoder: Trace,
    head: head::Saved,
}

/// The adapter's nonlinearity as the kernels know it.
pub fn act_of(activation: config::Activation) -> Act {
    match activation {
        config::Activation::Gelu => Act::Gelu,
        config::Activation::GeluTanh => Act::GeluTanh,
        config::Activation::Relu => Act::Relu,
        config::Activation::Swish => Act::Swish,
    }
}

fn new_bank(
    stream: &mut Stream,
    shape: [usize; 3],
    std: f64,
    zero: bool,
    dtype: DType,
    device: &Device,
) -> Result<Bank> {
    let n = shape.iter().product();
    // Drawn even when it starts at zero, so that the other side's values do not depend on the choice.
    let mut values = stream.normal_vec(n, std);
    if zero {
        values.fill(0.0);
    }
    let weight = Tensor::from_vec(values, &shape, device)?.to_dtype(dtype)?;
    Bank::new(weight, Tensor::zeros((shape[0], shape[1]), dtype, device)?)
}

impl Classifier {
    /// Reads a trunk in the format `dtype` and puts mixture and head around it, which are never narrower than f32.
    pub fn load(
        spec: EncoderSpec,
        weights: &Weights,
        setup: &Setup<'_>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let encoder = Encoder::load(spec, weights, dtype, device)?;
        Self::new(encoder, Some(weights), setup, dtype)
    }

    /// Puts mixture and head around a trunk. A head that the weights already hold in the right shape is read.
    pub fn new(mut encoder: Encoder, weights: Option<&Weights>, setup: &Setup<'_>, dtype: DType) -> Result<Self> {
        let (spec, device, dtype) = (encoder.spec().clone(), encoder.device().clone(), wide(dtype));
        let mut stream = setup.seed.stream(Purpose::Init, 0);
        let mut head = Head::new(&spec, weights, setup.outputs, &mut stream, dtype, &device)?;
        let mut params = Params::default();
        let adamix = setup.method == Method::Adamix;
        if setup.method == Method::Full {
            encoder.train_trunk(&mut params);
        }
        if adamix {
            let m = setup.mixture;
            let (d, r) = (spec.hidden_size, m.adapter_size);
            for (i, layer) in encoder.layers_mut().iter_mut().enumerate() {
                let mut stream = setup.seed.stream(Purpose::Init, 1 + i as u64);
                let down = new_bank(&mut stream, [m.down_experts(), r, d], m.init_std, false, dtype, &device)?;
                let identity = m.init == AdapterInit::Identity;
                let up = new_bank(&mut stream, [m.up_experts(), d, r], m.init_std, identity, dtype, &device)?;
                let mut mixture = AdapterMixture::new(down, up, act_of(m.activation));
                mixture.train(&site_name(i), &mut params)?;
                layer.adapter = FfnAdapter::Mixture(mixture);
            }
        }
        head.train(setup.method == Method::Full, &mut params);
        Ok(Self { encoder, head, params, mixture: adamix.then(|| setup.mixture.clone()) })
    }

    /// The trunk with its layers.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }
    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }
    /// All trained tensors, in a fixed order. Empty for a merged model.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The mixture's settings, if this is an unmerged mixture.
    pub fn mixture(&self) -> Option<&MixtureConfig> {
        self.mixture.as_ref()
    }
    /// The mixtures in site order; empty when merged or without a mixture.
    pub fn sites(&self) -> Vec<&AdapterMixture> {
        self.encoder
            .layers()
            .iter()
            .filter_map(|layer| if let FfnAdapter::Mixture(m) = &layer.adapter { Some(m) } else { None })
            .collect()
    }
    /// Names of the sites, in order.
    pub fn site_names(&self) -> Vec<String> {
        (0..self.sites().len()).map(site_name).collect()
    }
    /// The merged adapters in site order; empty when not merged.
    pub fn adapters(&self) -> Vec<&Adapter> {
        self.encoder
            .layers()
            .iter()
            .filter_map(|layer| if let FfnAdapter::Merged(a) = &layer.adapter { Some(a) } else { None })
            .collect()
    }

    /// Logits of a batch run `run.passes` times as one. -> `[passes * sequences, outputs]`, and what backward needs
    pub fn forward(&self, batch: &Batch, run: Run<'_>) -> Result<(Tensor, Option<ClassifierTrace>)> {
        let (x, trace) = self.encoder.forward(batch, Run { all_tokens: false, ..run })?;
        let (logits, head) = timed(Phase::Head, || self.head.forward(&x, run.drop))?;
        Ok((logits, trace.map(|encoder| ClassifierTrace { encoder, head })))
    }

    /// Gradients of all trained tensors. dlogits as forward's output
    pub fn backward(&self, trace: ClassifierTrace, dlogits: &Tensor) -> Result<Grads> {
        let mut grads = Grads::new(&self.params);
        let dx = timed(Phase::Head, || self.head.backward(&trace.head, dlogits, &mut grads))?;
        self.encoder.backward(trace.encoder, dx, &mut grads)?;
        Ok(grads)
    }

    /// Logits as host values, without dropout. Row-major `[sequences * outputs]`
    pub fn logits(&self, batch: &Batch, route: Option<&Route>) -> Result<Vec<f32>> {
        let (logits, _) = self.forward(batch, Run { route, ..Run::eval() })?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// The same model with each site's experts replaced by their weighted mean. Without a mixture: a copy.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn merged(&self, weights: &MergeWeights) -> Result<Self> {
        let mut merged = self.clone();
        if let Some(mixture) = &self.mixture {
            weights.check(self.sites().len(), mixture.num_experts)?;
        }
        for (site, layer) in merged.encoder.layers_mut().iter_mut().enumerate() {
            if let FfnAdapter::Mixture(mixture) = &layer.adapter {
                layer.adapter = FfnAdapter::Merged(mixture.merge_site(weights, site)?);
            }
        }
        merged.params = Params::default();
        merged.mixture = None;
        Ok(merged)
    }

    /// The uniform merge: the paper's.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn merged_uniform(&self) -> Result<Self> {
        self.merged(&MergeWeights::uniform(self.mixture.as_ref().map_or(1, |m| m.num_experts)))
    }

    /// The same model with the given single adapters in its sites, in order: what a reader of an export builds.
    pub fn with_adapters(&self, adapters: Vec<Adapter>) -> Result<Self> {
        let layers = self.encoder.layers().len();
        if adapters.len() != layers {
            return Err(Error::format(format!("{} adapters for a model of {layers} layers", adapters.len())));
        }
        let mut model = self.clone();
        for (layer, adapter) in model.encoder.layers_mut().iter_mut().zip(adapters) {
            layer.adapter = FfnAdapter::Merged(adapter);
        }
        model.params = Params::default();
        model.mixture = None;
        Ok(model)
    }

    /// Trained values, of these the head's, and the adapter's values after merging.
    pub fn counts(&self) -> Counts {
        let head = |name: &str| name.starts_with("classifier") || name.starts_with("pooler");
        let head_parameters = self.params.iter().filter(|p| head(&p.name)).map(|p| p.value.elem_count()).sum();
        let merged = self.params.iter().filter(|p| p.bank).map(|p| p.value.elem_count() / p.experts).sum();
        Counts { trained: self.params.count(), head: head_parameters, merged, trunk: self.encoder.parameter_count() }
    }

    /// Overwrites trained tensors with host values by name, such as a checkpoint's. Every trained tensor must be there.
    pub fn set_params<'a>(&self, values: impl Fn(&str) -> Option<(&'a [usize], &'a [f32])>) -> Result<()> {
        for param in self.params.iter() {
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

    /// Keys for the dropout of training micro-batch number `index`.
    pub fn drop_keys(seed: SeedStream, index: u64) -> DropKeys {
        DropKeys::new(seed, index)
    }
}

/// Values by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All trained values.
    pub trained: usize,
    /// Of these, the head's.
    pub head: usize,
    /// The adapter's after merging, without the head.
    pub merged: usize,
    /// The frozen trunk's.
    pub trunk: usize,
}

/// Stable name of a site.
pub fn site_name(layer: usize) -> String {
    format!("layers.{layer}.ffn")
}
