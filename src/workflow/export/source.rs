//! A trained model of a run as plain tensors and logits: what exports and the study of rounding are made from.

use super::bundled::BundledFiles;
use super::{ModelProbe, OpenedBase, all_logits, fresh, modules};
use crate::artifact::checkpoint_choice::WeightsOf;
use crate::artifact::export::base::{BaseFiles, BaseKind, MergedWeights};
use crate::artifact::export::modules::LoraAdapter;
use crate::artifact::export::recipe::{Recipe, SiteWeights};
use crate::artifact::export::{Expected, ExportMeta, ExportSource, LoadedModel, WholeModel};
use crate::atomic;
use crate::config::{DeviceChoice, DtypeChoice, Method, MixtureConfig, RunConfig, model_id};
use crate::error::Result;
use crate::mixture::SIDES;
use crate::model::loras::Module;
use crate::model::{Network, Weights, network};
use crate::protocol::MergePlan;
use crate::tensor::{HostTensor, NumberFormat, Tensor, to_f32};
use crate::train::checkpoint::host_tensors;
use crate::workflow::merging::{self, Merged, Mixture};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A trained model of a run.
pub(crate) struct RunSource<'a, P: ModelProbe> {
    pub probe: &'a P,
    /// The mixture.
    pub mixture: &'a P::Model,
    /// The same, merged.
    pub merged: P::Model,
    pub config: &'a RunConfig,
    meta: ExportMeta,
    store: NumberFormat,
    /// Where the files of a bundled base model are put for as long as this lives.
    scratch: PathBuf,
    base: OnceCell<OpenedBase<P::Spec>>,
    bundled: OnceCell<BundledFiles>,
}

impl<'a, P: ModelProbe> RunSource<'a, P> {
    /// Merges the experts.
    pub fn new(
        probe: &'a P,
        of: Mixture<'a, P::Model>,
        plan: &MergePlan,
        dtype: NumberFormat,
        scratch: &Path,
    ) -> Result<Self> {
        let (mixture, config, merged) = (of.model, of.config, merging::merge(of, plan)?);
        Ok(Self {
            probe,
            mixture,
            meta: meta(probe, (mixture, config), plan, &merged, dtype)?,
            merged: merged.model,
            config,
            store: dtype,
            scratch: scratch.join(format!("{}bundled-{}", atomic::TEMPORARY, std::process::id())),
            base: OnceCell::new(),
            bundled: OnceCell::new(),
        })
    }

    /// The exports name these weights.
    pub fn made_of(mut self, weights: WeightsOf) -> Self {
        self.meta.weights = Some(weights);
        self
    }

    fn base(&self) -> Result<&OpenedBase<P::Spec>> {
        get_or_try(&self.base, || P::open(&self.config.model.path))
    }

    /// The settings of a model that the merged modules fit into.
    pub fn single(&self) -> RunConfig {
        single(self.config, self.meta.merged_width())
    }

    /// The base model's tensors with the merged LoRA and the head.
    pub fn merged_weights(&self) -> Result<MergedWeights<'_>> {
        MergedWeights::new(&self.base()?.weights, self.kind(), self.lora(None)?)
    }

    /// A whole model made of tensors under the names that transformers gives them, run in 32 bits.
    pub fn build(&self, tensors: BTreeMap<String, Tensor>) -> Result<P::Model> {
        let OpenedBase { spec, path, .. } = self.base()?;
        let weights = Weights::of_tensors(tensors).with_prefix(self.kind().prefix());
        self.probe.build(&self.exact_config(), OpenedBase { spec: spec.clone(), weights, path: path.clone() })
    }

    /// Settings without the mixture that run the model in 32 bits. A base of 16 bits rounds the sum of weights and LoRA, which
    /// a trained model keeps apart: then both sides are compared in 32 bits on the processor.
    fn exact_config(&self) -> RunConfig {
        let mut config = bare(self.config);
        if !self.is_exact() {
            config.model.device = DeviceChoice::Cpu;
        }
        config.model.dtype = DtypeChoice::F32;
        config
    }

    fn is_exact(&self) -> bool {
        self.probe.describe(&self.merged).exact || self.config.model.dtype == DtypeChoice::F32
    }
}

impl<P: ModelProbe> ExportSource for RunSource<'_, P> {
    fn meta(&self) -> &ExportMeta {
        &self.meta
    }

    fn store(&self) -> NumberFormat {
        self.store
    }

    fn kind(&self) -> BaseKind<'_> {
        self.probe.describe(&self.merged).kind
    }

    fn tensors(&self, experts: bool) -> Result<Vec<HostTensor>> {
        if experts { host_tensors(self.mixture) } else { merged_tensors(self.mixture, &self.merged) }
    }

    fn lora(&self, expert: Option<usize>) -> Result<LoraAdapter> {
        let targets = self.probe.describe(self.mixture).lora_targets;
        let model = if expert.is_some() { self.mixture } else { &self.merged };
        let modules = modules::compose(&model.loras(), &targets, expert)?;
        Ok(LoraAdapter { modules, head: head_tensors(self.mixture)? })
    }

    fn whole(&self) -> Result<WholeModel<'_>> {
        let files = match &self.base()?.path {
            Some(file) if file.is_file() => BaseFiles::Gguf(file),
            Some(dir) => BaseFiles::Dir(dir),
            None => BaseFiles::Dir(get_or_try(&self.bundled, || BundledFiles::new(self.kind(), &self.scratch))?.path()),
        };
        Ok(WholeModel { weights: self.merged_weights()?, files })
    }

    fn outputs(&self) -> usize {
        self.probe.describe(self.mixture).outputs
    }

    fn expected(&self, model: Expected) -> Result<Vec<f32>> {
        match model {
            Expected::Merged => self.probe.logits(&self.merged, None),
            Expected::Experts => all_logits(self.probe, self.mixture),
            Expected::ExpertLoras => {
                let one =
                    |expert| self.probe.logits(&P::with_loras(self.mixture, &mut |_, lora| lora.expert(expert))?, None);
                (0..self.meta.mixture.num_experts).map(one).collect::<Result<Vec<_>>>().map(|all| all.concat())
            }
            Expected::Whole if self.is_exact() => self.probe.logits(&self.merged, None),
            Expected::Whole => {
                let base = fresh(self.probe, &self.exact_config())?;
                self.probe.logits(&P::with_adapter(&base, &self.lora(None)?)?, None)
            }
        }
    }

    fn logits(&self, loaded: LoadedModel<'_>) -> Result<Vec<f32>> {
        let filled = |config: &RunConfig, tensors: &[HostTensor]| {
            let model = fresh(self.probe, config)?;
            fill(&model, tensors)?;
            all_logits(self.probe, &model)
        };
        match loaded {
            LoadedModel::Merged(tensors) => filled(&self.single(), tensors),
            LoadedModel::Experts(tensors) => filled(self.config, tensors),
            LoadedModel::Loras(adapters) => {
                let base = fresh(self.probe, &bare(self.config))?;
                let one = |adapter| self.probe.logits(&P::with_adapter(&base, adapter)?, None);
                adapters.iter().map(one).collect::<Result<Vec<_>>>().map(|all| all.concat())
            }
            LoadedModel::Whole(path) => {
                let mut config = self.exact_config();
                config.model.path = path.display().to_string();
                self.probe.logits(&fresh(self.probe, &config)?, None)
            }
        }
    }
}

fn get_or_try<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => make().map(|value| cell.get_or_init(|| value)),
    }
}

/// The trained tensors of a merged model under their stable names: one module in each place, as banks of one, and the head.
pub(crate) fn merged_tensors(mixture: &dyn Network, merged: &dyn Network) -> Result<Vec<HostTensor>> {
    let mut tensors = Vec::new();
    for (name, adapter) in mixture.site_names().iter().zip(merged.adapters()) {
        for (side, part) in SIDES.into_iter().zip(["down", "up"]) {
            let (weight, bias) = adapter.side(side)?;
            tensors.push(host(format!("{name}.{part}.weight"), &weight.unsqueeze(0)?)?);
            tensors.push(host(format!("{name}.{part}.bias"), &bias.unsqueeze(0)?)?);
        }
    }
    for (name, placed) in merged.loras() {
        let Module::Merged(lora) = &placed.module else { continue };
        for (side, part) in SIDES.into_iter().zip(["lora_a", "lora_b"]) {
            tensors.push(host(format!("{name}.{part}.weight"), &lora.side(side)?.unsqueeze(0)?)?);
        }
    }
    tensors.extend(head_tensors(mixture)?);
    Ok(tensors)
}

/// The trained head under our names.
fn head_tensors(mixture: &dyn Network) -> Result<Vec<HostTensor>> {
    mixture.params().iter().filter(|param| !param.bank).map(|param| host(param.name.clone(), &param.value)).collect()
}

fn host(name: String, tensor: &Tensor) -> Result<HostTensor> {
    HostTensor::new(name, tensor.dims(), to_f32(tensor)?)
}

/// The settings without the mixture.
pub(crate) fn bare(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.model.method = Method::HeadOnly;
    config
}

/// The settings with a single expert of this bottleneck or rank, at the same scale: a merged adapter is a mixture of one.
fn single(config: &RunConfig, width: usize) -> RunConfig {
    let mixture = MixtureConfig {
        num_experts: 1,
        sharing_down: false,
        sharing_up: false,
        merge_weights: Vec::new(),
        ..config.mixture.of_rank(width)
    };
    RunConfig { mixture, ..config.clone() }
}

/// Puts an export's tensors into a model of the same settings.
pub(crate) fn fill(fresh: &dyn Network, loaded: &[HostTensor]) -> Result<()> {
    let find = |name: &str| {
        let param = fresh.params().find(name)?;
        let tensor = loaded.iter().find(|tensor| tensor.name == name)?;
        // Files leave out the dimension of a bank of one.
        let fits = tensor.data.len() == param.value.elem_count();
        Some((if fits { param.value.dims() } else { tensor.shape.as_slice() }, tensor.data.as_slice()))
    };
    network::overwrite(fresh.params(), find)
}

fn meta<P: ModelProbe>(
    probe: &P,
    (model, config): (&P::Model, &RunConfig),
    plan: &MergePlan,
    merged: &Merged<P::Model>,
    dtype: NumberFormat,
) -> Result<ExportMeta> {
    let mixture = model.mixture().cloned().unwrap_or_default();
    let uneven = merged.weights.as_ref().filter(|weights| !weights.is_uniform());
    let recipe = Recipe::of(plan, &mixture);
    let recipe = if let Some(weights) = uneven {
        let of = |list: &[f64], shared: bool| if shared { vec![1.0] } else { list.to_vec() };
        let places = model.site_names().into_iter().enumerate().map(|(site, name)| {
            let list = weights.site(site)?;
            Ok((name, SiteWeights { down: of(list, mixture.sharing_down), up: of(list, mixture.sharing_up) }))
        });
        recipe.with_sites(places.collect::<Result<Vec<_>>>()?)
    } else {
        recipe
    };
    let about = probe.describe(model);
    Ok(ExportMeta {
        base_model: about.base_name.unwrap_or_else(|| model_id::base_name(&config.model.path)),
        model_type: about.model_type.to_owned(),
        hidden_size: about.hidden_size,
        mixture,
        labels: about.labels,
        recipe,
        chat: about.chat,
        weights: None,
        // The scales of a block of 8 bits have 16.
        dtype: if dtype == NumberFormat::Q8_0 { NumberFormat::F16 } else { dtype },
    })
}
