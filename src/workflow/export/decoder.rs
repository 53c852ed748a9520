//! Language models as exports see them.

use super::{ModelDescription, ModelProbe, OpenedBase, PROBE_ROWS, modules};
use crate::artifact::export::ChatFormat;
use crate::artifact::export::base::BaseKind;
use crate::artifact::export::modules::LoraAdapter;
use crate::config::{RunConfig, WRITER_LAB};
use crate::data::text::{Layout, TextBatch, TextData, TextDataset};
use crate::error::Result;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{LmSource, Packed};
use crate::model::{CausalLm, DecoderSpec, LmSetup, Network};
use crate::rng::SeedStream;
use crate::tensor::{DType, to_f32};
use crate::workflow::run;
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
        let most = LOGITS / (model.base.spec.vocab_size * sets).max(1);
        let most = most.clamp(FEWEST_ROWS, PROBE_ROWS).min(all.len());
        // Spread over all texts.
        let rows = (0..most).map(|i| all[i * all.len() / most]).collect();
        Self { data, batch, rows }
    }
}

impl ModelProbe for LmProbe<'_> {
    type Model = CausalLm;
    type Spec = DecoderSpec;

    fn describe<'a>(&self, model: &'a CausalLm) -> ModelDescription<'a> {
        let spec = &model.base.spec;
        ModelDescription {
            kind: BaseKind::Decoder(spec),
            model_type: spec.family.model_type(),
            hidden_size: spec.hidden_size,
            layers: spec.num_layers,
            outputs: spec.vocab_size,
            base_name: None,
            labels: Vec::new(),
            chat: match &self.data.encoder.layout {
                Layout::Chat(template) => {
                    Some(ChatFormat { template: template.source.clone(), turn_end: self.data.turn_end })
                }
                _ => None,
            },
            lora_targets: lora_targets(spec),
            exact: Network::dtype(model) == DType::F32 && model.base.activation_dtype() == DType::F32,
        }
    }
    fn rows(&self) -> &TextDataset {
        &self.data.dev
    }
    fn train_rows(&self) -> &TextDataset {
        &self.data.train
    }
    fn logits(&self, model: &CausalLm, route: Option<&Route>) -> Result<Vec<f32>> {
        let batch = Packed { ids: &self.batch.ids, offsets: &self.batch.offsets };
        to_f32(&model.logits(batch, Some(&self.rows), route)?)
    }
    fn open(path: &str) -> Result<OpenedBase<DecoderSpec>> {
        let LmSource { spec, weights, dir } = LmSource::open(Path::new(path))?;
        Ok(OpenedBase { spec, weights, path: Some(dir).filter(|dir| dir != Path::new(WRITER_LAB)) })
    }
    fn build(&self, config: &RunConfig, base: OpenedBase<DecoderSpec>) -> Result<CausalLm> {
        let OpenedBase { spec, weights, path } = base;
        run::language_model(config, &LmSource { spec, weights, dir: path.unwrap_or_else(|| WRITER_LAB.into()) })
    }
    fn with_adapter(bare: &CausalLm, adapter: &LoraAdapter) -> Result<CausalLm> {
        modules::place_in_decoder(bare.base.clone(), &adapter.modules)
    }
    fn with_loras(model: &CausalLm, merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<CausalLm> {
        model.with_loras(merge)
    }
    fn mixed(exact: &CausalLm, rounded: &CausalLm, layer: Option<usize>) -> Result<CausalLm> {
        let mut decoder;
        match layer {
            Some(layer) => {
                decoder = exact.base.clone();
                decoder.layers[layer].clone_from(&rounded.base.layers[layer]);
            }
            None => {
                decoder = rounded.base.clone();
                decoder.layers.clone_from_slice(&exact.base.layers);
            }
        }
        CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) })
    }
}
