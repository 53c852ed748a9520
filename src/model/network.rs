//! A base model with a mixture in its layers: what classifiers and language models have in common.

use super::layer::FfnAdapter;
use super::loras::{self, LayerLoras, Module, Placed, Target};
use crate::config::{self, MixtureConfig, MixtureKind};
use crate::error::{Error, Result};
use crate::mixture::{Adapter, AdapterMixture, Bank, Lora, LoraMixture, MergeWeights, Side, init};
use crate::nn::{Act, Linear, Params};
use crate::rng::SeedStream;
use candle_core::{DType, Device, Tensor};

/// A stack of layers that can carry adapters and LoRA.
pub trait BaseModel: Clone {
    /// One layer.
    type Layer: AdaptableLayer;
    /// The layers, bottom first.
    fn stack(&self) -> &[Self::Layer];
    /// The same, to be changed.
    fn stack_mut(&mut self) -> &mut [Self::Layer];
    /// d: width of a hidden state.
    fn width(&self) -> usize;
    /// The device the weights are on.
    fn place(&self) -> &Device;
    /// The format of the matrices.
    fn matrix_dtype(&self) -> DType;
    /// Values of all weights.
    fn weights(&self) -> usize;
}

/// A layer that can carry an adapter and LoRA.
pub trait AdaptableLayer {
    /// What it carries: the adapter behind its feed-forward block, and LoRA on its linear layers.
    fn modules(&self) -> (&FfnAdapter, &LayerLoras);
    /// The same, to be changed.
    fn parts_mut(&mut self) -> LayerParts<'_>;
}

/// The parts of a layer that adaptation changes.
pub struct LayerParts<'a> {
    /// Behind the feed-forward block.
    pub adapter: &'a mut FfnAdapter,
    /// On the linear layers.
    pub loras: &'a mut LayerLoras,
    /// In the order of their slots.
    pub linears: [&'a mut Linear; 4],
}

/// A base model with its mixture and its head, if that is apart. Cloning shares all tensors.
#[derive(Clone, Debug)]
pub struct AdaptedModel<B, H = ()> {
    pub(super) base: B,
    pub(super) head: H,
    pub(super) params: Params,
    pub(super) mixture: Option<MixtureConfig>,
}

/// A model of either kind.
pub trait Network {
    /// All trained tensors, in a fixed order. Empty for a merged model.
    fn params(&self) -> &Params;
    /// The mixture's settings, if this is an unmerged mixture.
    fn mixture(&self) -> Option<&MixtureConfig>;
    /// The mixtures in order; empty when merged or without a mixture.
    fn sites(&self) -> Vec<Site<'_>>;
    /// Names of the adapted modules, in order.
    fn site_names(&self) -> Vec<String>;
    /// The merged adapters in order; empty when not merged.
    fn adapters(&self) -> Vec<&Adapter>;
    /// The LoRA modules of every layer, merged or not, with their names; empty without any.
    fn loras(&self) -> Vec<(String, &Placed)>;
    /// Values by role.
    fn counts(&self) -> Counts;
    /// The device the weights are on.
    fn device(&self) -> &Device;
    /// The format of the base model's matrices.
    fn dtype(&self) -> DType;
}

/// The mixture of an adapted module, of either kind.
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

/// Values by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All trained values.
    pub trained: usize,
    /// Of these, the head's.
    pub head: usize,
    /// The adapter's after merging, without the head.
    pub merged: usize,
    /// The frozen base model's.
    pub base: usize,
}

impl<B: BaseModel, H: Clone> AdaptedModel<B, H> {
    /// All trained tensors, in a fixed order. Empty for a merged model.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The mixture's settings, if this is an unmerged mixture.
    pub fn mixture(&self) -> Option<&MixtureConfig> {
        self.mixture.as_ref()
    }
    /// What each layer carries, bottom first.
    fn modules(&self) -> impl Iterator<Item = (&FfnAdapter, &LayerLoras)> {
        self.base.stack().iter().map(AdaptableLayer::modules)
    }
    /// The mixtures in order; empty when merged or without a mixture.
    pub fn sites(&self) -> Vec<Site<'_>> {
        let of = self.modules().flat_map(|(adapter, loras)| {
            let own = if let FfnAdapter::Mixture(mixture) = adapter { Some(Site::Adapter(mixture)) } else { None };
            own.into_iter().chain(loras.mixtures().map(Site::Lora))
        });
        of.collect()
    }
    /// Names of the adapted modules, in order.
    pub fn site_names(&self) -> Vec<String> {
        let of = self.modules().enumerate().flat_map(|(i, (adapter, loras))| {
            let own = matches!(adapter, FfnAdapter::Mixture(_)).then(|| adapter_name(i));
            let mixtures = loras.iter().filter(|(_, placed)| matches!(placed.module, Module::Mixture(_)));
            own.into_iter().chain(mixtures.map(move |(_, placed)| lora_name(i, &placed.path)))
        });
        of.collect()
    }
    /// The merged adapters in order; empty when not merged.
    pub fn adapters(&self) -> Vec<&Adapter> {
        self.modules()
            .filter_map(|(adapter, _)| if let FfnAdapter::Merged(adapter) = adapter { Some(adapter) } else { None })
            .collect()
    }
    /// The LoRA modules of every layer, merged or not, with their names; empty without any.
    pub fn loras(&self) -> Vec<(String, &Placed)> {
        let layers = self.modules().enumerate();
        layers
            .flat_map(|(i, (_, loras))| loras.iter().map(move |(_, placed)| (lora_name(i, &placed.path), placed)))
            .collect()
    }

    /// Values by role.
    pub fn counts(&self) -> Counts {
        let head = |name: &str| name.starts_with("classifier") || name.starts_with("pooler");
        Counts {
            trained: self.params.count(),
            head: self.params.iter().filter(|p| head(&p.name)).map(|p| p.value.elem_count()).sum(),
            merged: self.params.iter().filter(|p| p.bank).map(|p| p.value.elem_count() / p.experts).sum(),
            base: self.base.weights(),
        }
    }

    /// The same model with the experts of each adapted module replaced by their weighted mean, factor by factor. Without a
    /// mixture: a copy.
    pub fn merged(&self, weights: &MergeWeights) -> Result<Self> {
        if let Some(mixture) = &self.mixture {
            weights.check(self.sites().len(), mixture.num_experts)?;
        }
        self.replaced(weights, |site, mixture| mixture.merge(weights.site(site)?))
    }

    /// The uniform merge: the paper's.
    pub fn merged_uniform(&self) -> Result<Self> {
        self.merged(&self.uniform())
    }

    /// Merged as the mixture itself says: the paper's mean, or the scores that it was imported with.
    pub fn merged_own(&self) -> Result<Self> {
        self.merged(&MergeWeights::own(self.mixture.as_ref())?)
    }

    /// The same model with the experts of each LoRA module replaced by what `merge` makes of them (number of the module,
    /// experts): another average than the paper's, or one expert. Adapters are merged uniformly.
    pub fn with_loras(&self, merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<Self> {
        self.replaced(&self.uniform(), merge)
    }

    fn uniform(&self) -> MergeWeights {
        MergeWeights::uniform(self.mixture.as_ref().map_or(1, |m| m.num_experts))
    }

    fn replaced(
        &self,
        weights: &MergeWeights,
        mut merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Self> {
        let mut model = self.frozen();
        for (site, layer) in model.base.stack_mut().iter_mut().enumerate() {
            let LayerParts { adapter, loras, .. } = layer.parts_mut();
            if let FfnAdapter::Mixture(mixture) = adapter {
                *adapter = FfnAdapter::Merged(mixture.merge(weights.site(site)?)?);
            }
            loras.replace(&mut merge)?;
        }
        Ok(model)
    }

    /// The same model without trained tensors and mixture settings; the layers are unchanged.
    fn frozen(&self) -> Self {
        Self { params: Params::default(), mixture: None, ..self.clone() }
    }

    /// The same model without its mixture: the frozen base model alone.
    pub fn bare(&self) -> Self {
        let mut model = self.frozen();
        for layer in model.base.stack_mut() {
            let LayerParts { adapter, loras, .. } = layer.parts_mut();
            (*adapter, *loras) = (FfnAdapter::None, LayerLoras::default());
        }
        model
    }

    /// The same merged model with every LoRA added to the weights themselves: a plain base model again.
    pub fn with_folded_loras(&self) -> Result<Self> {
        let mut model = self.clone();
        for layer in model.base.stack_mut() {
            let LayerParts { loras, linears, .. } = layer.parts_mut();
            loras.fold(linears)?;
        }
        Ok(model)
    }

    /// The same model with the given single adapters in its layers, in order: what a reader of an export builds.
    pub fn with_adapters(&self, adapters: Vec<Adapter>) -> Result<Self> {
        let layers = self.base.stack().len();
        if adapters.len() != layers {
            return Err(Error::format(format!("{} adapters for a model of {layers} layers", adapters.len())));
        }
        let mut model = self.frozen();
        for (layer, adapter) in model.base.stack_mut().iter_mut().zip(adapters) {
            *layer.parts_mut().adapter = FfnAdapter::Merged(adapter);
        }
        Ok(model)
    }

    /// Overwrites trained tensors with host values by name, such as a checkpoint's. Every trained tensor must be there.
    pub fn set_params<'a>(&self, values: impl Fn(&str) -> Option<(&'a [usize], &'a [f32])>) -> Result<()> {
        overwrite(&self.params, values)
    }
}

impl<B: BaseModel, H: Clone> Network for AdaptedModel<B, H> {
    fn params(&self) -> &Params {
        self.params()
    }
    fn mixture(&self) -> Option<&MixtureConfig> {
        self.mixture()
    }
    fn sites(&self) -> Vec<Site<'_>> {
        self.sites()
    }
    fn site_names(&self) -> Vec<String> {
        self.site_names()
    }
    fn adapters(&self) -> Vec<&Adapter> {
        self.adapters()
    }
    fn loras(&self) -> Vec<(String, &Placed)> {
        self.loras()
    }
    fn counts(&self) -> Counts {
        self.counts()
    }
    fn device(&self) -> &Device {
        self.base.place()
    }
    fn dtype(&self) -> DType {
        self.base.matrix_dtype()
    }
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

/// Puts trained mixtures into a base model.
pub(super) struct MixtureBuilder<'a> {
    pub mixture: &'a MixtureConfig,
    pub seed: SeedStream,
    pub dtype: DType,
}

impl MixtureBuilder<'_> {
    /// Into every layer an adapter, or a LoRA on each target that the settings name. `default`: the targets of an empty
    /// setting.
    pub fn fill<B: BaseModel>(
        &self,
        base: &mut B,
        targets: Vec<Target>,
        default: &[&str],
        params: &mut Params,
    ) -> Result<()> {
        let (m, d, device) = (self.mixture, base.width(), base.place().clone());
        let targets = match m.kind {
            MixtureKind::Adapter => Vec::new(),
            MixtureKind::Lora => loras::select(targets, &m.lora_target, default)?,
        };
        let tensor = |values: Vec<f32>, shape: [usize; 3]| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, &shape, &device)?.to_dtype(self.dtype)?)
        };
        for (i, layer) in base.stack_mut().iter_mut().enumerate() {
            let LayerParts { adapter, loras, .. } = layer.parts_mut();
            if m.kind == MixtureKind::Adapter {
                let (name, r) = (adapter_name(i), m.adapter_size);
                let shapes = [[m.down_experts(), r, d], [m.up_experts(), d, r]];
                let bank = |values: Vec<f32>, shape: [usize; 3]| -> Result<Bank> {
                    Bank::new(tensor(values, shape)?, Tensor::zeros((shape[0], shape[1]), self.dtype, &device)?)
                };
                let [down, up] = init::start(m, self.seed, (i, &name), shapes);
                let mut mixture =
                    AdapterMixture::new(bank(down, shapes[0])?, bank(up, shapes[1])?, act_of(m.activation));
                mixture.train(&name, params)?;
                *adapter = FfnAdapter::Mixture(mixture);
            }
            for (t, target) in targets.iter().enumerate() {
                let (site, name) = (i * targets.len() + t, lora_name(i, &target.path));
                let bank = |values: Vec<f32>, shape: [usize; 3]| Bank::without_bias(tensor(values, shape)?);
                let start = |shapes: [[usize; 3]; 2]| init::start(m, self.seed, (site, &name), shapes);
                let mut mixture = loras::mixture_of(m, target, bank, start)?;
                mixture.train(&name, params)?;
                loras.push(target.slot, Placed { site, path: target.path.clone(), module: Module::Mixture(mixture) });
            }
        }
        Ok(())
    }
}

/// Stable name of a LoRA module.
fn lora_name(layer: usize, path: &str) -> String {
    format!("layers.{layer}.{path}")
}

/// Stable name of an adapter.
fn adapter_name(layer: usize) -> String {
    format!("layers.{layer}.ffn")
}

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
