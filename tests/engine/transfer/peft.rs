//! PEFT directories.

use super::{FAMILIES, base, decoder, json_of, logits, meta, modules, random, same, settings, with_modules};
use crate::golden::off;
use crate::support::exported;
use adamix::artifact::certificate::{Probe, certify};
use adamix::artifact::export::ExportTarget;
use adamix::artifact::import::{self, Kind};
use adamix::config::MixtureConfig;
use adamix::mixture::Route;
use adamix::model::decoder::targets::lora_targets;
use adamix::model::{Network as _, Packed};
use adamix::tensor::{NumberFormat, safetensors};
use adamix::workflow::export::modules::{compose, place_in_decoder};
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn a_directory_gives_the_same_logits_in_every_family_and_layout() {
    let gpt2: [&[&str]; 4] = [&[], &["q", "v", "attn.c_proj"], &["c_attn.qv", "mlp.c_fc"], &["all-linear"]];
    let llama: [&[&str]; 3] = [&[], &["k_proj", "down_proj", "gate_proj"], &["all-linear"]];
    for family in FAMILIES {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        let plain = logits(&place_in_decoder(decoder(&dir), &[]).unwrap());
        let layouts: &[&[&str]] = if family.starts_with("gpt2") { &gpt2 } else { &llama };
        for (number, target) in layouts.iter().enumerate() {
            for use_rslora in [false, true] {
                let mixture = MixtureConfig { use_rslora, ..settings(target) };
                let merged = random(&dir, &mixture).merged_own().unwrap();
                let want = logits(&merged);
                assert!(off(&want, &plain) > 0.05, "{family} {target:?}: the LoRA says something");
                let out = place.path().join(format!("{number}-{use_rslora}"));
                exported::peft(&out, &modules(&merged), &[], &meta(&merged, &mixture, NumberFormat::F32)).unwrap();
                assert_eq!(ExportTarget::of(&out).unwrap(), ExportTarget::Peft);
                assert_eq!(import::kind_of(&out).unwrap(), Kind::Peft);
                let adapter = import::peft::read(&out).unwrap();
                assert_eq!(adapter.use_rslora, use_rslora);
                same(&format!("{family} {target:?}"), &with_modules(&dir, &adapter.lora.modules), &want, 5e-5);
                // What a wrong scale would do is far above that.
                let mut wrong = adapter.lora.modules.clone();
                wrong.iter_mut().for_each(|module| module.scale *= 1.1);
                assert!(off(&with_modules(&dir, &wrong), &want) > 1e-3);
            }
        }
    }
}

#[test]
fn the_configuration_is_peft_s() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("gpt2-tiny", place.path());
    let mixture = settings(&["c_attn.qv", "mlp.c_fc", "mlp.c_proj"]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let out = place.path().join("out");
    exported::peft(&out, &modules(&merged), &[], &meta(&merged, &mixture, NumberFormat::Bf16)).unwrap();
    let config = json_of(&out.join("adapter_config.json"));
    for (key, value) in [
        ("peft_type", json!("LORA")),
        ("task_type", json!("CAUSAL_LM")),
        ("base_model_name_or_path", json!("models/tiny")),
        ("r", json!(2)),
        ("lora_alpha", json!(3)),
        ("lora_dropout", json!(0.1)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("none")),
        ("modules_to_save", Value::Null),
        ("target_modules", json!(["attn.c_attn", "mlp.c_fc", "mlp.c_proj"])),
        // Two blocks: twice the rank, and twice the alpha for the same scale.
        ("rank_pattern", json!({ "transformer.h.0.attn.c_attn": 4, "transformer.h.1.attn.c_attn": 4 })),
        ("alpha_pattern", json!({ "transformer.h.0.attn.c_attn": 6, "transformer.h.1.attn.c_attn": 6 })),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let file = safetensors::SafetensorsFile::open(&out.join("adapter_model.safetensors")).unwrap();
    assert_eq!(file.metadata()["format"], "pt");
    let b = file.read("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight").unwrap();
    assert_eq!((b.shape.as_slice(), file.entries()[0].format()), ([48, 4].as_slice(), NumberFormat::Bf16));
    assert!(b.data[16 * 4..32 * 4].iter().all(|value| *value == 0.0), "the rows of k are zero");
    assert!(
        b.data[..2].iter().any(|value| *value != 0.0) && b.data[2..4] == [0.0, 0.0],
        "q reads the first block of A"
    );
}

#[test]
fn every_expert_is_an_adapter_and_all_are_a_mixture_again() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("llama-tiny", place.path());
    let mixture = settings(&[]);
    let model = random(&dir, &mixture);
    let targets = lora_targets(&model.base.spec);
    let all: Vec<_> = (0..3).map(|expert| compose(&model.loras(), &targets, Some(expert)).unwrap()).collect();
    let out = place.path().join("experts");
    exported::peft_experts(&out, &all, &[], &meta(&model, &mixture, NumberFormat::F32)).unwrap();
    assert_eq!(ExportTarget::of(&out).unwrap(), ExportTarget::PeftExperts);
    let mut read = Vec::new();
    for expert in 0..3 {
        let adapter = import::peft::read(&out.join(format!("expert_{expert}"))).unwrap();
        let route = Route::fixed(&mixture, model.sites().len(), expert);
        let batch = Packed { ids: &super::IDS, offsets: &super::OFFSETS };
        let want = model.logits(batch, None, Some(&route)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        same(&format!("expert {expert}"), &with_modules(&dir, &adapter.lora.modules), &want, 5e-5);
        read.push(adapter.lora.modules);
    }
    let banks = import::as_experts(&read).unwrap();
    for param in model.params().iter() {
        let bank = banks.iter().find(|bank| bank.name == param.name).unwrap();
        assert_eq!(bank.shape, param.value.dims(), "{}: the shared side is one", param.name);
        assert_eq!(bank.data, param.value.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    read[1].pop();
    assert!(import::as_experts(&read).unwrap_err().to_string().contains("adapter 1 differs"));
}

#[test]
fn an_export_is_proven_and_damage_is_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("gpt2-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let seen = logits(&merged);
    for dtype in [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16] {
        let out = place.path().join(dtype.name());
        let modules = modules(&merged);
        exported::peft(&out, &modules, &[], &meta(&merged, &mixture, dtype)).unwrap();
        let originals: Vec<_> = modules.iter().flat_map(|m| m.tensors().unwrap()).collect();
        let prove = || {
            let run = |_: &[_]| Ok(with_modules(&dir, &import::peft::read(&out)?.lora.modules));
            certify(&out, &originals, dtype, Probe { logits: &seen, outputs: 32 }, run).unwrap()
        };
        let proof = prove();
        assert!(proof.passed, "{dtype:?}: {:?}", proof.problems);
        assert_eq!(proof.target, Some(ExportTarget::Peft));
        super::damage(&out.join("adapter_model.safetensors"));
        let proof = prove();
        assert!(!proof.passed);
        assert_eq!(proof.worst_tensor.as_deref(), Some("layers.1.attn.c_attn.lora_b.weight"), "{:?}", proof.problems);
    }
}

/// A good directory whose configuration is changed.
fn lie(place: &Path, changes: &[(&str, Value)]) -> String {
    let good = place.join("good");
    if !good.exists() {
        let dir = base("llama-tiny", place);
        let mixture = settings(&[]);
        let merged = random(&dir, &mixture).merged_own().unwrap();
        exported::peft(&good, &modules(&merged), &[], &meta(&merged, &mixture, NumberFormat::F32)).unwrap();
        import::peft::read(&good).unwrap();
    }
    let path = good.join("adapter_config.json");
    let before = std::fs::read(&path).unwrap();
    let mut config = json_of(&path);
    changes.iter().for_each(|(key, value)| config[*key] = value.clone());
    std::fs::write(&path, config.to_string()).unwrap();
    let err = import::peft::read(&good).map(|_| ()).unwrap_err().to_string();
    std::fs::write(&path, before).unwrap();
    err
}

#[test]
fn what_would_change_the_result_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    for (key, value, word) in [
        ("peft_type", json!("LOHA"), "LOHA"),
        ("peft_type", Value::Null, "no peft_type"),
        ("use_dora", json!(true), "use_dora"),
        ("bias", json!("all"), "bias"),
        ("lora_bias", json!(true), "lora_bias"),
        ("layer_replication", json!([[0, 2]]), "layer_replication"),
        ("init_lora_weights", json!("pissa_niter_4"), "pissa"),
        ("r", json!(4), "not of the rank 4"),
        ("r", json!(0), "not a rank"),
        ("lora_alpha", json!("much"), "not a number"),
        ("rank_pattern", json!({ "q_proj": 8 }), "not of the rank 8"),
        ("rank_pattern", json!({ ".*q_proj": 2 }), "regular expression"),
        ("alpha_pattern", json!({ "v_proj": "x" }), "no usable number"),
        ("alpha_pattern", json!(3), "not an object"),
    ] {
        let err = lie(place.path(), &[(key, value)]);
        assert!(err.contains(word), "{key}: {err}");
    }
}

#[test]
fn broken_weights_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("llama-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let out = place.path().join("out");
    exported::peft(&out, &modules(&merged), &[], &meta(&merged, &mixture, NumberFormat::F32)).unwrap();
    let file = out.join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for (cut, word) in [(bytes.len() - 5, "truncated"), (100, "truncated"), (3, "too few")] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let err = import::peft::read(&out).unwrap_err().to_string();
        assert!(err.contains(word), "{cut}: {err}");
    }
    let (mut tensors, metadata) = {
        std::fs::write(&file, &bytes).unwrap();
        safetensors::read(&file).unwrap()
    };
    let rewrite = |tensors: &[adamix::tensor::HostTensor]| {
        safetensors::write(&file, tensors, NumberFormat::F32, &metadata).unwrap();
        import::peft::read(&out).map(|_| ()).unwrap_err().to_string()
    };
    let last = tensors.pop().unwrap();
    assert!(rewrite(&tensors).contains("only one of lora_A and lora_B"));
    tensors.push(adamix::tensor::HostTensor { name: "base_model.model.lm_head.weight".to_owned(), ..last.clone() });
    assert!(rewrite(&tensors).contains("table of tokens"));
    tensors.pop();
    tensors.push(last);
    tensors[0].data[0] = f32::NAN;
    assert!(rewrite(&tensors).contains("not finite"));
    // An adapter of another model.
    std::fs::write(&file, &bytes).unwrap();
    let adapter = import::peft::read(&out).unwrap();
    let other = tempfile::tempdir().unwrap();
    let gpt2 = base("gpt2-tiny", other.path());
    let err = place_in_decoder(decoder(&gpt2), &adapter.lora.modules).unwrap_err().to_string();
    assert!(err.contains("no such matrix"), "{err}");
    let mut wide = adapter.lora.modules;
    wide[0].b.extend([0.0, 0.0]);
    let err = place_in_decoder(decoder(&dir), &wide).unwrap_err().to_string();
    assert!(err.contains("belongs to another model"), "{err}");
}
