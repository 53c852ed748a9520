//! Certificates of whole merged models and of GGUF adapters: the files are read afresh, tensor by tensor, and compared
//! with what was exported as the format rounds it.

use super::Target;
use super::base::Merged;
use super::gguf_adapter;
use super::gguf_model::{self, GgufModel};
use super::modules::ModuleLora;
use crate::artifact::certificate::{self, Certificate, Original, Rerun, Streamed};
use crate::artifact::gguf::Store;
use crate::artifact::gguf::read::GgufTensors;
use crate::artifact::{Dtype, HostTensor};
use crate::error::{Error, Result};
use crate::model::decoder::DecoderSpec;
use crate::model::weights::Weights;
use candle_core::{DType, Device};
use std::path::Path;

/// How far a logit may move; a block of Q8_0 moves each value by up to 2^-8 of the block's largest.
pub fn tolerance(store: Store) -> f64 {
    match store {
        Store::F32 => certificate::tolerance(Dtype::F32),
        Store::F16 => certificate::tolerance(Dtype::F16),
        Store::Bf16 => certificate::tolerance(Dtype::Bf16),
        Store::Q8_0 => 2.0 * certificate::tolerance(Dtype::Bf16),
    }
}

fn dtype(store: Store) -> (Dtype, Option<String>) {
    match store {
        Store::F32 => (Dtype::F32, None),
        Store::F16 => (Dtype::F16, None),
        Store::Bf16 => (Dtype::Bf16, None),
        Store::Q8_0 => (Dtype::F16, Some(store.name().to_owned())),
    }
}

/// Proves a Hugging Face directory.
pub fn hf(dir: &Path, merged: &Merged<'_>, dtype: Dtype, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    let names = merged.names();
    let opened = Weights::open(dir);
    let found = match &opened {
        Ok(weights) => Ok(weights.names().map(str::to_owned).collect()),
        Err(err) => Err(Error::format(err.to_string())),
    };
    let stored = |name: &str| -> Result<HostTensor> {
        let weights = opened.as_ref().map_err(|err| Error::format(err.to_string()))?;
        let shape = weights.shape(name).unwrap_or_default().to_vec();
        let values = weights.get(name, &shape, DType::F32, &Device::Cpu)?.flatten_all()?.to_vec1()?;
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
pub fn gguf(dir: &Path, model: &GgufModel<'_>, store: Store, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    let names: Vec<String> = model.plan().iter().map(|planned| planned.name.clone()).collect();
    let original = |name: &str| {
        let i = names.iter().position(|known| known == name);
        let i = i.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))?;
        let tensor = model.tensor(i)?;
        let rounded = model.plan()[i].store.rounded(&tensor)?;
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
    dtype: Dtype,
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
    with_gguf(dir, &file, (Target::GgufAdapter, gguf_adapter::store(dtype)), (&names, &original), rerun)
}

/// Names, and what gives the tensor of a name with its rounded values.
type Originals<'a> = (&'a [String], Original<'a>);

fn with_gguf(
    dir: &Path,
    file: &Path,
    (target, store): (Target, Store),
    (names, original): Originals<'_>,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let opened = GgufTensors::open(file);
    let found = match &opened {
        Ok(open) => Ok(open.header().tensors.keys().cloned().collect()),
        Err(err) => Err(Error::format(err.to_string())),
    };
    let stored = |name: &str| opened.as_ref().map_err(|err| Error::format(err.to_string()))?.read(name);
    let subject =
        Streamed { target, dtype: dtype(store), tolerance: tolerance(store), names, found, original, stored: &stored };
    certificate::certify_streamed(dir, subject, rerun)
}
