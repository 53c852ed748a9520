//! What an export is made from, as plain host data: artifacts know no model, so a model gives its tensors and logits
//! through [`ExportSource`].

use super::ExportMeta;
use super::base::{BaseFiles, BaseKind, MergedWeights};
use super::modules::LoraAdapter;
use crate::artifact::certificate::{self, Certificate, Probe};
use crate::error::Result;
use crate::tensor::{HostTensor, NumberFormat};
use std::path::Path;

/// A model in memory whose logits the files must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The merged model.
    Merged,
    /// Every expert in turn, routed. `[experts * rows, outputs]`
    Experts,
    /// Every expert in turn, each as a single LoRA. `[experts * rows, outputs]`
    ExpertLoras,
    /// The merged model, computed in 32 bits.
    Whole,
}

/// What was loaded from an export's files, for a model to be made of.
#[derive(Clone, Copy, Debug)]
pub enum LoadedModel<'a> {
    /// Tensors under our names, one module in each place.
    Merged(&'a [HostTensor]),
    /// Tensors under our names, banks of all experts.
    Experts(&'a [HostTensor]),
    /// LoRA on the base model: one model for each of these.
    Loras(&'a [LoraAdapter]),
    /// A whole model at this path, run in 32 bits.
    Whole(&'a Path),
}

/// A base model with the merged LoRA added, and the files it came from.
pub struct WholeModel<'a> {
    /// Its tensors.
    pub weights: MergedWeights<'a>,
    /// Configuration and tokenizer.
    pub files: BaseFiles<'a>,
}

/// A trained model as an export needs it.
pub trait ExportSource {
    /// What readers of the files must know besides the tensors.
    fn meta(&self) -> &ExportMeta;
    /// How matrices of GGUF files are stored.
    fn store(&self) -> NumberFormat;
    /// Family and sizes of the model.
    fn kind(&self) -> BaseKind<'_>;
    /// The merged modules as banks of one, or with `experts` the banks of all experts, and the head, under our names.
    fn tensors(&self, experts: bool) -> Result<Vec<HostTensor>>;
    /// The merged LoRA, or that of one expert, on the matrices of the base model, and the trained head.
    fn lora(&self, expert: Option<usize>) -> Result<LoraAdapter>;
    /// The base model with the merged LoRA.
    fn whole(&self) -> Result<WholeModel<'_>>;
    /// Logits per probe row.
    fn outputs(&self) -> usize;
    /// Logits of the probe rows by the model in memory. `[rows, outputs]`
    fn expected(&self, model: Expected) -> Result<Vec<f32>>;
    /// Logits of the probe rows by a model made of nothing but the base model's files and what was loaded. `[rows, outputs]`
    fn logits(&self, loaded: LoadedModel<'_>) -> Result<Vec<f32>>;
}

/// The logits that a certificate compares with.
pub(super) fn probe<'a>(source: &dyn ExportSource, logits: &'a [f32]) -> Probe<'a> {
    Probe { logits, outputs: source.outputs() }
}

/// Certifies files that load as tensors under our names: `run` gives the logits of the model made of those.
pub(super) fn certify(
    dir: &Path,
    source: &dyn ExportSource,
    originals: &[HostTensor],
    expected: Expected,
    run: impl FnOnce(&[HostTensor]) -> Result<Vec<f32>>,
) -> Result<Certificate> {
    let logits = source.expected(expected)?;
    certificate::certify(dir, originals, source.meta().dtype, probe(source, &logits), run)
}
