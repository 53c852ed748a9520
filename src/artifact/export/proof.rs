//! Certificates of whole merged models and of GGUF adapters: the files are read afresh, tensor by tensor, and compared
//! with what was exported as the format rounds it.

use super::base::{DecoderArchitecture, MergedWeights};
use super::gguf_adapter;
use super::gguf_model::{self, GgufModel};
use super::hf;
use super::modules::ModuleLora;
use crate::artifact::certificate::{self, Certificate, Comparison, Rerun};
use crate::artifact::json::read_json;
use crate::error::{Error, Result};
use crate::tensor::gguf::GgufFile;
use crate::tensor::safetensors::SafetensorsFile;
use crate::tensor::{HostTensor, NumberFormat};
use std::collections::BTreeSet;
use std::path::Path;

/// A certificate names a block format beside the float format of its scales.
fn dtype(format: NumberFormat) -> (NumberFormat, Option<String>) {
    if format == NumberFormat::Q8_0 { (NumberFormat::F16, Some(format.name().to_owned())) } else { (format, None) }
}

/// The files with the weights of a Hugging Face directory.
fn open_weights(dir: &Path) -> Result<Vec<SafetensorsFile>> {
    let index = dir.join(hf::INDEX_FILE);
    let mut names = BTreeSet::from([hf::MODEL_FILE.to_owned()]);
    if index.is_file() {
        let json = read_json(&index)?;
        let map = json["weight_map"].as_object().into_iter().flat_map(|map| map.values());
        names = map.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    }
    names.iter().map(|name| SafetensorsFile::open(&dir.join(name))).collect()
}

/// Proves a Hugging Face directory.
pub fn hf(
    dir: &Path,
    merged: &MergedWeights<'_>,
    dtype: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let opened = open_weights(dir).map_err(|err| err.to_string());
    let entries = |files: &[SafetensorsFile]| {
        files.iter().flat_map(SafetensorsFile::entries).map(|entry| entry.name.clone()).collect()
    };
    let stored = |name: &str| -> Result<HostTensor> {
        let files = opened.as_ref().map_err(Error::format)?;
        let file = files.iter().find(|file| file.entries().iter().any(|entry| entry.name == name));
        file.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))?.read(name)
    };
    let comparison = Comparison {
        dtype,
        stored_as: None,
        tolerance: certificate::tolerance(dtype),
        names: &merged.names(),
        original: &|name| merged.read(name),
        rounded: &|tensor| Ok(tensor.data.iter().map(|value| dtype.round(*value)).collect()),
        found: opened.as_ref().map(|files| entries(files)).map_err(String::clone),
        found_dtype: dtype,
        stored: &stored,
    };
    certificate::certify_streamed(dir, &comparison, rerun)
}

/// Proves a whole GGUF model.
pub fn gguf(dir: &Path, model: &GgufModel<'_>, store: NumberFormat, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    let names: Vec<String> = model.plan().iter().map(|planned| planned.name.clone()).collect();
    let at = |name: &str| {
        let found = names.iter().position(|known| known == name);
        found.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))
    };
    let original = |name: &str| model.tensor(at(name)?);
    let rounded = |tensor: &HostTensor| tensor.rounded(model.plan()[at(&tensor.name)?].format);
    with_gguf(&dir.join(gguf_model::FILE), store, &names, &original, &rounded, rerun)
}

/// Proves a GGUF adapter.
pub fn gguf_adapter(
    dir: &Path,
    modules: &[ModuleLora],
    spec: &dyn DecoderArchitecture,
    dtype: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let (tensors, _) = gguf_adapter::tensors(modules, spec)?;
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let original = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).cloned();
        tensor.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))
    };
    let rounded = |tensor: &HostTensor| Ok(tensor.data.iter().map(|value| dtype.round(*value)).collect());
    with_gguf(&dir.join(gguf_adapter::FILE), dtype, &names, &original, &rounded, rerun)
}

/// `names`: what was exported; `original` and `rounded`: its tensors, and their values as the file should hold them.
fn with_gguf(
    file: &Path,
    store: NumberFormat,
    names: &[String],
    original: &dyn Fn(&str) -> Result<HostTensor>,
    rounded: &dyn Fn(&HostTensor) -> Result<Vec<f32>>,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let opened = GgufFile::open(file).map_err(|err| err.to_string());
    let (dtype, stored_as) = dtype(store);
    let comparison = Comparison {
        dtype,
        stored_as,
        tolerance: certificate::tolerance(store),
        names,
        original,
        rounded,
        found: opened.as_ref().map(|open| open.tensors.keys().cloned().collect()).map_err(String::clone),
        found_dtype: dtype,
        stored: &|name| opened.as_ref().map_err(Error::format)?.read(name),
    };
    certificate::certify_streamed(file.parent().unwrap_or(Path::new(".")), &comparison, rerun)
}
