//! GGUF adapters and models.

use super::{
    FAMILIES, base, damage_at, json_of, logits, merged_with, meta, modules, random, same, settings, with_modules,
    write_tokenizer,
};
use crate::golden::off;
use crate::support::exported;
use adamix::artifact::certificate::Probe;
use adamix::artifact::export::ExportTarget;
use adamix::artifact::export::base::{BaseFiles, BaseKind};
use adamix::artifact::export::gguf_adapter;
use adamix::artifact::export::gguf_model::{self, GgufModel};
use adamix::artifact::export::hf;
use adamix::config::MixtureConfig;
use adamix::data::gguf::{describe, tokenizer};
use adamix::model::LmSource;
use adamix::model::decoder::DecoderFamily;
use adamix::tensor::gguf::{self, GgufFile, GgufValue};
use adamix::tensor::{HostTensor, NumberFormat, TensorPlan};
use serde_json::json;
use std::borrow::Cow;

#[test]
fn an_adapter_comes_back_with_the_same_logits() {
    for family in FAMILIES {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        for use_rslora in [false, true] {
            let mixture = MixtureConfig { use_rslora, ..settings(&["all-linear"]) };
            let merged = random(&dir, &mixture).merged_own().unwrap();
            let (want, modules, spec) = (logits(&merged), modules(&merged), &merged.base.spec);
            let out = place.path().join(format!("{use_rslora}"));
            exported::gguf_adapter(&out, &modules, spec, &meta(&merged, &mixture, NumberFormat::F32)).unwrap();
            assert_eq!(ExportTarget::of(&out).unwrap(), ExportTarget::GgufAdapter);
            let file = out.join(gguf_adapter::FILE);
            let mut run = || Ok(with_modules(&dir, &gguf_adapter::read(&file, spec)?.0));
            let probe = Probe { logits: &want, outputs: 32 };
            let proof =
                gguf_adapter::certify(&out, &modules, spec, NumberFormat::F32, Some((probe, &mut run))).unwrap();
            assert!(proof.passed, "{family}: {:?}", proof.problems);

            let header = GgufFile::open(&file).unwrap();
            assert_eq!(header.str("general.type"), Some("adapter"));
            assert_eq!(header.str("adapter.type"), Some("lora"));
            let llama = matches!(spec.family, DecoderFamily::Llama | DecoderFamily::Mistral);
            let architecture = if llama { "llama" } else { spec.family.model_type() };
            assert_eq!(header.str("general.architecture"), Some(architecture));
            let alpha = header.float("adapter.lora.alpha").unwrap();
            assert!(alpha > 0.0 && (use_rslora || (alpha - 3.0).abs() < 1e-6), "alpha {alpha}");
            if spec.family == DecoderFamily::Gpt2 {
                // Outputs first, although the checkpoint has its matrices the other way round.
                assert_eq!(header.tensors["blk.1.ffn_up.weight.lora_b"].shape, [64, 2]);
                assert_eq!(header.tensors["blk.0.attn_qkv.weight.lora_a"].shape, [2, 16]);
                continue;
            }
            // B of q: in the Llama architecture its rows stand in another order, elsewhere in their own.
            let b = GgufFile::open(&file).unwrap().read("blk.0.attn_q.weight.lora_b").unwrap();
            let ours = modules.iter().find(|m| m.name() == "layers.0.self_attn.q_proj").unwrap();
            assert_eq!(b.data != ours.b, llama, "{family}");
            if llama {
                let half = spec.head_dim / 2;
                assert_eq!(b.data[2..4], ours.b[half * 2..half * 2 + 2], "row 1 is the first of the second half");
                // Read as if nothing had changed places, the adapter says something else.
                let mut wrong = gguf_adapter::read(&file, spec).unwrap().0;
                let q = wrong.iter_mut().find(|m| m.name() == "layers.0.self_attn.q_proj").unwrap();
                q.b = b.data;
                assert!(off(&with_modules(&dir, &wrong), &want) > 1e-3);
            }
        }
    }
}

#[test]
fn different_scales_go_into_b() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("qwen2-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let mut modules = modules(&merged);
    modules[1].scale = 0.25;
    modules[2].scale = 0.0;
    let want = with_modules(&dir, &modules);
    let out = place.path().join("out");
    exported::gguf_adapter(&out, &modules, &merged.base.spec, &meta(&merged, &mixture, NumberFormat::F32)).unwrap();
    let (back, _) = gguf_adapter::read(&out.join(gguf_adapter::FILE), &merged.base.spec).unwrap();
    same("three scales", &with_modules(&dir, &back), &want, 5e-5);
    assert!(back.iter().all(|module| module.scale == 1.5), "one alpha for the file");
    let llama = tempfile::tempdir().unwrap();
    let other = random(&base("llama-tiny", llama.path()), &mixture);
    let err = gguf_adapter::read(&out.join(gguf_adapter::FILE), &other.base.spec).unwrap_err().to_string();
    assert!(err.contains("not a LoRA for this model"), "{err}");
}

#[test]
fn a_model_is_written_tensor_by_tensor_and_proven() {
    for family in FAMILIES {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        let mixture = settings(&["all-linear"]);
        let merged = random(&dir, &mixture).merged_own().unwrap();
        let modules = modules(&merged);
        for store in [NumberFormat::F32, NumberFormat::F16, NumberFormat::Q8_0] {
            let out = place.path().join(store.name());
            merged_with(&dir, &modules, |all, source| {
                let info = meta(&merged, &mixture, NumberFormat::F32);
                let model = GgufModel::new(all, &source.spec, BaseFiles::Dir(&dir), &info, store).unwrap();
                exported::gguf(&out, &model).unwrap();
                let proof = gguf_model::certify(&out, &model, store, None).unwrap();
                assert!(proof.passed, "{family} {store:?}: {:?}", proof.problems);
                assert_eq!(proof.stored_as.as_deref(), (store == NumberFormat::Q8_0).then_some("Q8_0"));
                let file = out.join(gguf_model::FILE);
                let header = GgufFile::open(&file).unwrap();
                assert!(header.tensors.values().all(|tensor| tensor.offset % 32 == 0));
                assert_eq!(header.tensors.contains_key("output.weight"), !source.spec.tied);
                assert_eq!(header.tensors.contains_key("rope_freqs.weight"), family == "llama-tiny");
                let norm = &header.tensors["blk.0.attn_norm.weight"];
                assert_eq!(norm.dtype, 0, "vectors stay in 32 bits");
                let (read, specials) = tokenizer(&header).unwrap();
                let ids = read.encode("abc b", false).unwrap();
                assert_eq!(ids.get_ids(), [31, 29, 4], "the tokenizer came along");
                assert_eq!(
                    (specials.bos, specials.eos, specials.chat_template.as_deref()),
                    (Some(1), Some(2), Some("{{ messages }}"))
                );
                for name in ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight"] {
                    let whole = std::fs::read(&file).unwrap();
                    damage_at(&file, header.tensors[name].offset as usize + 3);
                    let proof = gguf_model::certify(&out, &model, store, None).unwrap();
                    let named = proof.problems.iter().any(|problem| problem.starts_with(name));
                    assert!(!proof.passed && named, "{family} {store:?} {name}: {:?}", proof.problems);
                    std::fs::write(&file, whole).unwrap();
                }
            });
            if store == NumberFormat::F32 {
                // Metadata carried over byte for byte, from this file as a base.
                let entries = GgufFile::open(&out.join(gguf_model::FILE)).unwrap().raw_metadata().unwrap();
                assert!(
                    entries.iter().any(|(key, value)| key == "tokenizer.ggml.merges"
                        && matches!(value, GgufValue::Raw { kind: 9, .. }))
                );
            }
        }
    }
}

#[test]
fn blocks_of_eight_bits_round_as_they_should() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.gguf");
    let data: Vec<f32> = (0..128).map(|i| ((i * 37) % 64) as f32 / 7.0 - 4.0).collect();
    let tensor = HostTensor::new("x.weight", [2, 64], data.clone()).unwrap();
    let plan = [TensorPlan {
        name: "x.weight".to_owned(),
        shape: vec![2, 64],
        format: NumberFormat::Q8_0.for_shape(&[2, 64]),
    }];
    let entries = vec![("general.architecture".to_owned(), "llama".into())];
    gguf::write(&file, &entries, &plan, &mut |_| Ok(Cow::Borrowed(&tensor))).unwrap();
    let open = GgufFile::open(&file).unwrap();
    assert_eq!(open.tensors["x.weight"].dtype, 8);
    let read = open.read("x.weight").unwrap();
    assert_eq!(read.data, tensor.rounded(NumberFormat::Q8_0).unwrap());
    for (block, (got, want)) in read.data.chunks(32).zip(data.chunks(32)).enumerate() {
        let step = want.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 0.51 * step), "block {block}");
    }
    assert_eq!(NumberFormat::Q8_0.for_shape(&[4, 40]), NumberFormat::F16);
    let huge = HostTensor::new("x.weight", [2, 64], vec![1e9; 128]).unwrap();
    let err = gguf::write(&file, &entries, &plan, &mut |_| Ok(Cow::Borrowed(&huge))).unwrap_err().to_string();
    assert!(err.contains("x.weight does not fit into Q8_0"), "{err}");
    assert_eq!(GgufFile::open(&file).unwrap().read("x.weight").unwrap().data, read.data, "the old file stays");
}

#[test]
fn tokenizers_without_a_place_are_refused_in_words() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("llama-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let info = meta(&merged, &mixture, NumberFormat::F32);
    let refusal = || {
        merged_with(&dir, &modules(&merged), |all, source| {
            GgufModel::new(all, &source.spec, BaseFiles::Dir(&dir), &info, NumberFormat::F16).err().unwrap().to_string()
        })
    };
    write_tokenizer(&dir, &json!({ "type": "Whitespace" }));
    assert!(refusal().contains("way to cut words"));
    let path = dir.join("tokenizer.json");
    let mut json = json_of(&path);
    json["model"]["byte_fallback"] = json!(true);
    std::fs::write(&path, json.to_string()).unwrap();
    assert!(refusal().contains("SentencePiece"));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal().contains("carries its tokenizer"));
    std::fs::write(dir.join("tokenizer.model"), "x").unwrap();
    assert!(refusal().contains("only tokenizer.model"));
    std::fs::write(dir.join("vocab.json"), json!({ "a": 0, "b": 99 }).to_string()).unwrap();
    std::fs::write(dir.join("merges.txt"), "#version: 0.2\n").unwrap();
    assert!(refusal().contains("below the model's vocabulary of 32"));
}

#[test]
fn a_gguf_base_gives_its_metadata_and_tokenizer_to_both_kinds_of_models() {
    for family in FAMILIES {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        let mixture = settings(&[]);
        let merged = random(&dir, &mixture).merged_own().unwrap();
        let (want, modules, info) = (logits(&merged), modules(&merged), meta(&merged, &mixture, NumberFormat::F32));
        merged_with(&dir, &modules, |all, source| {
            let (spec, kind) = (&source.spec, BaseKind::Decoder(&source.spec));
            let first = place.path().join("first");
            exported::gguf(&first, &GgufModel::new(all, spec, BaseFiles::Dir(&dir), &info, NumberFormat::F16).unwrap())
                .unwrap();
            let file = first.join(gguf_model::FILE);

            let second = place.path().join("second");
            let model = GgufModel::new(all, spec, BaseFiles::Gguf(&file), &info, NumberFormat::F32).unwrap();
            exported::gguf(&second, &model).unwrap();
            assert!(gguf_model::certify(&second, &model, NumberFormat::F32, None).unwrap().passed);
            let carried = GgufFile::open(&second.join(gguf_model::FILE)).unwrap().raw_metadata().unwrap();
            for (key, value) in GgufFile::open(&file).unwrap().raw_metadata().unwrap() {
                let same = carried.iter().any(|(k, v)| *k == key && *v == value);
                assert_eq!(same, key != "general.file_type", "{family}: {key}");
            }

            let third = place.path().join("third");
            let written = exported::hf(&third, all, kind, BaseFiles::Gguf(&file), &info, hf::SHARD);
            if family == "llama-tiny" {
                let err = written.unwrap_err().to_string();
                assert!(err.contains("rotary frequencies are of no known kind") && !third.exists(), "{err}");
                return;
            }
            written.unwrap();
            same(family, &with_modules(&third, &[]), &want, 5e-5);
            let again = LmSource::open(&third).unwrap().spec;
            assert_eq!((again.eos.clone(), again.bos, again.tied), (spec.eos.clone(), spec.bos, spec.tied));
            let found = describe::describe(&third, 32).unwrap();
            assert_eq!(found, describe::describe(&dir, 32).unwrap(), "{family}: the same tokenizer");
        });
    }
}
