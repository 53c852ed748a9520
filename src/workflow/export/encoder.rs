//! Exports of a classifier's LoRA for PEFT and transformers, each proven by what another program would compute: from the
//! base model's files and the export's alone.

use crate::artifact::certificate::{self, Certificate, Probe};
use crate::artifact::export::base::{BaseKind, Merged};
use crate::artifact::export::hf::{self, BaseFiles};
use crate::artifact::export::modules::{ModuleLora, compose, compose_expert};
use crate::artifact::export::{ExportMeta, peft, proof};
use crate::artifact::import;
use crate::config::{DeviceChoice, DtypeChoice, Method, RunConfig};
use crate::data::TaskData;
use crate::error::{Error, Result};
use crate::model::encoder::lora_targets;
use crate::model::{Classifier, ModelSource};
use crate::protocol::ExportTarget;
use crate::tensor::{HostTensor, to_f32};
use crate::workflow::export::bundled::BundledFiles;
use crate::workflow::run;
use candle_core::DType;
use std::path::Path;

/// One export.
pub(crate) struct Job<'a> {
    /// The mixture.
    pub model: &'a Classifier,
    /// The same, merged.
    pub merged: &'a Classifier,
    pub task: &'a TaskData,
    pub config: &'a RunConfig,
    pub meta: &'a ExportMeta,
    /// Rows of the evaluation data on which it is proven.
    pub rows: &'a [usize],
}

impl Job<'_> {
    /// Writes and proves it.
    pub fn export(&self, target: ExportTarget, place: &Path) -> Result<Certificate> {
        if self.merged.loras().is_empty() {
            return Err(Error::config(
                "PEFT and merged models are made of LoRA; adapters go into target adapterhub or merged",
            ));
        }
        let head = self.head()?;
        let targets = lora_targets(self.model.encoder().spec());
        if target == ExportTarget::PeftExperts {
            let experts = self.model.mixture().map_or(1, |mixture| mixture.num_experts);
            let all =
                (0..experts).map(|e| compose_expert(&self.model.loras(), &targets, e)).collect::<Result<Vec<_>>>()?;
            return self.experts(place, &all, &head);
        }
        let modules = compose(&self.merged.loras(), &targets)?;
        if target == ExportTarget::Hf { self.whole(place, &modules, &head) } else { self.peft(place, &modules, &head) }
    }

    fn peft(&self, place: &Path, modules: &[ModuleLora], head: &[HostTensor]) -> Result<Certificate> {
        peft::peft(place, modules, head, self.meta)?;
        let logits = self.logits(self.merged)?;
        let originals = tensors(modules, head)?;
        let reload = |_: &[HostTensor]| self.logits(&self.reloaded(place)?);
        certificate::certify(place, &originals, self.meta.dtype, self.probe(&logits), reload)
    }

    fn experts(&self, place: &Path, all: &[Vec<ModuleLora>], head: &[HostTensor]) -> Result<Certificate> {
        peft::peft_experts(place, all, head, self.meta)?;
        let (mut logits, mut originals) = (Vec::new(), Vec::new());
        for (expert, modules) in all.iter().enumerate() {
            logits.extend(self.logits(&self.model.with_loras(|_, mixture| mixture.expert(expert))?)?);
            let named = |t: HostTensor| HostTensor { name: format!("expert_{expert}/{}", t.name), ..t };
            originals.extend(tensors(modules, head)?.into_iter().map(named));
        }
        let reload = |_: &[HostTensor]| {
            let one = |expert| self.logits(&self.reloaded(&place.join(format!("expert_{expert}")))?);
            (0..all.len()).map(one).collect::<Result<Vec<_>>>().map(|list| list.concat())
        };
        certificate::certify(place, &originals, self.meta.dtype, self.probe(&logits), reload)
    }

    fn whole(&self, place: &Path, modules: &[ModuleLora], head: &[HostTensor]) -> Result<Certificate> {
        let source = ModelSource::open(&self.config.model.path)?;
        let kind = BaseKind::Encoder(&self.meta.model_type);
        let merged = Merged::new(&source.weights, kind, modules, head)?;
        let bundled = source.dir.is_none().then(|| BundledFiles::lab(place)).transpose()?;
        let base = bundled.as_ref().map_or(source.dir.as_deref(), |files| Some(files.path()));
        let base = base.ok_or_else(|| Error::internal("the model lies nowhere"))?;
        hf::hf(place, &merged, kind, BaseFiles::Dir(base), self.meta, hf::SHARD)?;
        // A trunk of 16 bits rounds the sum of weights and LoRA, which a trained model keeps apart: what the files hold is
        // compared in 32 bits, both sides from files on the processor.
        let exact = self.merged.encoder().dtype() == DType::F32;
        let mut config = self.bare();
        if !exact {
            (config.model.dtype, config.model.device) = (DtypeChoice::F32, DeviceChoice::Cpu);
        }
        let logits = if exact {
            self.logits(self.merged)?
        } else {
            let bare = run::model(&config, ModelSource::open(&self.config.model.path)?, self.task)?;
            self.logits(&import::with_modules(&bare, modules, head)?)?
        };
        let mut run =
            || self.logits(&run::model(&config, ModelSource::open(&place.display().to_string())?, self.task)?);
        proof::hf(place, &merged, self.meta.dtype, Some((self.probe(&logits), &mut run)))
    }

    /// The trained head under our names.
    fn head(&self) -> Result<Vec<HostTensor>> {
        let host = |param: &crate::nn::Param| {
            let values = to_f32(&param.value)?;
            HostTensor::new(param.name.clone(), param.value.dims(), values)
        };
        self.model.params().iter().filter(|param| !param.bank).map(host).collect()
    }

    /// The settings without the mixture.
    fn bare(&self) -> RunConfig {
        let mut config = self.config.clone();
        config.model.method = Method::HeadOnly;
        config
    }

    /// From the base model and a PEFT directory.
    fn reloaded(&self, dir: &Path) -> Result<Classifier> {
        let adapter = import::peft::read(dir)?;
        let bare = run::model(&self.bare(), ModelSource::open(&self.config.model.path)?, self.task)?;
        import::on_classifier(&bare, &adapter)
    }

    fn logits(&self, model: &Classifier) -> Result<Vec<f32>> {
        model.logits(&self.task.dev.batch(self.rows), None)
    }

    fn probe<'l>(&self, logits: &'l [f32]) -> Probe<'l> {
        Probe { logits, outputs: self.model.head().classes() }
    }
}

fn tensors(modules: &[ModuleLora], head: &[HostTensor]) -> Result<Vec<HostTensor>> {
    let mut all = Vec::new();
    for module in modules {
        all.extend(module.tensors()?);
    }
    all.extend(head.iter().cloned());
    Ok(all)
}
