//! Everything that other programs are to load, with the logits they have to give.
//!
//! The scripts `peft_check.py` and `gguf_check.py` in `tests/golden` set `ADAMIX_EXPORT_DIR` and run these tests; without
//! it they write to a temporary directory and check what can be checked here.

use super::{FAMILIES, IDS, OFFSETS, base, logits, merged_with, meta, modules, random, same, settings};
use crate::golden::{golden_dir, load, off};
use crate::support::{exported, fill};
use adamix::artifact::certificate::{Probe, certify};
use adamix::artifact::export::base::{BaseFiles, BaseKind};
use adamix::artifact::export::gguf_model::{self, GgufModel};
use adamix::artifact::export::hf;
use adamix::artifact::export::{ExportMeta, Recipe};
use adamix::artifact::import;
use adamix::config::{Method, MixtureConfig};
use adamix::data::{Batch, Labels};
use adamix::mixture::Route;
use adamix::model::decoder::targets::lora_targets;
use adamix::model::{Classifier, ModelSource, Network as _, Packed, encoder};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{HostTensor, NumberFormat, safetensors};
use adamix::workflow::export::modules::{compose, with_adapter};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where to write, and what keeps a temporary place alive.
fn place(family: &str) -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os("ADAMIX_EXPORT_DIR") {
        Some(dir) => {
            let dir = PathBuf::from(dir).join(family);
            std::fs::create_dir_all(&dir).unwrap();
            (dir, None)
        }
        None => {
            let dir = tempfile::tempdir().unwrap();
            (dir.path().to_owned(), Some(dir))
        }
    }
}

fn sequences() -> Vec<&'static [u32]> {
    OFFSETS.windows(2).map(|w| &IDS[w[0]..w[1]]).collect()
}

/// A random Llama whose rows are whole blocks of 32.
pub fn wide(place: &Path) -> PathBuf {
    let dir = place.join("base");
    std::fs::create_dir(&dir).unwrap();
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "vocab_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    super::write_tokenizer(
        &dir,
        &json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true }),
    );
    let mut stream = SeedStream::new(5).stream(Purpose::Init, 2);
    let mut tensor = |name: String, shape: &[usize]| {
        let scale = if shape.len() == 1 { 0.3 } else { 1.2 / (shape[1] as f64).sqrt() };
        let mut data = stream.normal_vec(shape.iter().product(), scale);
        if shape.len() == 1 {
            data.iter_mut().for_each(|value| *value += 1.0);
        }
        HostTensor::new(name, shape, data).unwrap()
    };
    let mut all = vec![
        tensor("model.embed_tokens.weight".to_owned(), &[32, 64]),
        tensor("model.norm.weight".to_owned(), &[64]),
        tensor("lm_head.weight".to_owned(), &[32, 64]),
    ];
    for layer in 0..2 {
        let parts: [(&str, &[usize]); 9] = [
            ("self_attn.q_proj", &[64, 64]),
            ("self_attn.k_proj", &[32, 64]),
            ("self_attn.v_proj", &[32, 64]),
            ("self_attn.o_proj", &[64, 64]),
            ("mlp.gate_proj", &[96, 64]),
            ("mlp.up_proj", &[96, 64]),
            ("mlp.down_proj", &[64, 96]),
            ("input_layernorm", &[64]),
            ("post_attention_layernorm", &[64]),
        ];
        all.extend(parts.map(|(part, shape)| tensor(format!("model.layers.{layer}.{part}.weight"), shape)));
    }
    safetensors::write(&dir.join("model.safetensors"), &all, NumberFormat::F32, &Default::default()).unwrap();
    dir
}

#[test]
fn language_models_for_other_programs() {
    for family in FAMILIES.into_iter().chain(["llama-wide"]) {
        let (place, _keep) = place(family);
        let dir = if family == "llama-wide" { wide(&place) } else { base(family, &place) };
        let mixture = if family == "gpt2-tiny" {
            settings(&["c_attn.qv", "mlp.c_fc"])
        } else {
            settings(&["q_proj", "k_proj", "v_proj", "down_proj"])
        };
        let model = random(&dir, &mixture);
        let merged = model.merged_own().unwrap();
        let (targets, modules) = (lora_targets(&model.base.spec), modules(&merged));
        let info = ExportMeta { base_model: dir.display().to_string(), ..meta(&merged, &mixture, NumberFormat::F32) };
        exported::peft(&place.join("peft"), &modules, &[], &info).unwrap();
        let experts: Vec<_> = (0..3).map(|e| compose(&model.loras(), &targets, Some(e)).unwrap()).collect();
        exported::peft_experts(&place.join("peft_experts"), &experts, &[], &info).unwrap();
        exported::gguf_adapter(&place.join("gguf_adapter"), &modules, &model.base.spec, &info).unwrap();
        merged_with(&dir, &modules, |all, source| {
            let kind = BaseKind::Decoder(&source.spec);
            exported::hf(&place.join("hf"), all, kind, BaseFiles::Dir(&dir), &info, hf::SHARD).unwrap();
            exported::hf(&place.join("hf_shards"), all, kind, BaseFiles::Dir(&dir), &info, 4000).unwrap();
            let half = ExportMeta { dtype: NumberFormat::Bf16, ..info.clone() };
            exported::hf(&place.join("hf_bf16"), all, kind, BaseFiles::Dir(&dir), &half, hf::SHARD).unwrap();
            for store in [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16, NumberFormat::Q8_0] {
                let file = GgufModel::new(all, &source.spec, BaseFiles::Dir(&dir), &info, store).unwrap();
                let out = place.join(format!("gguf_{}", store.name()));
                exported::gguf(&out, &file).unwrap();
                let proof = gguf_model::certify(&out, &file, store, None).unwrap();
                assert!(proof.passed, "{family}: {:?}", proof.problems);
                if family == "llama-wide" {
                    let planned = file.plan().iter().filter(|planned| planned.shape.len() == 2);
                    assert!(planned.into_iter().all(|planned| planned.format == store), "all rows are whole blocks");
                }
            }
        });
        let fixed = |e| {
            let route = Route::fixed(&mixture, model.sites().len(), e);
            let all = model.logits(Packed { ids: &IDS, offsets: &OFFSETS }, None, Some(&route)).unwrap();
            all.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let expected = json!({ "ids": sequences(), "outputs": 32, "merged": logits(&merged), "experts": (0..3).map(fixed).collect::<Vec<_>>() });
        std::fs::write(place.join("expected.json"), expected.to_string()).unwrap();
    }
}

fn batch() -> Batch {
    Batch {
        ids: IDS.to_vec(),
        type_ids: vec![0; IDS.len()],
        offsets: OFFSETS.to_vec(),
        labels: Labels::Classes(vec![0, 1]),
        rows: vec![0, 1],
    }
}

fn head(model: &Classifier) -> Vec<HostTensor> {
    let host = |p: &adamix::nn::Param| {
        HostTensor::new(p.name.clone(), p.value.dims(), p.value.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .unwrap()
    };
    model.params().iter().filter(|p| !p.bank).map(host).collect()
}

fn bare(dir: &Path) -> Classifier {
    load(dir, Method::HeadOnly, &MixtureConfig::default(), 3)
}

#[test]
fn classifiers_with_heads_for_other_programs() {
    for family in ["roberta-tiny", "bert-tiny"] {
        let (place, _keep) = place(family);
        let dir = golden_dir(family);
        let mixture = settings(&["query", "value", "output.dense"]);
        let model = load(&dir, Method::Adamix, &mixture, 3);
        fill(model.params(), 0.3);
        let merged = model.merged_own().unwrap();
        let want = merged.logits(&batch(), None).unwrap();
        let head = head(&model);
        let targets = encoder::lora_targets(&model.base.spec);
        let modules = compose(&merged.loras(), &targets, None).unwrap();
        let info = ExportMeta {
            base_model: dir.display().to_string(),
            model_type: model.base.spec.family.prefix().to_owned(),
            hidden_size: 20,
            mixture: mixture.clone(),
            labels: ["no", "maybe", "yes"].map(str::to_owned).to_vec(),
            weights: None,
            recipe: Recipe::uniform(3),
            chat: None,
            dtype: NumberFormat::F32,
        };
        let out = place.join("peft");
        exported::peft(&out, &modules, &head, &info).unwrap();
        let adapter = import::peft::read(&out).unwrap();
        assert_eq!(adapter.lora.head.len(), head.len(), "{family}");
        let mut originals: Vec<HostTensor> = modules.iter().flat_map(|m| m.tensors().unwrap()).collect();
        originals.extend(head.iter().cloned());
        let run = |_: &[HostTensor]| with_adapter(&bare(&dir), &import::peft::read(&out)?.lora)?.logits(&batch(), None);
        let proof = certify(&out, &originals, NumberFormat::F32, Probe { logits: &want, outputs: 3 }, run).unwrap();
        assert!(proof.passed, "{family}: {:?}", proof.problems);
        // Without the head it is another model.
        let headless = exported::adapter(&adapter.lora.modules, &[]);
        assert!(off(&with_adapter(&bare(&dir), &headless).unwrap().logits(&batch(), None).unwrap(), &want) > 1e-2);

        let experts: Vec<_> = (0..3).map(|e| compose(&model.loras(), &targets, Some(e)).unwrap()).collect();
        exported::peft_experts(&place.join("peft_experts"), &experts, &head, &info).unwrap();
        let whole = place.join("hf");
        let source = ModelSource::open(dir.to_str().unwrap()).unwrap();
        let kind = BaseKind::Encoder(&info.model_type);
        let all = exported::merged(&source.weights, kind, &modules, &head).unwrap();
        exported::hf(&whole, &all, kind, BaseFiles::Dir(&dir), &info, hf::SHARD).unwrap();
        let mut rerun = || bare(&whole).logits(&batch(), None);
        let proof =
            hf::certify(&whole, &all, NumberFormat::F32, Some((Probe { logits: &want, outputs: 3 }, &mut rerun)))
                .unwrap();
        assert!(proof.passed, "{family}: {:?}", proof.problems);
        same(family, &bare(&whole).logits(&batch(), None).unwrap(), &want, 5e-5);
        let config = super::json_of(&whole.join("config.json"));
        assert_eq!(config["id2label"], json!({ "0": "no", "1": "maybe", "2": "yes" }));

        let fixed = |e| model.logits(&batch(), Some(&Route::fixed(&mixture, model.sites().len(), e))).unwrap();
        let expected = json!({ "ids": sequences(), "outputs": 3, "merged": want, "experts": (0..3).map(fixed).collect::<Vec<_>>() });
        std::fs::write(place.join("expected.json"), expected.to_string()).unwrap();
    }
}
