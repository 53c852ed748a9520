//! Exports of a language model's LoRA for PEFT, transformers and llama.cpp, each proven by what another program would
//! compute: from the base model's files and the export's alone.

use crate::artifact::certificate::{self, Certificate, Probe};
use crate::artifact::export::base::{BaseKind, Merged};
use crate::artifact::export::gguf_adapter::{self, gguf_adapter};
use crate::artifact::export::gguf_model::{self, GgufModel};
use crate::artifact::export::hf::{self, BaseFiles};
use crate::artifact::export::modules::{ModuleLora, compose, compose_expert};
use crate::artifact::export::{peft, proof};
use crate::artifact::import;
use crate::config::{DtypeChoice, Method, RunConfig, WRITER_LAB};
use crate::data::text::{TextBatch, TextData};
use crate::error::{Error, Result};
use crate::mixture::{MergeWeights, Route};
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{Decoder, LmSource, Packed};
use crate::model::{CausalLm, Network as _};
use crate::protocol::ExportTarget;
use crate::tensor::{HostTensor, to_f32};
use crate::workflow::export::bundled::BundledFiles;
use crate::workflow::export::{Job, Kind, PROBE_ROWS};
use crate::workflow::run;
use candle_core::DType;
use std::path::Path;

/// Evaluation texts from which the probe rows come.
const TEXTS: usize = 8;
/// Logits that a probe holds at most, of all experts together: 16 MiB.
const LOGITS: usize = 4 << 20;
/// Probe rows of one way of running the model, at least.
const FEWEST_ROWS: usize = 4;

/// A language model's probe: what it says at learned tokens of the first evaluation texts.
pub(crate) struct Written {
    batch: TextBatch,
    /// The tokens after which it is asked. `[rows]`
    rows: Vec<u32>,
}

impl Written {
    /// For a model with so many experts.
    pub fn new(model: &CausalLm, data: &TextData, experts: usize) -> Self {
        let texts: Vec<usize> = (0..data.dev.len().min(TEXTS)).collect();
        let batch = data.dev.batch(&texts);
        let (all, _) = Packed { ids: &batch.ids, offsets: &batch.offsets }.targets(&batch.learn);
        let most = LOGITS / (model.spec().vocab_size * experts).max(1);
        let most = most.clamp(FEWEST_ROWS, PROBE_ROWS).min(all.len());
        // Spread over all texts.
        let rows = (0..most).map(|i| all[i * all.len() / most]).collect();
        Self { batch, rows }
    }

    fn proof<'l>(&self, model: &CausalLm, logits: &'l [f32]) -> Probe<'l> {
        Probe { logits, outputs: self.outputs(model) }
    }
}

impl Kind for Written {
    type Model = CausalLm;

    fn about(&self, model: &CausalLm) -> (String, usize, Option<String>) {
        (model.spec().family.model_type().to_owned(), model.spec().hidden_size, None)
    }
    fn labels(&self) -> Vec<String> {
        Vec::new()
    }
    fn merged(&self, model: &CausalLm, weights: &MergeWeights) -> Result<CausalLm> {
        model.merged(weights)
    }
    fn fresh(&self, config: &RunConfig) -> Result<CausalLm> {
        run::language_model(config, LmSource::open(Path::new(&config.model.path))?)
    }
    fn logits(&self, model: &CausalLm, route: Option<&Route>) -> Result<Vec<f32>> {
        let batch = Packed { ids: &self.batch.ids, offsets: &self.batch.offsets };
        let logits = model.logits(batch, Some(&self.rows), route)?;
        to_f32(&logits)
    }
    fn outputs(&self, model: &CausalLm) -> usize {
        model.spec().vocab_size
    }
    fn check(&self, job: &Job<'_, CausalLm>) -> Result<()> {
        if ![ExportTarget::Hf, ExportTarget::Gguf].contains(&job.target) {
            return Ok(());
        }
        let source = LmSource::open(Path::new(&job.config.model.path))?;
        if source.dir == Path::new(WRITER_LAB) {
            return Ok(()); // what is bundled has everything that either needs
        }
        let kind = BaseKind::Decoder(&source.spec);
        let base = base_files(&source, None);
        if job.target == ExportTarget::Hf {
            return hf::config(base, kind).map(drop);
        }
        // The plan says whether the base's tokenizer and tensors have a place in the file.
        let bare = Merged::new(&source.weights, kind, &[], &[])?;
        GgufModel::new(&bare, &source.spec, base, job.meta, job.dtype).map(drop)
    }
    fn for_others(&self, job: &Job<'_, CausalLm>, place: &Path) -> Result<Certificate> {
        let modules = compose(&job.merged.loras(), &lora_targets(job.merged.spec()))?;
        match job.target {
            ExportTarget::Peft => self.peft(job, place, &modules),
            ExportTarget::PeftExperts => self.experts(job, place),
            ExportTarget::GgufAdapter => self.gguf_adapter(job, place, &modules),
            ExportTarget::Hf | ExportTarget::Gguf => self.whole(job, place, &modules),
            _ => Err(Error::internal("an export went to the wrong place")),
        }
    }
}

impl Written {
    fn peft(&self, job: &Job<'_, CausalLm>, place: &Path, modules: &[ModuleLora]) -> Result<Certificate> {
        peft::peft(place, modules, &[], job.meta)?;
        let logits = self.logits(job.merged, None)?;
        let reload = |_: &[HostTensor]| {
            let adapter = import::peft::read(place)?;
            self.logits(&import::place_in_decoder(self.trunk(job.config)?, &adapter.modules)?, None)
        };
        certificate::certify(place, &tensors(modules)?, job.meta.dtype, self.proof(job.merged, &logits), reload)
    }

    fn experts(&self, job: &Job<'_, CausalLm>, place: &Path) -> Result<Certificate> {
        let (model, targets) = (job.mixture, lora_targets(job.mixture.spec()));
        let experts = model.mixture().map_or(1, |mixture| mixture.num_experts);
        let all = (0..experts).map(|e| compose_expert(&model.loras(), &targets, e)).collect::<Result<Vec<_>>>()?;
        peft::peft_experts(place, &all, &[], job.meta)?;
        let (mut logits, mut originals) = (Vec::new(), Vec::new());
        for (expert, modules) in all.iter().enumerate() {
            logits.extend(self.logits(&model.with_loras(|_, mixture| mixture.expert(expert))?, None)?);
            let named = |t: HostTensor| HostTensor { name: format!("expert_{expert}/{}", t.name), ..t };
            originals.extend(tensors(modules)?.into_iter().map(named));
        }
        let reload = |_: &[HostTensor]| {
            let trunk = self.trunk(job.config)?;
            let mut all = Vec::new();
            for expert in 0..experts {
                let adapter = import::peft::read(&place.join(format!("expert_{expert}")))?;
                all.extend(self.logits(&import::place_in_decoder(trunk.clone(), &adapter.modules)?, None)?);
            }
            Ok(all)
        };
        certificate::certify(place, &originals, job.meta.dtype, self.proof(model, &logits), reload)
    }

    fn gguf_adapter(&self, job: &Job<'_, CausalLm>, place: &Path, modules: &[ModuleLora]) -> Result<Certificate> {
        let spec = job.merged.spec();
        gguf_adapter(place, modules, spec, job.meta)?;
        let logits = self.logits(job.merged, None)?;
        let mut reload = || {
            let (read, _) = gguf_adapter::read(&place.join(gguf_adapter::FILE), spec)?;
            self.logits(&import::place_in_decoder(self.trunk(job.config)?, &read)?, None)
        };
        let rerun = (self.proof(job.merged, &logits), &mut reload as &mut dyn FnMut() -> Result<Vec<f32>>);
        proof::gguf_adapter(place, modules, spec, job.meta.dtype, Some(rerun))
    }

    /// The whole model, for transformers or llama.cpp.
    fn whole(&self, job: &Job<'_, CausalLm>, place: &Path, modules: &[ModuleLora]) -> Result<Certificate> {
        let source = LmSource::open(Path::new(&job.config.model.path))?;
        let kind = BaseKind::Decoder(&source.spec);
        let merged = Merged::new(&source.weights, kind, modules, &[])?;
        let bundled = bundled(&source, place)?;
        let base = base_files(&source, bundled.as_ref());
        let (config, logits) = self.unrounded(job.merged, job.config, modules)?;
        let proof = self.proof(job.merged, &logits);
        let from = |file: &Path| {
            let mut config = config.clone();
            config.model.path = file.display().to_string();
            self.logits(&self.fresh(&bare(&config))?, None)
        };
        if job.target == ExportTarget::Hf {
            hf::hf(place, &merged, kind, base, job.meta, hf::SHARD)?;
            return proof::hf(place, &merged, job.meta.dtype, Some((proof, &mut || from(place))));
        }
        let model = GgufModel::new(&merged, &source.spec, base, job.meta, job.dtype)?;
        model.write(place)?;
        proof::gguf(place, &model, job.dtype, Some((proof, &mut || from(&place.join(gguf_model::FILE)))))
    }

    /// What a whole model must compute, and settings that read it in 32 bits: a trunk of 16 bits rounds the sum of weights and
    /// LoRA, which a trained model keeps apart.
    pub fn unrounded(
        &self,
        merged: &CausalLm,
        config: &RunConfig,
        modules: &[ModuleLora],
    ) -> Result<(RunConfig, Vec<f32>)> {
        let mut wide = config.clone();
        wide.model.dtype = DtypeChoice::F32;
        let single = merged.dtype() == DType::F32 && merged.decoder().flow() == DType::F32;
        let logits = if single || config.model.dtype == DtypeChoice::F32 {
            self.logits(merged, None)?
        } else {
            self.logits(&import::place_in_decoder(self.trunk(&wide)?, modules)?, None)?
        };
        Ok((wide, logits))
    }

    /// The base model's layers, from its files.
    fn trunk(&self, config: &RunConfig) -> Result<Decoder> {
        Ok(self.fresh(&bare(config))?.decoder().clone())
    }
}

/// Files of the bundled model, where that is the base.
fn bundled(source: &LmSource, place: &Path) -> Result<Option<BundledFiles>> {
    (source.dir == Path::new(WRITER_LAB)).then(|| BundledFiles::writer(place)).transpose()
}

fn base_files<'a>(source: &'a LmSource, bundled: Option<&'a BundledFiles>) -> BaseFiles<'a> {
    match bundled {
        Some(files) => BaseFiles::Dir(files.path()),
        None if source.dir.is_file() => BaseFiles::Gguf(&source.dir),
        None => BaseFiles::Dir(&source.dir),
    }
}

/// The settings without the mixture.
pub(crate) fn bare(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.model.method = Method::HeadOnly;
    config
}

fn tensors(modules: &[ModuleLora]) -> Result<Vec<HostTensor>> {
    let mut all = Vec::new();
    for module in modules {
        all.extend(module.tensors()?);
    }
    Ok(all)
}
