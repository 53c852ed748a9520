//! Decoders beyond the golden files: files in every layout and dtype, packing, refusals, LoRA inside encoders, training.

use crate::golden::{Tensors, golden_dir, off, read_tensors, variant};
use crate::merge::{deltas, folded_classifier};
use crate::support::{assert_close, assert_recompute_changes_no_bit, fill, tiny};
use adamix::config::{LoraInit, MixtureConfig, MixtureKind, Problem, RoutingPolicy, RunConfig};
use adamix::data::text::TextBatch;
use adamix::mixture::{MergeWeights, Route, Side};
use adamix::model::loras::Module;
use adamix::model::{CausalLm, DecoderSpec, DropKeys, Family, ForwardOptions, LmSetup, Network as _, Packed, Weights};
use adamix::nn::kernels::vocab_loss::Objective;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Tensor};
use adamix::train::step::{self, StepIndex};
use adamix::train::{AdamW, Trainable as _};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use std::path::Path;

const FAMILIES: [&str; 5] = ["gpt2-tiny", "llama-tiny", "mistral-tiny", "qwen2-tiny", "qwen3-tiny"];

fn load_as(dir: &Path, mixture: Option<&MixtureConfig>, dtype: DType) -> adamix::error::Result<CausalLm> {
    let spec = DecoderSpec::from_json(&std::fs::read_to_string(dir.join("config.json")).unwrap())?;
    let weights = Weights::open(dir)?.with_prefix(spec.family.prefix());
    CausalLm::load(spec, &weights, LmSetup { mixture, seed: SeedStream::new(1) }, dtype, &Device::Cpu)
}

fn load(family: &str, mixture: Option<&MixtureConfig>) -> CausalLm {
    load_as(&golden_dir(family), mixture, DType::F32).unwrap()
}

/// Ids of sequences of these lengths, and their offsets.
fn ids(lengths: &[usize]) -> (Vec<u32>, Vec<usize>) {
    let mut stream = SeedStream::new(12).stream(Purpose::Sampling, 3);
    let mut offsets = vec![0];
    lengths.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
    ((0..offsets[lengths.len()]).map(|_| 3 + stream.below(29) as u32).collect(), offsets)
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn logits(model: &CausalLm, ids: &[u32], offsets: &[usize], route: Option<&Route>) -> Vec<f32> {
    values(&model.logits(Packed { ids, offsets }, None, route).unwrap())
}

fn lora(target: &[&str]) -> MixtureConfig {
    MixtureConfig {
        kind: MixtureKind::Lora,
        num_experts: 3,
        lora_rank: 2,
        lora_alpha: 3.0,
        lora_dropout: 0.0,
        lora_target: target.iter().map(|&name| name.to_owned()).collect(),
        ..MixtureConfig::default()
    }
}

/// A tensor as it lies in a file.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Writes tensors as some files of a directory in Hugging Face layout.
fn write(dir: &Path, config: &str, shards: &[Vec<Stored>]) {
    std::fs::write(dir.join("config.json"), config).unwrap();
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = if shards.len() == 1 {
            "model.safetensors".to_owned()
        } else {
            format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len())
        };
        let views = shard.iter().map(|(name, dtype, shape, data)| {
            map.insert(name.clone(), Value::String(file.clone()));
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &dir.join(&file)).unwrap();
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {}, "weight_map": map});
        std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
}

#[test]
fn half_precision_and_shards_and_names_without_prefix_are_read() {
    let (ids, offsets) = ids(&[4, 7]);
    for family in FAMILIES {
        let dir = golden_dir(family);
        let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let plain = logits(&load(family, None), &ids, &offsets, None);
        let tensors = read_tensors(&dir.join("model.safetensors"));
        let stored = |dtype: Dtype, values: &[f32]| -> Vec<u8> {
            match dtype {
                Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            }
        };
        let prefix = if family.starts_with("gpt2") { "transformer." } else { "model." };
        for (dtype, shards, tolerance) in [(Dtype::F32, 3, 0.0), (Dtype::F16, 1, 0.2), (Dtype::BF16, 2, 1.5)] {
            let place = tempfile::tempdir().unwrap();
            let mut files = vec![Vec::new(); shards];
            for (i, (name, (shape, data))) in tensors.iter().enumerate() {
                let name = name.strip_prefix(prefix).unwrap_or(name).to_owned();
                files[i % shards].push((name, dtype, shape.clone(), stored(dtype, data)));
            }
            write(place.path(), &config, &files);
            let model = load_as(place.path(), None, DType::F32).unwrap();
            let apart = off(&logits(&model, &ids, &offsets, None), &plain);
            assert!(apart <= tolerance, "{family} {dtype:?} in {shards} files: off by {apart}");
            assert!(dtype == Dtype::F32 || apart > 0.0, "{family} {dtype:?} was rounded");
        }
    }
}

#[test]
fn packing_changes_nothing_and_rows_are_chosen() {
    let (all, offsets) = ids(&[1, 6, 11]);
    for family in FAMILIES {
        let model = load(family, None);
        let whole = logits(&model, &all, &offsets, None);
        let vocab = model.base.spec.vocab_size;
        for w in offsets.windows(2) {
            let alone = logits(&model, &all[w[0]..w[1]], &[0, w[1] - w[0]], None);
            assert_close(family, &whole[w[0] * vocab..w[1] * vocab], &alone, 1e-6, 1e-5);
        }
        let rows = [0u32, 3, 17];
        let some = values(&model.logits(Packed { ids: &all, offsets: &offsets }, Some(&rows), None).unwrap());
        let want: Vec<f32> =
            rows.iter().flat_map(|&r| whole[r as usize * vocab..(r as usize + 1) * vocab].to_vec()).collect();
        assert_close(&format!("{family} rows"), &some, &want, 1e-6, 1e-5);
    }
}

#[test]
fn targets_are_the_tokens_after_the_rows() {
    let (ids, offsets) = ([5, 6, 7, 8, 9, 10], [0, 1, 4, 6]);
    let batch = Packed { ids: &ids, offsets: &offsets };
    assert_eq!(batch.targets(&[true; 6]), (vec![1, 2, 4], vec![7, 8, 10]), "never across a border");
    assert_eq!(batch.targets(&[false, true, false, true, true, false]), (vec![2], vec![8]));
    assert_eq!(batch.targets(&[]), (vec![], vec![]));
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let model = load("mistral-tiny", None);
    let refusal =
        |ids: &[u32], offsets: &[usize]| model.logits(Packed { ids, offsets }, None, None).unwrap_err().to_string();
    let long: Vec<u32> = (0..17).collect();
    let err = refusal(&long, &[0, 17]);
    assert!(err.contains("17 tokens") && err.contains("1 to 16") && err.contains("sliding_window is 16"), "{err}");
    assert!(model.logits(Packed { ids: &long[..16], offsets: &[0, 16] }, None, None).is_ok());
    assert!(refusal(&[3, 32], &[0, 2]).contains("vocabulary"));
    for offsets in [&[0, 1][..], &[0, 2, 2], &[1, 2], &[0]] {
        refusal(&[3, 4], offsets);
    }
    let missing = |family: &str, key: &str, value: Value| {
        let change = json!({ key: value });
        let copy = variant(&golden_dir(family), change.as_object().unwrap(), &Tensors::new());
        load_as(copy.path(), None, DType::F32).unwrap_err().to_string()
    };
    assert!(missing("llama-tiny", "tie_word_embeddings", false.into()).contains("lm_head.weight"));
    assert!(missing("llama-tiny", "attention_bias", true.into()).contains("q_proj.bias"));
    assert!(missing("llama-tiny", "num_hidden_layers", 3.into()).contains("layers.2"));
    assert!(missing("qwen3-tiny", "num_key_value_heads", 4.into()).contains("k_proj"));
    for (target, words) in [(&["q_prj"][..], "known are self_attn.q_proj"), (&["q_proj", "nothing"], "nothing")] {
        let mixture = lora(target);
        let err = load_as(&golden_dir("llama-tiny"), Some(&mixture), DType::F32).unwrap_err().to_string();
        assert!(err.contains(words), "{err}");
    }
    let err = load_as(&golden_dir("gpt2-tiny"), Some(&lora(&["c_attn", "v"])), DType::F32).unwrap_err().to_string();
    assert!(err.contains("share rows"), "{err}");
}

#[test]
fn targets_are_named_as_in_peft() {
    let paths = |family: &str, target: &[&str]| -> Vec<String> {
        let model = load(family, Some(&lora(target)));
        let names = model.site_names();
        assert_eq!(names.len(), model.sites().len());
        names.iter().filter_map(|name| name.strip_prefix("layers.1.").map(str::to_owned)).collect()
    };
    assert_eq!(paths("llama-tiny", &[]), ["self_attn.q_proj", "self_attn.v_proj"]);
    assert_eq!(paths("gpt2-tiny", &[]), ["attn.c_attn.qv"]);
    assert_eq!(paths("gpt2-tiny", &["c_proj"]), ["attn.c_proj", "mlp.c_proj"]);
    assert_eq!(paths("gpt2-tiny", &["all-linear"]).len(), 4);
    assert_eq!(paths("qwen2-tiny", &["all-linear"]).len(), 7);
    assert_eq!(paths("llama-tiny", &["mlp.up_proj", "v_proj"]), ["self_attn.v_proj", "mlp.up_proj"]);
}

#[test]
fn lora_starts_from_the_untouched_model_as_the_settings_say() {
    let (ids, offsets) = ids(&[5]);
    let plain = logits(&load("llama-tiny", None), &ids, &offsets, None);
    for (init, same) in [(LoraInit::Independent, false), (LoraInit::Copied, true)] {
        let mixture = MixtureConfig { lora_init: init, sharing_up: false, ..lora(&[]) };
        let model = load("llama-tiny", Some(&mixture));
        let route = Route::fixed(&mixture, 4, 2);
        assert_eq!(logits(&model, &ids, &offsets, Some(&route)), plain, "B is zero");
        let a =
            |site: usize, expert: usize| values(&model.sites()[site].bank(Side::Down).weight().get(expert).unwrap());
        assert_eq!(a(0, 0) == a(0, 1), same, "{init:?}: experts");
        assert_eq!(a(0, 0) == a(2, 1), same, "{init:?}: layers");
        assert_ne!(a(0, 0), a(1, 0), "{init:?}: queries and values");
        let bound = 1.0 / 16f32.sqrt();
        let all: Vec<f32> = (0..3).flat_map(|e| a(3, e)).collect();
        assert!(all.iter().all(|v| v.abs() <= bound) && all.iter().any(|v| v.abs() > 0.5 * bound));
    }
    let counts = load("llama-tiny", Some(&lora(&[]))).counts();
    // A: 3 experts of [2, 16] for q and v in 2 layers; B: one of [32, 2] and [16, 2].
    assert_eq!((counts.trained, counts.merged), (4 * 3 * 32 + 2 * (64 + 32), 4 * 32 + 2 * (64 + 32)));
    let stored = read_tensors(&golden_dir("llama-tiny").join("model.safetensors"));
    assert_eq!(counts.base, stored.values().map(|(_, data)| data.len()).sum::<usize>());
}

/// The folded model: every LoRA's delta added to the weights of a fresh copy of the directory.
fn folded(family: &str, merged: &CausalLm) -> CausalLm {
    let mut tensors = read_tensors(&golden_dir(family).join("model.safetensors"));
    for (site, placed) in merged.loras() {
        let Module::Merged(lora) = &placed.module else { panic!("{site} is not merged") };
        let (_, rest) = site.split_once('.').unwrap();
        let (layer, path) = rest.split_once('.').unwrap();
        let gpt2 = family.starts_with("gpt2");
        let path = path.strip_suffix(".qv").unwrap_or(path);
        let name = if gpt2 {
            format!("transformer.h.{layer}.{path}.weight")
        } else {
            format!("model.layers.{layer}.{path}.weight")
        };
        let (shape, data) = tensors.get_mut(&name).unwrap();
        // A target's own rows: blocks of a joint matrix count from the target's first row, but for GPT-2's fused one.
        let deltas = deltas(lora);
        let start = if gpt2 { 0 } else { deltas[0].0.start };
        for (columns, delta) in deltas {
            let (rows, d_in) = delta.dims2().unwrap();
            let delta: Vec<f64> = delta.flatten_all().unwrap().to_vec1().unwrap();
            for (i, j) in (0..rows).flat_map(|i| (0..d_in).map(move |j| (i, j))) {
                let row = columns.start - start + i;
                let at = if gpt2 { j * shape[1] + row } else { row * shape[1] + j };
                data[at] += delta[i * d_in + j] as f32;
            }
        }
    }
    let copy = variant(&golden_dir(family), &Map::new(), &tensors);
    load_as(copy.path(), None, DType::F32).unwrap()
}

#[test]
fn a_merged_lora_is_its_delta_folded_into_the_weights() {
    let (ids, offsets) = ids(&[3, 8]);
    for family in FAMILIES {
        for target in [&[][..], &["all-linear"]] {
            let mixture = MixtureConfig { sharing_up: false, use_rslora: true, ..lora(target) };
            let model = load(family, Some(&mixture));
            fill(model.params(), 0.4);
            let weights = MergeWeights::uniform(3);
            let factors = model.merged(&weights).unwrap();
            let deltas = model.with_loras(|site, lora| lora.merge_deltas(weights.site(site)?)).unwrap();
            let (a, b) = (logits(&factors, &ids, &offsets, None), logits(&deltas, &ids, &offsets, None));
            assert!(off(&a, &b) > 1e-3, "{family}: both averages give the same");
            for (what, merged, got) in [("factors", &factors, &a), ("deltas", &deltas, &b)] {
                let want = logits(&folded(family, merged), &ids, &offsets, None);
                assert_close(&format!("{family} {target:?} {what}"), got, &want, 1e-4, 1e-3);
            }
        }
    }
}

#[test]
fn lora_in_an_encoder_merges_into_its_weights() {
    let mut config = tiny::config(5);
    config.mixture =
        MixtureConfig { sharing_up: false, ..lora(&["query", "value", "output.dense", "intermediate.dense"]) };
    for family in [Family::Bert, Family::Roberta] {
        let model = tiny::classifier(&config, family, 3);
        assert_eq!(model.sites().len(), 15, "five of three layers: output.dense is the end of two names");
        fill(model.params(), 0.4);
        let batch = tiny::task(20, Problem::Classification).train.batch(&[0, 3, 5, 9, 11]);
        let merged = model.merged_own().unwrap();
        let got = merged.logits(&batch, None).unwrap();
        for (site, placed) in merged.loras() {
            assert!(matches!(placed.module, Module::Merged(_)), "{site}");
        }
        let bare = folded_classifier(&merged);
        assert!(bare.loras().is_empty());
        assert_close("folded", &bare.logits(&batch, None).unwrap(), &got, 1e-4, 1e-4);
        let route = Route::fixed(&config.mixture, 15, 1);
        let one = model.logits(&batch, Some(&route)).unwrap();
        assert!(off(&one, &got) > 1e-3, "the mean is not one expert");
        let expert = model.with_loras(|_, lora| lora.expert(1)).unwrap();
        assert_close("expert", &expert.logits(&batch, None).unwrap(), &one, 1e-5, 1e-5);
    }
}

fn run_config(mixture: MixtureConfig) -> RunConfig {
    let mut config = RunConfig { mixture, ..RunConfig::default() };
    config.train.learning_rate = 2e-2;
    config.train.label_smoothing = 0.1;
    config.train.max_steps = 30;
    config
}

/// Sequences in which every token follows from the one before.
fn lesson_batch() -> TextBatch {
    let (ids, offsets, learn) = lessons();
    TextBatch { ids, rows: (1..offsets.len()).collect(), offsets, learn }
}

fn lessons() -> (Vec<u32>, Vec<usize>, Vec<bool>) {
    let offsets = vec![0, 6, 14, 19];
    let ids = offsets.windows(2).flat_map(|w| (0..(w[1] - w[0]) as u32).map(move |i| 4 + (w[0] as u32 + i) % 9));
    (ids.collect(), offsets, vec![true; 19])
}

#[test]
fn a_language_model_learns_and_its_merge_keeps_it() {
    for (family, kind, target) in [
        ("llama-tiny", MixtureKind::Lora, &["all-linear"][..]),
        ("gpt2-tiny", MixtureKind::Lora, &["qv", "c_fc"]),
        ("qwen3-tiny", MixtureKind::Adapter, &[]),
    ] {
        let mixture = MixtureConfig { kind, adapter_size: 4, lora_dropout: 0.05, ..lora(target) };
        let mut config = run_config(mixture);
        config.model.trunk_dropout = false;
        let model = load(family, Some(&config.mixture));
        let batch = lesson_batch();
        let mut optimizer = AdamW::new(model.params()).unwrap();
        let mut losses = Vec::new();
        for step in 0..30 {
            let at = StepIndex::new(step, 30);
            let done = step::step(&config, &model, &mut optimizer, at, |_| Ok(batch.clone())).unwrap();
            assert_eq!((done.targets, done.tokens, done.routes.len()), (16, 38, 1));
            losses.push(done.loss.task);
        }
        let merged = model.merged_own().unwrap();
        let (rows, targets) = Packed::from(&batch).targets(&batch.learn);
        let nll = |model: &CausalLm| {
            let (hidden, _) = model.forward(Packed::from(&batch), Some(&rows), ForwardOptions::eval()).unwrap();
            model.loss(&hidden, &targets, crate::plain_loss()).unwrap().rows.read().unwrap().total
        };
        let (before, after) = (nll(&load(family, None)), nll(&merged));
        println!("{family}: {before:.3} before, {:.3} in the last step, {after:.3} merged", losses[29]);
        assert!(after < 0.8 * before, "{family}: {before} before, {after} merged");
    }
}

#[test]
fn steps_are_replayed_bit_for_bit_and_accumulation_is_one_large_batch() {
    let mut mixture = lora(&[]);
    mixture.lora_dropout = 0.3;
    let config = run_config(mixture);
    let model = load("gpt2-tiny", Some(&config.mixture));
    fill(model.params(), 0.4);
    let batch = lesson_batch();
    let run = |config: &RunConfig, index: u64| {
        let route = step::draw_route(config, &model, model.size(&batch), index);
        let (loss, grads) = step::forward_backward(config, &model, &batch, route.as_ref(), index).unwrap();
        let grads: Vec<f32> = grads.iter().flat_map(|(_, _, g)| values(g)).collect();
        (loss.read().unwrap(), grads)
    };
    let (a, b, other) = (run(&config, 7), run(&config, 7), run(&config, 8));
    assert_eq!(a, b);
    assert_ne!(a.0.total, other.0.total, "another step drops other inputs");

    // Without chance in routes and masks, two micro-batches are one batch.
    let mut config = config;
    (config.mixture.routing, config.mixture.lora_dropout) = (RoutingPolicy::Fixed, 0.0);
    config.model.trunk_dropout = false;
    let made = |config: &RunConfig, parts: &[[usize; 2]]| {
        let mut config = config.clone();
        config.train.gradient_accumulation_steps = parts.len();
        config.train.max_grad_norm = 0.0;
        let model = load("gpt2-tiny", Some(&config.mixture));
        fill(model.params(), 0.4);
        let mut optimizer = AdamW::new(model.params()).unwrap();
        let batch_of = |index: u64| {
            let [first, last] = parts[index as usize];
            let (start, end) = (batch.offsets[first], batch.offsets[last]);
            let offsets: Vec<usize> = batch.offsets[first..=last].iter().map(|o| o - start).collect();
            let (ids, learn) = (batch.ids[start..end].to_vec(), batch.learn[start..end].to_vec());
            Ok(TextBatch { ids, offsets, learn, rows: (first..last).collect() })
        };
        let at = StepIndex::new(0, 30);
        let done = step::step(&config, &model, &mut optimizer, at, batch_of).unwrap();
        (done.loss.total, done.grads.iter().flat_map(|(_, _, g)| values(g)).collect::<Vec<f32>>())
    };
    let (one, two) = (made(&config, &[[0, 3]]), made(&config, &[[0, 1], [1, 3]]));
    assert!((one.0 - two.0).abs() < 1e-5, "{} {}", one.0, two.0);
    assert_close("accumulated", &two.1, &one.1, 1e-4, 1e-5);
    let nothing = TextBatch { learn: vec![false; batch.ids.len()], ..batch };
    assert!(step::forward_backward(&config, &model, &nothing, None, 0).is_err(), "nothing to learn");
}

#[test]
fn double_precision_takes_the_plain_path_to_the_same_gradients() {
    let (ids, offsets, wanted) = lessons();
    let batch = Packed { ids: &ids, offsets: &offsets };
    let (rows, targets) = batch.targets(&wanted);
    for family in FAMILIES {
        for (kind, routing) in [
            (MixtureKind::Lora, RoutingPolicy::PerExample),
            (MixtureKind::Lora, RoutingPolicy::PerToken),
            (MixtureKind::Adapter, RoutingPolicy::PerBatch),
        ] {
            let mixture = MixtureConfig { kind, routing, adapter_size: 3, lora_dropout: 0.2, ..lora(&["all-linear"]) };
            let run = |dtype: DType| {
                let model = load_as(&golden_dir(family), Some(&mixture), dtype).unwrap();
                fill(model.params(), 0.4);
                let shape =
                    adamix::mixture::RouteShape { passes: 2, sites: model.sites().len(), sequences: 3, tokens: 19 };
                let route = Route::draw(&mixture, SeedStream::new(2), Purpose::Routing, 5, shape);
                let keys = Some(DropKeys::new(SeedStream::new(4), 3));
                let run = ForwardOptions {
                    passes: 2,
                    route: Some(&route),
                    drop: keys,
                    lora_drop: keys,
                    keep: true,
                    ..ForwardOptions::eval()
                };
                let (hidden, trace) = model.forward(batch, Some(&rows), run).unwrap();
                let o = Objective { passes: 2, weight: 2.0, gradient: true, ..crate::plain_loss() };
                let loss = model.loss(&hidden, &targets, o).unwrap();
                let grads = model.backward(trace.unwrap(), loss.grad.as_ref().unwrap()).unwrap();
                let grads: Vec<Vec<f32>> = grads.iter().map(|(_, _, g)| values(g)).collect();
                (loss.rows.read().unwrap().total, grads)
            };
            let (fast, plain) = (run(DType::F32), run(DType::F64));
            let what = format!("{family} {kind:?} {routing:?}");
            assert!((fast.0 - plain.0).abs() < 1e-4 * plain.0.abs(), "{what}: {} {}", fast.0, plain.0);
            assert_eq!(fast.1.len(), plain.1.len(), "{what}");
            for (i, (a, b)) in fast.1.iter().zip(&plain.1).enumerate() {
                let largest = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
                let apart = off(a, b) / f64::from(largest);
                assert!(apart < 1e-3, "{what}: gradient {i} is off by {apart:.1e} of its largest");
            }
        }
    }
}

#[test]
fn layers_run_again_give_the_same_bits() {
    for (family, kind) in [("gpt2-tiny", MixtureKind::Adapter), ("qwen3-tiny", MixtureKind::Lora)] {
        let config = run_config(MixtureConfig { kind, adapter_size: 3, lora_dropout: 0.2, ..lora(&["all-linear"]) });
        let model = load(family, Some(&config.mixture));
        fill(model.params(), 0.4);
        let batch = lesson_batch();
        assert_recompute_changes_no_bit(family, &config, &model, &batch);
    }
}

#[test]
fn matrices_in_bf16_are_rounded_and_trained_through() {
    let (ids, offsets, wanted) = lessons();
    let batch = Packed { ids: &ids, offsets: &offsets };
    let (rows, targets) = batch.targets(&wanted);
    for family in FAMILIES {
        let mixture = lora(&["all-linear"]);
        let run = |dtype: DType| {
            let model = load_as(&golden_dir(family), Some(&mixture), dtype).unwrap();
            assert!(model.params().iter().all(|p| p.value.dtype() == DType::F32));
            fill(model.params(), 0.4);
            let route = Route { passes: 1, ..Route::fixed(&mixture, model.sites().len(), 1) };
            let run = ForwardOptions { route: Some(&route), keep: true, ..ForwardOptions::eval() };
            let (hidden, trace) = model.forward(batch, Some(&rows), run).unwrap();
            let loss = model.loss(&hidden, &targets, Objective { gradient: true, ..crate::plain_loss() }).unwrap();
            let grads = model.backward(trace.unwrap(), loss.grad.as_ref().unwrap()).unwrap();
            let grads: Vec<f32> = grads.iter().flat_map(|(_, _, g)| values(g)).collect();
            (loss.rows.read().unwrap().total, grads)
        };
        let (whole, half) = (run(DType::F32), run(DType::BF16));
        let apart = (whole.0 - half.0).abs() / whole.0;
        assert!(apart > 0.0 && apart < 0.1, "{family}: loss {} in f32, {} in bf16", whole.0, half.0);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(&whole.1, &half.1) / (dot(&whole.1, &whole.1) * dot(&half.1, &half.1)).sqrt();
        assert!(cosine > 0.95, "{family}: gradients point {cosine} alike");
    }
}
