//! A base model with a mixture in its layers: what classifiers and language models have in common.

use super::loras::{self, AdaptedLinear, Module, Placed, Slot, Target};
use crate::config::{self, MixtureConfig, MixtureKind, lora_scaling};
use crate::error::{Error, Result};
use crate::mixture::{
    Adapter, AdapterMixture, Bank, Lora, LoraMixture, MergeWeights, MergedModule, Route, RowMap, Side, adapter, init,
};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Act, Grads, Linear, Params};
use crate::rng::SeedStream;
use crate::tensor::{DType, Device, Tensor};
use std::cell::RefCell;
use std::ops::Range;

/// A stack of layers that can carry adapters and LoRA.
pub trait BaseModel: Clone {
    /// What can be adapted in each layer, bottom first.
    fn modules(&self) -> impl Iterator<Item = &LayerModules>;
    /// The same, to be changed.
    fn modules_mut(&mut self) -> impl Iterator<Item = &mut LayerModules>;
    /// d: width of a hidden state.
    fn hidden_size(&self) -> usize;
    /// The device the weights are on.
    fn device(&self) -> &Device;
    /// The format of the matrices.
    fn matrix_dtype(&self) -> DType;
    /// Values of all weights.
    fn parameter_count(&self) -> usize;
    /// Whether its own weights are trained.
    fn base_trained(&self) -> bool;
}

/// What sits after the feed-forward block.
#[derive(Clone, Debug)]
pub enum FfnAdapter {
    /// Nothing: the untouched base model.
    None,
    /// Experts, routed.
    Mixture(AdapterMixture),
    /// One adapter, merged.
    Merged(Adapter),
}

impl FfnAdapter {
    /// What goes on after the feed-forward block, and what backward needs. `route`: with the number of this module. h `[rows, d]`
    pub fn forward(
        &self,
        h: Tensor,
        route: Option<(&Route, usize)>,
        rows: &RowMap,
    ) -> Result<(Tensor, Option<adapter::Saved>)> {
        let _phase = scope(Phase::Adapters);
        match (self, route) {
            (Self::None, _) => Ok((h, None)),
            (Self::Merged(adapter), _) => Ok((adapter.forward(&h, rows)?, None)),
            (Self::Mixture(mixture), Some((route, site))) => {
                let (h, saved) = mixture.forward(&h, route, site, rows)?;
                Ok((h, Some(saved)))
            }
            (Self::Mixture(_), None) => Err(Error::internal("a mixture was run without a route")),
        }
    }

    /// Adds the gradients of the experts that ran; gives the gradient of h, unless nothing is trained `below`. dh `[rows, d]`
    pub fn backward(
        &self,
        saved: Option<&adapter::Saved>,
        dh: Tensor,
        below: bool,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        match (self, saved) {
            (Self::Mixture(mixture), Some(saved)) => {
                timed(Phase::Adapters, || mixture.backward(saved, &dh, below, grads))
            }
            _ => Ok(below.then_some(dh)),
        }
    }
}

/// What can be adapted in one layer: the linear layers, and the place behind the feed-forward block.
#[derive(Clone, Debug)]
pub struct LayerModules {
    /// In the order of [`Slot::ALL`].
    pub linears: [AdaptedLinear; 4],
    /// Behind the feed-forward block.
    pub adapter: FfnAdapter,
}

impl LayerModules {
    /// Of a base model without any module. `linears`: in the order of [`Slot::ALL`].
    pub fn new(linears: [Linear; 4]) -> Self {
        Self { linears: linears.map(|linear| AdaptedLinear { linear, loras: Vec::new() }), adapter: FfnAdapter::None }
    }

    /// Takes all modules away.
    fn empty(&mut self) {
        self.adapter = FfnAdapter::None;
        self.linears.iter_mut().for_each(|linear| linear.loras.clear());
    }

    /// All LoRA modules in the order they run.
    pub fn loras(&self) -> impl Iterator<Item = (Slot, &Placed)> {
        let slots = Slot::ALL.into_iter().zip(&self.linears);
        slots.flat_map(|(slot, linear)| linear.loras.iter().map(move |placed| (slot, placed)))
    }

    /// The lowest linear layer with a mixture of LoRA: of a frozen layer nothing below it needs a gradient.
    pub fn lowest_lora(&self) -> Option<Slot> {
        Slot::ALL.into_iter().find(|&slot| self.linears[slot as usize].has_mixture())
    }

    /// Whether there is a mixture of either kind.
    pub fn has_mixture(&self) -> bool {
        matches!(self.adapter, FfnAdapter::Mixture(_)) || self.lowest_lora().is_some()
    }
}

/// A base model with its mixture and its head, if that is apart. Cloning shares all tensors.
#[derive(Clone, Debug)]
pub struct AdaptedModel<B, H = ()> {
    /// The base model with its layers.
    pub base: B,
    /// A classifier's head; that of a language model belongs to its base model.
    pub head: H,
    pub(super) params: Params,
    pub(super) mixture: Option<MixtureConfig>,
}

/// A model of either kind.
pub trait Network {
    /// All trained tensors, in a fixed order. Empty for a merged model.
    fn params(&self) -> &Params;
    /// The mixture's settings, if this is an unmerged mixture.
    fn mixture(&self) -> Option<&MixtureConfig>;
    /// What each layer carries, bottom first.
    fn layer_modules(&self) -> Vec<&LayerModules>;
    /// Values by role.
    fn counts(&self) -> Counts;
    /// The device the weights are on.
    fn device(&self) -> &Device;
    /// The format of the base model's matrices.
    fn dtype(&self) -> DType;
    /// The same model with the experts of each adapted module replaced by their weighted mean, factor by factor. Without a
    /// mixture: a copy.
    fn merged(&self, weights: &MergeWeights) -> Result<Self>
    where
        Self: Sized;

    /// The same model with each adapted module replaced by one of the matrices that `of` makes of the banks of its experts: of
    /// module number, side and bank a bank of one expert. Without a mixture: a copy.
    fn with_banks(&self, of: &mut dyn FnMut(usize, Side, &Bank) -> Result<Bank>) -> Result<Self>
    where
        Self: Sized;

    /// The same model with the experts of each adapted module replaced by one module, in the order of [`Network::sites`].
    fn with_modules(&self, modules: &[MergedModule]) -> Result<Self>
    where
        Self: Sized;

    /// The same mixture with its experts moved from their mean by a factor: 1 leaves them as they are, 0 makes them all their
    /// mean. The uniform merge stays the same. Nothing is trained.
    fn spread(&self, alpha: f64) -> Result<Self>
    where
        Self: Sized;

    /// The same model without the modules of one layer, which then computes what the base model does. Nothing is trained.
    fn without_layer(&self, layer: usize) -> Self
    where
        Self: Sized;

    /// The mixtures in order; empty when merged or without a mixture.
    fn sites(&self) -> Vec<Site<'_>> {
        let of = self.layer_modules().into_iter().flat_map(|layer| {
            let own =
                if let FfnAdapter::Mixture(mixture) = &layer.adapter { Some(Site::Adapter(mixture)) } else { None };
            own.into_iter().chain(layer.linears.iter().flat_map(AdaptedLinear::mixtures).map(Site::Lora))
        });
        of.collect()
    }

    /// Names of the adapted modules, in order.
    fn site_names(&self) -> Vec<String> {
        let of = self.layer_modules().into_iter().enumerate().flat_map(|(i, layer)| {
            let own = matches!(layer.adapter, FfnAdapter::Mixture(_)).then(|| adapter_name(i));
            let mixtures = layer.loras().filter(|(_, placed)| matches!(placed.module, Module::Mixture(_)));
            own.into_iter().chain(mixtures.map(move |(_, placed)| lora_name(i, &placed.path)))
        });
        of.collect()
    }

    /// The merged adapters in order; empty when not merged.
    fn adapters(&self) -> Vec<&Adapter> {
        let layers = self.layer_modules().into_iter();
        layers
            .filter_map(|layer| if let FfnAdapter::Merged(adapter) = &layer.adapter { Some(adapter) } else { None })
            .collect()
    }

    /// The LoRA modules of every layer, merged or not, with their names; empty without any.
    fn loras(&self) -> Vec<(String, &Placed)> {
        let layers = self.layer_modules().into_iter().enumerate();
        layers
            .flat_map(|(i, layer)| layer.loras().map(move |(_, placed)| (lora_name(i, &placed.path), placed)))
            .collect()
    }
}

/// The mixture of an adapted module (*site* in names; see [`crate::mixture`]), of either kind.
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

impl<B: BaseModel, H: Clone> Network for AdaptedModel<B, H> {
    fn params(&self) -> &Params {
        &self.params
    }
    fn mixture(&self) -> Option<&MixtureConfig> {
        self.mixture.as_ref()
    }
    fn layer_modules(&self) -> Vec<&LayerModules> {
        self.base.modules().collect()
    }
    fn counts(&self) -> Counts {
        let head = |name: &str| name.starts_with("classifier") || name.starts_with("pooler");
        Counts {
            trained: self.params.count(),
            head: self.params.iter().filter(|p| head(&p.name)).map(|p| p.value.elem_count()).sum(),
            merged: self.params.iter().filter(|p| p.bank).map(|p| p.value.elem_count() / p.experts).sum(),
            base: self.base.parameter_count(),
        }
    }
    fn device(&self) -> &Device {
        self.base.device()
    }
    fn dtype(&self) -> DType {
        self.base.matrix_dtype()
    }
    fn merged(&self, weights: &MergeWeights) -> Result<Self> {
        if let Some(mixture) = &self.mixture {
            weights.check(self.sites().len(), mixture.num_experts)?;
        }
        self.with_banks(&mut |site, _, bank| bank.mean(weights.site(site)?))
    }
    fn with_banks(&self, of: &mut dyn FnMut(usize, Side, &Bank) -> Result<Bank>) -> Result<Self> {
        // One of the two closures runs at a time.
        let of = RefCell::new(of);
        self.replaced(
            |site, mixture| mixture.with(&mut |side, bank| (of.borrow_mut())(site, side, bank)),
            |site, mixture| mixture.with(&mut |side, bank| (of.borrow_mut())(site, side, bank)),
        )
    }
    fn with_modules(&self, modules: &[MergedModule]) -> Result<Self> {
        let other = |site: usize| Error::internal(format!("there is no such merged module for site {site}"));
        self.replaced(
            |site, _| {
                if let Some(MergedModule::Adapter(one)) = modules.get(site) {
                    Ok(one.clone())
                } else {
                    Err(other(site))
                }
            },
            |site, _| {
                if let Some(MergedModule::Lora(one)) = modules.get(site) { Ok(one.clone()) } else { Err(other(site)) }
            },
        )
    }
    fn spread(&self, alpha: f64) -> Result<Self> {
        let mut model = Self { params: Params::default(), ..self.clone() };
        for layer in model.base.modules_mut() {
            if let FfnAdapter::Mixture(mixture) = &layer.adapter {
                layer.adapter = FfnAdapter::Mixture(mixture.spread(alpha)?);
            }
            for placed in layer.linears.iter_mut().flat_map(|linear| &mut linear.loras) {
                if let Module::Mixture(mixture) = &placed.module {
                    placed.module = Module::Mixture(mixture.spread(alpha)?);
                }
            }
        }
        Ok(model)
    }
    fn without_layer(&self, layer: usize) -> Self {
        let mut model = self.frozen();
        for modules in model.base.modules_mut().skip(layer).take(1) {
            modules.empty();
        }
        model
    }
}

impl<B: BaseModel, H: Clone> AdaptedModel<B, H> {
    /// Merged as the mixture itself says: the paper's mean, or the scores that it was imported with.
    pub fn merged_own(&self) -> Result<Self> {
        self.merged(&MergeWeights::own(self.mixture.as_ref())?)
    }

    /// The same model with the experts of each LoRA module replaced by what `merge` makes of them (number of the module,
    /// experts): another average than the paper's, or one expert. Adapters are merged uniformly.
    pub fn with_loras(&self, merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<Self> {
        let uniform = MergeWeights::uniform(self.mixture.as_ref().map_or(1, |m| m.num_experts));
        self.replaced(|site, mixture| mixture.merge(uniform.site(site)?), merge)
    }

    /// With each mixture replaced by one module. Both are called with the module's number.
    fn replaced(
        &self,
        mut adapter: impl FnMut(usize, &AdapterMixture) -> Result<Adapter>,
        mut lora: impl FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Self> {
        let mut model = self.frozen();
        for (site, layer) in model.base.modules_mut().enumerate() {
            if let FfnAdapter::Mixture(mixture) = &layer.adapter {
                layer.adapter = FfnAdapter::Merged(adapter(site, mixture)?);
            }
            for placed in layer.linears.iter_mut().flat_map(|linear| &mut linear.loras) {
                if let Module::Mixture(mixture) = &placed.module {
                    placed.module = Module::Merged(lora(placed.site, mixture)?);
                }
            }
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
        model.base.modules_mut().for_each(LayerModules::empty);
        model
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
        let (m, d, device) = (self.mixture, base.hidden_size(), base.device().clone());
        let targets = match m.kind {
            MixtureKind::Adapter => Vec::new(),
            MixtureKind::Lora => loras::select(targets, &m.lora_target, default)?,
        };
        for (i, layer) in base.modules_mut().enumerate() {
            if m.kind == MixtureKind::Adapter {
                let name = adapter_name(i);
                let mut mixture = self.adapter(i, &name, d, &device)?;
                mixture.train(&name, params)?;
                layer.adapter = FfnAdapter::Mixture(mixture);
            }
            for (t, target) in targets.iter().enumerate() {
                let (site, name) = (i * targets.len() + t, lora_name(i, &target.path));
                let mut mixture = self.lora(site, &name, target, &device)?;
                mixture.train(&name, params)?;
                let placed = Placed { site, path: target.path.clone(), module: Module::Mixture(mixture) };
                layer.linears[target.slot as usize].loras.push(placed);
            }
        }
        Ok(())
    }

    /// The adapters of one layer of width `d`.
    fn adapter(&self, site: usize, name: &str, d: usize, device: &Device) -> Result<AdapterMixture> {
        let (m, r) = (self.mixture, self.mixture.adapter_size);
        let shapes = [[m.down_experts(), r, d], [m.up_experts(), d, r]];
        let [down, up] = init::start(m, self.seed, (site, name), shapes);
        let bank = |values: Vec<f32>, shape: [usize; 3]| -> Result<Bank> {
            let bias = Tensor::zeros((shape[0], shape[1]), self.dtype, device)?;
            Bank::new(self.tensor(values, shape, device)?, Some(bias))
        };
        Ok(AdapterMixture::new(bank(down, shapes[0])?, bank(up, shapes[1])?, act_of(m.activation)))
    }

    /// The LoRA modules on one target.
    fn lora(&self, site: usize, name: &str, target: &Target, device: &Device) -> Result<LoraMixture> {
        let (m, r, columns) = (self.mixture, self.mixture.lora_rank, &target.columns);
        let width = columns.iter().map(Range::len).sum();
        let shapes = [[m.down_experts(), columns.len() * r, target.d_in], [m.up_experts(), width, r]];
        let [a, b] = init::start(m, self.seed, (site, name), shapes);
        let bank = |values: Vec<f32>, shape: [usize; 3]| Bank::new(self.tensor(values, shape, device)?, None);
        let scale = lora_scaling(m.lora_alpha, r, m.use_rslora);
        LoraMixture::new(bank(a, shapes[0])?, bank(b, shapes[1])?, columns.clone(), scale, m.lora_dropout)
    }

    fn tensor(&self, values: Vec<f32>, shape: [usize; 3], device: &Device) -> Result<Tensor> {
        Tensor::from_vec(values, &shape, device)?.to_dtype(self.dtype)
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

/// The layer of an adapted module, from its name.
pub fn layer_of(site_name: &str) -> Option<usize> {
    site_name.strip_prefix("layers.")?.split('.').next()?.parse().ok()
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
