//! Whole models out of GGUF files: against golden logits, against the same values in dense matrices, in training.

use super::{K_QUANTS, metadata, noise, tensors, values};
use crate::golden::{golden_dir, read_json, read_tensors};
use crate::merge::folded_language_model;
use crate::support::assert_close;
use crate::support::gguf::{Entries, Stored, Value, file_of};
use adamix::config::{MixtureConfig, MixtureKind, RunConfig};
use adamix::data::text::TextBatch;
use adamix::error::Result;
use adamix::model::decoder::Decoder;
use adamix::model::decoder::read::Source;
use adamix::model::{BaseModel as _, CausalLm, DecoderSpec, LmSetup, LmSource, Network as _, Packed};
use adamix::nn::Weight;
use adamix::nn::kernels::quant::Quantised;
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, NumberFormat, Tensor};
use adamix::train::Trainable as _;
use adamix::train::step;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    sequences: Vec<Vec<u32>>,
    #[serde(default)]
    logits: serde_json::Value,
}

impl Golden {
    fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0];
        self.sequences.iter().for_each(|ids| offsets.push(offsets[offsets.len() - 1] + ids.len()));
        offsets
    }
}

fn setup(mixture: Option<&MixtureConfig>) -> LmSetup<'_> {
    LmSetup { mixture, seed: SeedStream::new(1) }
}

fn load(path: &Path, mixture: Option<&MixtureConfig>) -> CausalLm {
    let source = LmSource::open(path).unwrap();
    CausalLm::load(source.spec, &source.weights, setup(mixture), DType::F32, &Device::Cpu).unwrap()
}

/// The same values in dense matrices, read in the layout of a Hugging Face directory.
fn load_dense(path: &Path, mixture: Option<&MixtureConfig>) -> CausalLm {
    let LmSource { spec, weights, .. } = LmSource::open(path).unwrap();
    let get = |name: &str, shape: &[usize]| weights.get(name, shape, DType::F32, &Device::Cpu);
    CausalLm::new(Decoder::from_tensors(spec, &get).unwrap(), setup(mixture)).unwrap()
}

fn logits(model: &CausalLm, golden: &Golden) -> Vec<f32> {
    let (ids, offsets) = (golden.sequences.concat(), golden.offsets());
    values(&model.logits(Packed { ids: &ids, offsets: &offsets }, None, None).unwrap())
}

fn small(stored: &[Stored]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    std::fs::write(&path, file_of(&metadata(), stored)).unwrap();
    (dir, path)
}

fn batch() -> Golden {
    let ids = |range: std::ops::Range<u32>| range.map(|i| (i * 7) % 24).collect();
    Golden { sequences: vec![ids(0..11), ids(3..5), ids(20..30)], logits: serde_json::Value::Null }
}

#[test]
fn files_in_f32_give_the_logits_of_their_hugging_face_directories() {
    for family in ["gpt2", "llama", "mistral", "qwen2", "qwen3"] {
        let dir = golden_dir(&format!("{family}-tiny"));
        let golden: Golden = read_json(&dir.join("golden.json"));
        let want = &read_tensors(&dir.join("golden.safetensors"))["logits/plain"].1;
        let path = golden_dir("gguf").join(format!("{family}.gguf"));
        let model = load(&path, None);
        assert_close(family, &logits(&model, &golden), want, 1e-5, 2e-5);
        assert_close(family, &logits(&load_dense(&path, None), &golden), want, 1e-5, 2e-5);
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let want = DecoderSpec::from_json(&text).unwrap();
        let found = &model.base.spec;
        assert_eq!((found.tied, found.biases, found.qk_norm), (want.tied, want.biases, want.qk_norm), "{family}");
        assert_eq!((found.max_positions, found.head_dim, found.norm_eps as f32), {
            (want.max_positions, want.head_dim, want.norm_eps as f32)
        });
        assert_eq!((found.bos, &found.eos), (want.bos, &want.eos), "{family}");
        let directory = LmSource::open(&dir).unwrap();
        assert_eq!(directory.spec, want);
        // Every tensor is there under its name and in its shape.
        let source = LmSource::open(&path).unwrap();
        let mut names = 0;
        for name in directory.weights.names().filter(|name| !(want.tied && name.contains("lm_head"))) {
            names += 1;
            let shape = directory.weights.shape(name).unwrap();
            assert_eq!(source.weights.shape(name), Some(shape), "{name}");
            assert!(source.weights.has(name));
            let [ours, theirs] = [&source, &directory]
                .map(|source| values(&source.weights.get(name, shape, DType::F32, &Device::Cpu).unwrap()));
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(names, source.weights.names().count(), "{family}");
    }
}

#[test]
fn a_file_of_many_formats_gives_transformers_logits() {
    let golden: Golden = read_json(&golden_dir("gguf").join("mixed.json"));
    let path = golden_dir("gguf").join("mixed.gguf");
    let model = load(&path, None);
    let want: Vec<f32> = golden.logits.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    assert_close("mixed", &logits(&model, &golden), &want, 1e-4, 1e-4);
    let Weight::Quantised(table) = &model.base.token_embeddings else { panic!("the table was widened") };
    let formats = |matrix: &Quantised| format!("{matrix:?}").split_once("], ").unwrap().1.to_owned();
    assert_eq!(formats(table), format!("{})", NumberFormat::Q8_0.name()));
    let Weight::Quantised(qkv) = model.base.layers[0].modules.linears[0].linear.weight() else {
        panic!("q, k, v were widened")
    };
    let names = [NumberFormat::F16, NumberFormat::Bf16, NumberFormat::Q8_0].map(NumberFormat::name);
    assert_eq!(formats(qkv), format!("{})", names.join("+")));
}

#[test]
fn k_quants_give_the_logits_of_their_dense_values() {
    let (_dir, path) = small(&tensors(K_QUANTS));
    let (model, dense) = (load(&path, None), load_dense(&path, None));
    assert_close("k", &logits(&model, &batch()), &logits(&dense, &batch()), 1e-5, 1e-4);
    // In memory it is as small as in the file.
    let linear = |model: &CausalLm| {
        let layer = &model.base.layers[0].modules;
        layer.linears.iter().map(|adapted| adapted.linear.weight().bytes()).sum::<usize>()
    };
    assert!(linear(&model) * 5 < linear(&dense), "{} {}", linear(&model), linear(&dense));
    assert_eq!(model.base.parameter_count(), dense.base.parameter_count());
}

#[test]
fn lora_learns_through_quantised_matrices_what_it_learns_through_dense_ones() {
    let (_dir, path) = small(&tensors(K_QUANTS));
    let mixture = MixtureConfig {
        kind: MixtureKind::Lora,
        num_experts: 2,
        lora_rank: 2,
        lora_dropout: 0.0,
        lora_target: vec!["all-linear".to_owned()],
        ..MixtureConfig::default()
    };
    let golden = batch();
    let (ids, offsets) = (golden.sequences.concat(), golden.offsets());
    let wanted = vec![true; ids.len()];
    let batch = TextBatch { ids, rows: (1..offsets.len()).collect(), offsets, learn: wanted };
    let config = RunConfig { mixture: mixture.clone(), ..RunConfig::default() };
    let run = |model: &CausalLm| {
        for (i, param) in model.params().iter().enumerate() {
            param.value.slice_set(&noise(param.value.dims(), 0.1, 40 + i as u64), 0, 0).unwrap();
        }
        let route = step::draw_route(&config, model, model.size(&batch), 3);
        let (loss, grads) = step::forward_backward(&config, model, &batch, route.as_ref(), 3).unwrap();
        (loss.read().unwrap(), grads)
    };
    let (quantised, dense) = (load(&path, Some(&mixture)), load_dense(&path, Some(&mixture)));
    let ((loss, ours), (dense_loss, theirs)) = (run(&quantised), run(&dense));
    assert!((loss.total - dense_loss.total).abs() < 1e-5, "{loss:?} {dense_loss:?}");
    let mut compared = 0;
    for (i, param) in quantised.params().iter().enumerate() {
        for expert in 0..param.experts {
            let id = adamix::nn::ParamId(i);
            match (ours.get(id, expert), theirs.get(id, expert)) {
                (Some(a), Some(b)) => {
                    assert_close(&param.name, &values(a), &values(b), 1e-4, 1e-5);
                    assert!(values(a).iter().any(|v| v.abs() > 1e-4), "{} is zero", param.name);
                    compared += 1;
                }
                (None, None) => {}
                _ => panic!("{} expert {expert}: one of two gradients", param.name),
            }
        }
    }
    assert!(compared >= 14, "{compared} gradients");
    // Folding widens what it is added to.
    let golden = Golden { sequences: golden.sequences, logits: serde_json::Value::Null };
    let merged = quantised.merged_own().unwrap();
    let folded = folded_language_model(&merged);
    assert_close("folded", &logits(&folded, &golden), &logits(&merged, &golden), 1e-4, 1e-4);
}

/// Reads nothing, and says what is asked for.
struct Nothing;

impl Source for Nothing {
    fn tensor(&self, name: &str, _: &[usize]) -> Result<Tensor> {
        Err(adamix::error::Error::format(name))
    }
    fn matrix(&self, name: &str, _: usize, _: usize) -> Result<Weight> {
        Err(adamix::error::Error::format(name))
    }
}

#[test]
fn the_metadata_are_honoured() {
    let spec = |change: &dyn Fn(&mut Entries)| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        let mut entries = metadata();
        change(&mut entries);
        std::fs::write(&path, file_of(&entries, &tensors(K_QUANTS))).unwrap();
        LmSource::open(&path).unwrap().spec
    };
    let plain = spec(&|_| {});
    assert_eq!((plain.num_kv_heads, plain.head_dim, plain.tied, plain.sliding_window), (1, 32, false, None));
    let window = spec(&|entries| entries.push(("llama.attention.sliding_window".to_owned(), Value::U32(9))));
    assert_eq!(window.max_length(), 9);
    let linear = spec(&|entries| {
        entries.push(("llama.rope.scaling.type".to_owned(), Value::Text("linear".to_owned())));
        entries.push(("llama.rope.scaling.factor".to_owned(), crate::support::gguf::number(4.0)));
    });
    let frequencies = |spec: &DecoderSpec| spec.rope.as_ref().unwrap().frequencies.clone();
    assert_close(
        "frequencies",
        &frequencies(&linear),
        &frequencies(&plain).iter().map(|f| f / 4.0).collect::<Vec<_>>(),
        1e-6,
        0.0,
    );
    assert!(Decoder::from_source(plain, &Nothing).unwrap_err().to_string().contains("embed_tokens"));
}
