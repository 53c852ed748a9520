//! The merged language model as a GGUF file.
//!
//! From a GGUF base the metadata, tokenizer included, is carried over byte for byte; from a Hugging Face directory the keys
//! of the architecture and of a byte-level tokenizer are written as llama.cpp's converter does. Weights go through memory
//! one at a time; matrices are stored in the format asked for, vectors and position tables in 32 bits.

use super::base::{BaseFiles, DecoderArchitecture, MergedWeights};
use super::gguf_adapter::{OpenGguf, base_name};
use super::source::{Expected, ExportSource, LoadedModel, probe};
use super::target::ExportFormat;
use super::{ExportMeta, chat};
use crate::artifact::certificate::{self, Certificate, Comparison, Rerun};
use crate::data::gguf::describe::describe;
use crate::error::{Error, Result};
use crate::tensor::gguf::{self, GgufFile, GgufValue, Metadata, layout};
use crate::tensor::{HostTensor, NumberFormat, TensorPlan};
use std::borrow::Cow;
use std::path::Path;

/// Name of the file in its directory.
pub const FILE: &str = "model.gguf";
/// One factor for each rotary frequency (Llama 3).
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The target.
pub(super) struct Gguf;

impl ExportFormat for Gguf {
    fn file(&self) -> &'static str {
        FILE
    }
    fn check(&self, source: &dyn ExportSource) -> Result<()> {
        // The plan says whether the base's tokenizer and tensors have a place in the file.
        let (whole, kind) = (source.whole()?, source.kind());
        GgufModel::new(&whole.weights, kind.decoder()?, whole.files, source.meta(), source.store()).map(drop)
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let (whole, kind, store) = (source.whole()?, source.kind(), source.store());
        let model = GgufModel::new(&whole.weights, kind.decoder()?, whole.files, source.meta(), store)?;
        model.write(dir)?;
        let logits = source.expected(Expected::Whole)?;
        let mut run = || source.logits(LoadedModel::Whole(&dir.join(FILE)));
        certify(dir, &model, store, Some((probe(source, &logits), &mut run)))
    }
}

/// The tensors of the file: their plan, and how each is made.
pub struct GgufModel<'a> {
    merged: &'a MergedWeights<'a>,
    spec: &'a dyn DecoderArchitecture,
    /// Name in the checkpoint of each tensor; absent for the rotary factors.
    sources: Vec<Option<String>>,
    plan: Vec<TensorPlan>,
    factors: Option<HostTensor>,
    entries: Metadata,
}

impl<'a> GgufModel<'a> {
    /// Plans the file.
    pub fn new(
        merged: &'a MergedWeights<'a>,
        spec: &'a dyn DecoderArchitecture,
        files: BaseFiles<'_>,
        meta: &ExportMeta,
        store: NumberFormat,
    ) -> Result<Self> {
        let (mut entries, factors) = match files {
            BaseFiles::Dir(dir) => from_dir(dir, spec, meta, store)?,
            BaseFiles::Gguf(file) => from_gguf(file, store)?,
        };
        chat::into_metadata(&mut entries, meta);
        let mut model = Self { merged, spec, sources: Vec::new(), plan: Vec::new(), factors, entries };
        for name in merged.names() {
            let mut shape = merged.shape(&name)?;
            if spec.naming().input_major(&name) {
                shape.reverse();
            }
            let there = gguf_name(spec, &name)?;
            let format = stored_as(store, &there, &shape);
            model.plan.push(TensorPlan { name: there, shape, format });
            model.sources.push(Some(name));
        }
        if let Some(factors) = &model.factors {
            model.plan.push(TensorPlan {
                name: ROPE_FACTORS.to_owned(),
                shape: factors.shape.clone(),
                format: NumberFormat::F32,
            });
            model.sources.push(None);
        }
        Ok(model)
    }

    /// The tensors in their order.
    pub fn plan(&self) -> &[TensorPlan] {
        &self.plan
    }

    /// Tensor number `i` in GGUF's layout, before it is rounded.
    pub fn tensor(&self, i: usize) -> Result<HostTensor> {
        let planned = self.plan.get(i).ok_or_else(|| Error::internal(format!("there is no tensor {i}")))?;
        let Some(Some(source)) = self.sources.get(i) else {
            return self.factors.clone().ok_or_else(|| Error::internal("there are no rotary factors"));
        };
        let HostTensor { shape, mut data, .. } = self.merged.read(source)?;
        if self.spec.naming().input_major(source) {
            data = layout::transposed(&data, shape[0], shape[1]);
        }
        if let Some(heads) = self.spec.permuted_heads(source) {
            data = layout::rope_to_gguf(&data, heads, shape.get(1).copied().unwrap_or(1));
        }
        HostTensor::new(planned.name.clone(), planned.shape.clone(), data)
    }

    /// Writes `model.gguf` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        gguf::write(&dir.join(FILE), &self.entries, &self.plan, &mut |i| self.tensor(i).map(Cow::Owned))
    }
}

/// GGUF's name of a tensor of the checkpoint.
pub fn gguf_name(spec: &dyn DecoderArchitecture, name: &str) -> Result<String> {
    let unknown = || Error::config(format!("tensor {name} has no place in a GGUF file of this family"));
    spec.naming().to_gguf(name).ok_or_else(unknown)
}

/// How a tensor of this GGUF name is stored in a file of this format: position tables stay in 32 bits too.
pub fn stored_as(format: NumberFormat, name: &str, shape: &[usize]) -> NumberFormat {
    if name.starts_with("position_embd") { NumberFormat::F32 } else { format.for_shape(shape) }
}

fn from_gguf(file: &Path, store: NumberFormat) -> Result<(Metadata, Option<HostTensor>)> {
    let dropped = |key: &str| {
        ["general.file_type", "general.quantization_version", "general.alignment"].contains(&key)
            || key.starts_with("split.")
    };
    let base = GgufFile::open(file)?;
    let mut entries: Metadata = base.raw_metadata()?.into_iter().filter(|(key, _)| !dropped(key)).collect();
    entries.extend(format(store));
    let factors = base.tensors.contains_key(ROPE_FACTORS).then(|| base.read(ROPE_FACTORS)).transpose()?;
    Ok((entries, factors))
}

fn format(store: NumberFormat) -> Metadata {
    let mut entries = vec![("general.file_type".to_owned(), GgufValue::Int(store.gguf_file_type().into()))];
    if store == NumberFormat::Q8_0 {
        entries.push(("general.quantization_version".to_owned(), GgufValue::Int(2)));
    }
    entries
}

fn from_dir(
    dir: &Path,
    spec: &dyn DecoderArchitecture,
    meta: &ExportMeta,
    store: NumberFormat,
) -> Result<(Metadata, Option<HostTensor>)> {
    let (architecture, factors) = spec.gguf_metadata(dir)?;
    let mut entries: Metadata = vec![
        ("general.architecture".to_owned(), spec.gguf_architecture().into()),
        ("general.type".to_owned(), "model".into()),
        ("general.name".to_owned(), base_name(&meta.base_model).into()),
    ];
    entries.extend(architecture);
    entries.extend(format(store));
    entries.extend(describe(dir, spec.vocab_size())?);
    let factors = factors.map(|factors| HostTensor::new(ROPE_FACTORS, [factors.len()], factors)).transpose()?;
    Ok((entries, factors))
}

/// Certifies the file in a directory: it is read afresh, tensor by tensor, and compared with what was exported, rounded.
pub fn certify(
    dir: &Path,
    model: &GgufModel<'_>,
    store: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let names: Vec<String> = model.plan().iter().map(|planned| planned.name.clone()).collect();
    let at = |name: &str| names.iter().position(|known| known == name).unwrap_or(names.len());
    let file = OpenGguf::new(&dir.join(FILE));
    let comparison = Comparison {
        store,
        names: &names,
        original: &|name| model.tensor(at(name)),
        format: &|name| model.plan().get(at(name)).map_or(store, |planned| planned.format),
        found: file.names(),
        found_dtype: certificate::scalar_format(store),
        stored: &|name| file.read(name),
    };
    certificate::certify_streamed(dir, &comparison, rerun)
}
