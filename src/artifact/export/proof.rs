//! Certificates of whole merged models and of GGUF adapters: the files are read afresh, tensor by tensor, and compared
//! with what was exported as the format rounds it.

use super::Target;
use super::base::Merged;
use super::gguf_adapter;
use super::gguf_model::{self, GgufModel};
use super::modules::ModuleLora;
use crate::artifact::certificate::{self, Certificate, Original, Rerun, Streamed};
use crate::error::{Error, Result};
use crate::model::decoder::DecoderSpec;
use crate::model::weights::Weights;
use crate::tensor::gguf::GgufFile;
use crate::tensor::{HostTensor, NumberFormat, to_f32};
use candle_core::{DType, Device};
use std::path::Path;

/// A certificate names a block format beside the float format of its scales.
fn dtype(format: NumberFormat) -> (NumberFormat, Option<String>) {
    if format == NumberFormat::Q8_0 { (NumberFormat::F16, Some(format.name().to_owned())) } else { (format, None) }
}

/// Proves a Hugging Face directory.
pub fn hf(dir: &Path, merged: &Merged<'_>, dtype: NumberFormat, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    let names = merged.names();
    let opened = Weights::open(dir);
    let found = match &opened {
        Ok(weights) => Ok(weights.names().map(str::to_owned).collect()),
        Err(err) => Err(Error::format(err.to_string())),
    };
    let stored = |name: &str| -> Result<HostTensor> {
        let weights = opened.as_ref().map_err(|err| Error::format(err.to_string()))?;
        let shape = weights.shape(name).unwrap_or_default().to_vec();
        let values = to_f32(&weights.get(name, &shape, DType::F32, &Device::Cpu)?)?;
        HostTensor::new(name, shape, values)
    };
    let original = |name: &str| {
        let tensor = merged.read(name)?;
        let rounded = tensor.data.iter().map(|value| dtype.round(*value)).collect();
        Ok((tensor, rounded))
    };
    let subject = Streamed {
        target: Target::Hf,
        dtype: (dtype, None),
        tolerance: certificate::tolerance(dtype),
        names: &names,
        found,
        original: &original,
        stored: &stored,
    };
    certificate::certify_streamed(dir, subject, rerun)
}

/// Proves a whole GGUF model.
pub fn gguf(dir: &Path, model: &GgufModel<'_>, store: NumberFormat, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    let names: Vec<String> = model.plan().iter().map(|planned| planned.name.clone()).collect();
    let original = |name: &str| {
        let i = names.iter().position(|known| known == name);
        let i = i.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))?;
        let tensor = model.tensor(i)?;
        let rounded = tensor.rounded(model.plan()[i].format)?;
        Ok((tensor, rounded))
    };
    let file = dir.join(gguf_model::FILE);
    with_gguf(dir, &file, (Target::Gguf, store), (&names, &original), rerun)
}

/// Proves a GGUF adapter.
pub fn gguf_adapter(
    dir: &Path,
    modules: &[ModuleLora],
    spec: &DecoderSpec,
    dtype: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let (tensors, _) = gguf_adapter::tensors(modules, spec)?;
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let original = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).cloned();
        let tensor = tensor.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))?;
        let rounded = tensor.data.iter().map(|value| dtype.round(*value)).collect();
        Ok((tensor, rounded))
    };
    let file = dir.join(gguf_adapter::FILE);
    with_gguf(dir, &file, (Target::GgufAdapter, dtype), (&names, &original), rerun)
}

/// Names, and what gives the tensor of a name with its rounded values.
type Originals<'a> = (&'a [String], Original<'a>);

fn with_gguf(
    dir: &Path,
    file: &Path,
    (target, store): (Target, NumberFormat),
    (names, original): Originals<'_>,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let opened = GgufFile::open(file);
    let found = match &opened {
        Ok(open) => Ok(open.tensors.keys().cloned().collect()),
        Err(err) => Err(Error::format(err.to_string())),
    };
    let stored = |name: &str| opened.as_ref().map_err(|err| Error::format(err.to_string()))?.read(name);
    let subject = Streamed {
        target,
        dtype: dtype(store),
        tolerance: certificate::tolerance(store),
        names,
        found,
        original,
        stored: &stored,
    };
    certificate::certify_streamed(dir, subject, rerun)
}
