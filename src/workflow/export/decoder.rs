//! Language models as exports see them.

use super::bundled::BundledFiles;
use super::{ModelDescription, ModelProbe, PROBE_ROWS, modules};
use crate::artifact::export::base::BaseKind;
use crate::artifact::export::modules::LoraAdapter;
use crate::config::{RunConfig, WRITER_LAB};
use crate::data::text::{TextBatch, TextData, TextDataset};
use crate::error::Result;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{LmSource, Packed};
use crate::model::loras::Target;
use crate::model::{CausalLm, LmSetup, Network as _, Weights};
use crate::rng::SeedStream;
use crate::tensor::to_f32;
use crate::workflow::run;
use candle_core::DType;
use std::path::Path;

/// Evaluation texts from which the probe rows come.
const TEXTS: usize = 8;
/// Logits that a probe holds at most, of all experts together: 16 MiB.
const LOGITS: usize = 4 << 20;
/// Probe rows of one way of running the model, at least.
const FEWEST_ROWS: usize = 4;

/// Tokens to be predicted in the first evaluation texts.
pub(crate) struct LmProbe<'a> {
    data: &'a TextData,
    batch: TextBatch,
    /// The tokens whose successors are predicted. `[rows]`
    rows: Vec<u32>,
}

impl<'a> LmProbe<'a> {
    /// `more`: how many sets of logits beside those of every expert are held at the same time.
    pub fn new(model: &CausalLm, data: &'a TextData, more: usize) -> Self {
        let texts: Vec<usize> = (0..data.dev.len().min(TEXTS)).collect();
        let batch = data.dev.batch(&texts);
        let (all, _) = Packed { ids: &batch.ids, offsets: &batch.offsets }.targets(&batch.learn);
        let sets = model.mixture().map_or(1, |mixture| mixture.num_experts) + more;
        let most = LOGITS / (model.spec().vocab_size * sets).max(1);
        let most = most.clamp(FEWEST_ROWS, PROBE_ROWS).min(all.len());
        // Spread over all texts.
        let rows = (0..most).map(|i| all[i * all.len() / most]).collect();
        Self { data, batch, rows }
    }
}

impl ModelProbe for LmProbe<'_> {
    type Model = CausalLm;
    type Base = LmSource;

    fn describe(&self, model: &CausalLm) -> ModelDescription {
        ModelDescription {
            model_type: model.spec().family.model_type().to_owned(),
            hidden_size: model.spec().hidden_size,
            base_name: None,
            labels: Vec::new(),
        }
    }
    fn rows(&self) -> &TextDataset {
        &self.data.dev
    }
    fn logits(&self, model: &CausalLm, route: Option<&Route>) -> Result<Vec<f32>> {
        let batch = Packed { ids: &self.batch.ids, offsets: &self.batch.offsets };
        let logits = model.logits(batch, Some(&self.rows), route)?;
        to_f32(&logits)
    }
    fn outputs(&self, model: &CausalLm) -> usize {
        model.spec().vocab_size
    }

    fn open(&self, path: &str) -> Result<LmSource> {
        LmSource::open(Path::new(path))
    }
    fn build(&self, config: &RunConfig, base: LmSource) -> Result<CausalLm> {
        run::language_model(config, base)
    }
    fn with_adapter(&self, bare: &CausalLm, adapter: &LoraAdapter) -> Result<CausalLm> {
        modules::place_in_decoder(bare.decoder().clone(), &adapter.modules)
    }
    fn with_loras(model: &CausalLm, merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<CausalLm> {
        model.with_loras(merge)
    }
    fn lora_targets(model: &CausalLm) -> Vec<Target> {
        lora_targets(model.spec())
    }
    fn is_exact(model: &CausalLm) -> bool {
        model.dtype() == DType::F32 && model.decoder().activation_dtype() == DType::F32
    }
    fn layers(model: &CausalLm) -> usize {
        model.decoder().layers().len()
    }
    fn mixed(exact: &CausalLm, rounded: &CausalLm, layer: Option<usize>) -> Result<CausalLm> {
        let (mut decoder, from) = match layer {
            Some(_) => (exact.decoder().clone(), rounded.decoder().layers()),
            None => (rounded.decoder().clone(), exact.decoder().layers()),
        };
        match layer {
            Some(layer) => decoder.layers_mut()[layer].clone_from(&from[layer]),
            None => decoder.layers_mut().clone_from_slice(from),
        }
        CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) })
    }

    fn kind(model: &CausalLm) -> BaseKind<'_> {
        BaseKind::Decoder(model.spec())
    }
    fn weights(base: &LmSource) -> &Weights {
        &base.weights
    }
    fn with_weights(base: &LmSource, weights: Weights) -> LmSource {
        let weights = weights.with_prefix(base.spec.family.prefix());
        LmSource { spec: base.spec.clone(), weights, dir: base.dir.clone() }
    }
    fn base_path(base: &LmSource) -> Option<&Path> {
        (base.dir != Path::new(WRITER_LAB)).then_some(base.dir.as_path())
    }
    fn bundled(dir: &Path) -> Result<BundledFiles> {
        BundledFiles::writer(dir)
    }
}
