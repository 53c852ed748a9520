//! Adapters that other programs wrote, as a run: its checkpoint of step 0 holds the imported experts, so that everything
//! that works on a run (comparing, merging, exporting, the window) works on them.

pub use crate::artifact::import::Imported;
use crate::artifact::import::{self, Kind};
use crate::artifact::{RunDir, checkpoint};
use crate::config::{Method, MixtureConfig, MixtureKind, RunConfig};
use crate::error::{Context as _, Error, Result};
use crate::model::Network;
use crate::tensor::{HostTensor, to_f32};
use crate::train::ModelAndData;
use crate::train::checkpoint::set_tensors;
use crate::train::trainer::Trainer;
use crate::workflow::run::{self, Prepared};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Reads one checkpoint of the reference code, or PEFT directories that are the experts of one mixture.
pub fn look(paths: &[PathBuf]) -> Result<Imported> {
    let first = paths.first().ok_or_else(|| Error::config("name a file or directory to import"))?;
    match import::kind_of(first)? {
        Kind::Reference if paths.len() > 1 => {
            Err(Error::config("a checkpoint of the reference code holds all experts; import one file at a time"))
        }
        Kind::Reference => import::reference::read(first),
        Kind::Peft => peft(paths),
    }
}

fn peft(paths: &[PathBuf]) -> Result<Imported> {
    let all = paths.iter().map(|path| import::peft::read(path)).collect::<Result<Vec<_>>>()?;
    let first = &all[0];
    if let Some(module) =
        first.lora.modules.iter().find(|m| m.rank != first.rank || m.scale != first.lora.modules[0].scale)
    {
        return Err(Error::config(format!(
            "{} has another rank or scale than the rest, which one mixture cannot have",
            module.name()
        )));
    }
    let modules: Vec<_> = all.iter().map(|adapter| adapter.lora.modules.clone()).collect();
    let mut tensors = import::as_experts(&modules)?;
    let mut targets: Vec<String> = Vec::new();
    for module in &first.lora.modules {
        if !targets.contains(&module.path) {
            targets.push(module.path.clone());
        }
    }
    // A side is shared only if it is in every module.
    let experts = all.len();
    let shared = |end: &str| experts > 1 && tensors.iter().filter(|t| t.name.ends_with(end)).all(|t| t.shape[0] == 1);
    let (sharing_down, sharing_up) = (shared(".lora_a.weight"), shared(".lora_b.weight"));
    for (end, shared) in [(".lora_a.weight", sharing_down), (".lora_b.weight", sharing_up)] {
        for tensor in tensors.iter_mut().filter(|t| t.name.ends_with(end) && !shared && t.shape[0] == 1) {
            tensor.shape[0] = experts;
            tensor.data = tensor.data.repeat(experts);
        }
    }
    tensors.extend(first.lora.head.iter().cloned());
    let mut notes = Vec::new();
    if all.iter().any(|adapter| adapter.lora.head != first.lora.head) {
        notes.push("the adapters have different heads; the first one's is taken".to_owned());
    }
    Ok(Imported {
        source: "PEFT",
        model_type: None,
        base_model: first.base_model.clone(),
        mixture: MixtureConfig {
            kind: MixtureKind::Lora,
            num_experts: experts,
            lora_rank: first.rank,
            lora_alpha: first.alpha,
            use_rslora: first.use_rslora,
            lora_dropout: first.dropout,
            lora_target: targets,
            sharing_down,
            sharing_up,
            ..MixtureConfig::default()
        },
        weights: Vec::new(),
        tensors,
        notes,
    })
}

/// Makes a run whose checkpoint of step 0 holds what was found. The settings name the base model and the data; their mixture
/// is replaced.
pub fn open_as_run(settings: &RunConfig, found: &Imported) -> Result<RunDir> {
    let mut config = settings.clone();
    config.model.method = Method::Adamix;
    let own = &settings.mixture;
    config.mixture = MixtureConfig {
        routing: own.routing,
        consistency: own.consistency,
        consistency_weight: own.consistency_weight,
        ..found.mixture.clone()
    };
    config.mixture.merge_weights.clear();
    let Prepared { mut config, subject, .. } = run::prepare(&config)?;
    let family = match &subject {
        ModelAndData::Classifier(model, _) => model.base.spec.family.prefix(),
        ModelAndData::Lm(model, _) => model.base.spec.family.model_type(),
    };
    if let Some(kind) = found.model_type.as_ref().filter(|kind| *kind != family) {
        return Err(Error::config(format!("these experts belong to a {kind} model, and the base model is a {family}")));
    }
    if let Some(tensor) = found.tensors.iter().find(|tensor| subject.model().params().find(&tensor.name).is_none()) {
        return Err(Error::config(format!("tensor {} has no place in this base model", tensor.name)));
    }
    let tensors = with_bare_places(subject.model(), found)?;
    set_tensors(subject.model(), &tensors).context(
        "the experts do not fit the base model and its labels (choose the model and the task they were trained for)",
    )?;
    config.mixture.merge_weights = merge_weights(&subject.model().site_names(), found)?;
    let trainer = Trainer::new(config.clone(), subject)?;
    let (dir, _lock) = RunDir::create(&config)?;
    checkpoint::write(&dir, 0, &trainer.checkpoint_data()?)?;
    Ok(dir)
}

/// The imported tensors, and zeros in the layers that a LoRA does not adapt: there the model stays the base model.
fn with_bare_places(model: &dyn Network, found: &Imported) -> Result<Vec<HostTensor>> {
    let mut tensors = found.tensors.clone();
    if found.mixture.kind != MixtureKind::Lora {
        return Ok(tensors);
    }
    // Only whole layers: a single module that lacks in a layer is a damaged file.
    let layer =
        |name: &str| name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).map(|(n, _)| n.to_owned());
    let adapted: BTreeSet<Option<String>> = found.tensors.iter().map(|tensor| layer(&tensor.name)).collect();
    let is_lora = |name: &str| name.ends_with(".lora_a.weight") || name.ends_with(".lora_b.weight");
    let is_bare = |name: &str| is_lora(name) && !adapted.contains(&layer(name));
    let missing: Vec<_> = model.params().iter().filter(|param| is_bare(&param.name)).collect();
    for param in &missing {
        // With B zero, A does nothing; what it started from lets training go on.
        let mut data = to_f32(&param.value)?;
        if param.name.ends_with(".lora_b.weight") {
            data.fill(0.0);
        }
        tensors.push(HostTensor::new(param.name.clone(), param.value.dims(), data)?);
    }
    if !missing.is_empty() {
        log::warn!(
            "the adapter covers only some of the layers: {} places in the others are left as the base model has them",
            missing.len() / 2
        );
    }
    Ok(tensors)
}

/// One list for each adapted module of the base model; none where all experts count the same everywhere.
fn merge_weights(sites: &[String], found: &Imported) -> Result<Vec<Vec<f64>>> {
    if found.weights.is_empty() {
        return Ok(Vec::new());
    }
    if let Some((site, _)) = found.weights.iter().find(|(site, _)| !sites.contains(site)) {
        return Err(Error::config(format!(
            "the file has scores of experts at {site}, which this base model does not have"
        )));
    }
    let experts = found.mixture.num_experts;
    let uniform = || vec![1.0 / experts as f64; experts];
    let of = |site: &String| {
        found.weights.iter().find(|(name, _)| name == site).map_or_else(uniform, |(_, list)| list.clone())
    };
    Ok(sites.iter().map(of).collect())
}
