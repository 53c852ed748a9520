//! Against PyTorch and transformers: the files of `tests/golden`, written by the scripts `encoder.py`, `decoder.py` and
//! `trunk.py` there.

mod decoder;
mod logits;
mod optimizer;
mod training;
mod trunk;

use adamix::config::{Method, MixtureConfig};
use adamix::data::{Batch, Labels};
use adamix::model::{Classifier, ModelSource, Setup};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The two families' directories.
pub const FAMILIES: [&str; 2] = ["bert-tiny", "roberta-tiny"];

/// One packed row of a golden batch.
#[derive(Clone, Deserialize)]
pub struct Input {
    pub ids: Vec<u32>,
    pub type_ids: Vec<u32>,
    pub text: Option<String>,
    pub pair: Option<String>,
}

/// Host tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub fn golden_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |view: &TensorView<'_>| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), values(&view)))).collect()
}

/// All rows back to back.
pub fn pack(inputs: &[Input], labels: Labels) -> Batch {
    let mut offsets = vec![0];
    offsets.extend(inputs.iter().scan(0, |at, input| {
        *at += input.ids.len();
        Some(*at)
    }));
    Batch {
        ids: inputs.iter().flat_map(|input| input.ids.clone()).collect(),
        type_ids: inputs.iter().flat_map(|input| input.type_ids.clone()).collect(),
        offsets,
        labels,
        rows: (0..inputs.len()).collect(),
    }
}

/// A copy of a model directory with other settings and another head.
pub fn variant(dir: &Path, overrides: &Map<String, Value>, head: &Tensors) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut config: Map<String, Value> = read_json(&dir.join("config.json"));
    if overrides.contains_key("num_labels") {
        config.retain(|key, _| key != "id2label" && key != "label2id");
    }
    config.extend(overrides.clone());
    std::fs::write(copy.path().join("config.json"), Value::Object(config).to_string()).unwrap();
    let mut tensors = read_tensors(&dir.join("model.safetensors"));
    tensors.extend(head.clone());
    let bytes: Vec<_> = tensors
        .into_iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &copy.path().join("model.safetensors")).unwrap();
    copy
}

/// The tensors whose names start with `prefix`, without it.
pub fn under(tensors: &Tensors, prefix: &str) -> Tensors {
    let strip = |(name, value): (&String, &(Vec<usize>, Vec<f32>))| {
        Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
    };
    tensors.iter().filter_map(strip).collect()
}

pub fn load(dir: &Path, method: Method, mixture: &MixtureConfig, outputs: usize) -> Classifier {
    let source = ModelSource::open(dir.to_str().unwrap()).unwrap();
    let setup = Setup { method, mixture, outputs, seed: SeedStream::new(1) };
    Classifier::load(source.spec, &source.weights, &setup, DType::F32, &Device::Cpu).unwrap()
}

/// Largest absolute difference.
pub fn off(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let differences = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - f64::from(*w)).abs());
    differences.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}
