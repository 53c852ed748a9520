//! Encoder, mixture and head together: what is trained, evaluated, merged and exported.

use super::encoder::{self, Encoder, EncoderActivations};
use super::head::{self, Head};
use super::layer::FfnAdapter;
use super::loras::{self, LayerLoras, Module, Placed, Target};
use super::network::overwrite;
use super::spec::EncoderSpec;
use super::stack::ForwardOptions;
use super::weights::Weights;
use crate::config::{self, Method, MixtureConfig, MixtureKind};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::mixture::{Adapter, AdapterMixture, Bank, Lora, LoraMixture, MergeWeights, Route, Side, init};
use crate::nn::kernels::device::wide;
use crate::nn::profile::{Phase, timed};
use crate::nn::{Act, Grads, Params};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::to_f32;
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
pub struct ClassifierActivations {
    encoder: EncoderActivations,
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

/// A mixture at a site, of either kind.
#[derive(Clone, Copy, Debug)]
pub enum Site<'a> {
    /// Adapters.
    Adapter(&'a AdapterMixture),
    /// LoRA.
    Lora(&'a LoraMixture),
}

impl<'a> Site<'a> {
    /// The bank of one side.
    pub fn bank(&self, side: Side) -> &'a Bank {
        match self {
            Self::Adapter(mixture) => mixture.bank(side),
            Self::Lora(mixture) => mixture.bank(side),
        }
    }
}

/// The mixtures of one layer in site order.
pub(super) fn layer_sites<'a>(adapter: &'a FfnAdapter, loras: &'a LayerLoras) -> Vec<Site<'a>> {
    let own = if let FfnAdapter::Mixture(mixture) = adapter { Some(Site::Adapter(mixture)) } else { None };
    own.into_iter().chain(loras.mixtures().map(Site::Lora)).collect()
}

/// Their names.
pub(super) fn layer_site_names(layer: usize, adapter: &FfnAdapter, loras: &LayerLoras) -> Vec<String> {
    let own = matches!(adapter, FfnAdapter::Mixture(_)).then(|| site_name(layer));
    let mixtures = loras.iter().filter(|(_, placed)| matches!(placed.module, Module::Mixture(_)));
    own.into_iter().chain(mixtures.map(|(_, placed)| lora_name(layer, placed))).collect()
}

/// Makes the mixtures of a model's layers.
pub(super) struct Builder<'a> {
    pub mixture: &'a MixtureConfig,
    pub seed: SeedStream,
    pub dtype: DType,
    pub device: &'a Device,
}

impl Builder<'_> {
    /// The LoRA targets the settings name; none for adapters.
    pub fn targets(&self, all: Vec<Target>, default: &[&str]) -> Result<Vec<Target>> {
        match self.mixture.kind {
            MixtureKind::Adapter => Ok(Vec::new()),
            MixtureKind::Lora => loras::select(all, &self.mixture.lora_target, default),
        }
    }

    /// Puts trained mixtures into layer number `layer` of width `d`: an adapter, or a LoRA on each target.
    pub fn fill(
        &self,
        layer: usize,
        d: usize,
        targets: &[Target],
        (adapter, loras): (&mut FfnAdapter, &mut LayerLoras),
        params: &mut Params,
    ) -> Result<()> {
        let m = self.mixture;
        let tensor = |values: Vec<f32>, shape: [usize; 3]| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, &shape, self.device)?.to_dtype(self.dtype)?)
        };
        if m.kind == MixtureKind::Adapter {
            let (name, r) = (site_name(layer), m.adapter_size);
            let shapes = [[m.down_experts(), r, d], [m.up_experts(), d, r]];
            let bank = |values: Vec<f32>, shape: [usize; 3]| -> Result<Bank> {
                Bank::new(tensor(values, shape)?, Tensor::zeros((shape[0], shape[1]), self.dtype, self.device)?)
            };
            let [down, up] = init::start(m, self.seed, (layer, &name), shapes);
            let mut mixture = AdapterMixture::new(bank(down, shapes[0])?, bank(up, shapes[1])?, act_of(m.activation));
            mixture.train(&name, params)?;
            *adapter = FfnAdapter::Mixture(mixture);
        }
        for (i, target) in targets.iter().enumerate() {
            let (site, name) = (layer * targets.len() + i, format!("layers.{layer}.{}", target.path));
            let bank = |values: Vec<f32>, shape: [usize; 3]| Bank::without_bias(tensor(values, shape)?);
            let start = |shapes: [[usize; 3]; 2]| init::start(m, self.seed, (site, &name), shapes);
            let mut mixture = loras::mixture_of(m, target, bank, start)?;
            mixture.train(&name, params)?;
            loras.push(target.slot, Placed { site, path: target.path.clone(), module: Module::Mixture(mixture) });
        }
        Ok(())
    }
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
            let builder = Builder { mixture: setup.mixture, seed: setup.seed, dtype, device: &device };
            let targets = builder.targets(encoder::lora_targets(&spec), &encoder::DEFAULT_TARGETS)?;
            for (i, layer) in encoder.layers_mut().iter_mut().enumerate() {
                let parts = (&mut layer.adapter, &mut layer.loras);
                builder.fill(i, spec.hidden_size, &targets, parts, &mut params)?;
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
    pub fn sites(&self) -> Vec<Site<'_>> {
        self.encoder.layers().iter().flat_map(|layer| layer_sites(&layer.adapter, &layer.loras)).collect()
    }
    /// Names of the sites, in order.
    pub fn site_names(&self) -> Vec<String> {
        let layers = self.encoder.layers().iter().enumerate();
        layers.flat_map(|(i, layer)| layer_site_names(i, &layer.adapter, &layer.loras)).collect()
    }
    /// The LoRA modules of every layer, merged or not, with their site names; empty without any.
    pub fn loras(&self) -> Vec<(String, &Placed)> {
        let layers = self.encoder.layers().iter().enumerate();
        layers
            .flat_map(|(i, layer)| layer.loras.iter().map(move |(_, placed)| (lora_name(i, placed), placed)))
            .collect()
    }
    /// The merged adapters in site order; empty when not merged.
    pub fn adapters(&self) -> Vec<&Adapter> {
        self.encoder
            .layers()
            .iter()
            .filter_map(|layer| if let FfnAdapter::Merged(a) = &layer.adapter { Some(a) } else { None })
            .collect()
    }

    /// Logits of a batch run `options.passes` times as one. -> `[passes * sequences, outputs]`, and what backward needs
    pub fn forward(
        &self,
        batch: &Batch,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor, Option<ClassifierActivations>)> {
        let (x, encoder) = self.encoder.forward(batch, ForwardOptions { all_tokens: false, ..options })?;
        let (logits, head) = timed(Phase::Head, || self.head.forward(&x, options.drop))?;
        Ok((logits, encoder.map(|encoder| ClassifierActivations { encoder, head })))
    }

    /// Gradients of all trained tensors. dlogits as forward's output
    pub fn backward(&self, activations: ClassifierActivations, dlogits: &Tensor) -> Result<Grads> {
        let mut grads = Grads::new(&self.params);
        let dx = timed(Phase::Head, || self.head.backward(&activations.head, dlogits, &mut grads))?;
        self.encoder.backward(activations.encoder, dx, &mut grads)?;
        Ok(grads)
    }

    /// Logits as host values, without dropout. Row-major `[sequences * outputs]`
    pub fn logits(&self, batch: &Batch, route: Option<&Route>) -> Result<Vec<f32>> {
        let (logits, _) = self.forward(batch, ForwardOptions { route, ..ForwardOptions::eval() })?;
        to_f32(&logits)
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
                layer.adapter = FfnAdapter::Merged(mixture.merge(weights.site(site)?)?);
            }
            layer.loras.merge(weights)?;
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

    /// The same model with each LoRA site's experts replaced by what `merge` makes of them (site number, experts): another
    /// average than the paper's, or one expert.
    pub fn with_loras(&self, mut merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<Self> {
        let mut model = self.clone();
        for layer in model.encoder.layers_mut() {
            layer.loras.replace(&mut merge)?;
        }
        model.params = Params::default();
        model.mixture = None;
        Ok(model)
    }

    /// The same merged model with every LoRA added to the weights themselves: a plain encoder again.
    pub fn with_folded_loras(&self) -> Result<Self> {
        let mut model = self.clone();
        for layer in model.encoder.layers_mut() {
            let linears = [&mut layer.qkv, &mut layer.attention_out, &mut layer.inner, &mut layer.outer];
            layer.loras.fold(linears)?;
        }
        Ok(model)
    }

    /// The same model with a changed trunk, such as one with LoRA modules on it.
    pub fn with_trunk(&self, change: impl FnOnce(&mut Encoder) -> Result<()>) -> Result<Self> {
        let mut model = self.clone();
        change(&mut model.encoder)?;
        Ok(model)
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
        overwrite(&self.params, values)
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

/// Stable name of a LoRA site.
pub(super) fn lora_name(layer: usize, placed: &Placed) -> String {
    format!("layers.{layer}.{}", placed.path)
}

/// Stable name of an adapter's site.
pub fn site_name(layer: usize) -> String {
    format!("layers.{layer}.ffn")
}
