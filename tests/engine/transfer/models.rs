//! Whole merged models as Hugging Face directories.

use super::{FAMILIES, base, damage, decoder, json_of, logits, merged_with, meta, modules, random, same, settings};
use crate::golden::off;
use crate::support::exported;
use adamix::artifact::certificate::Probe;
use adamix::artifact::export::base::{BaseFiles, BaseKind};
use adamix::artifact::export::hf;
use adamix::model::{CausalLm, LmSetup};
use adamix::rng::SeedStream;
use adamix::tensor::NumberFormat;
use adamix::workflow::export::modules::place_in_decoder;
use std::path::Path;

fn reload(dir: &Path) -> CausalLm {
    CausalLm::new(decoder(dir), LmSetup { mixture: None, seed: SeedStream::new(0) }).unwrap()
}

#[test]
fn a_merged_directory_needs_nothing_of_ours() {
    for family in FAMILIES {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        let plain = logits(&reload(&dir));
        let mixture = settings(&["all-linear"]);
        let merged = random(&dir, &mixture).merged_own().unwrap();
        let want = logits(&merged);
        assert!(off(&want, &plain) > 0.05);
        let modules = modules(&merged);
        for (dtype, limit, tolerance) in [
            (NumberFormat::F32, hf::SHARD, 5e-5),
            (NumberFormat::F32, 4000, 5e-5),
            (NumberFormat::F16, hf::SHARD, 0.5),
            (NumberFormat::Bf16, hf::SHARD, 4.0),
        ] {
            let out = place.path().join(format!("{}-{limit}", dtype.name()));
            merged_with(&dir, &modules, |all, source| {
                let kind = BaseKind::Decoder(&source.spec);
                exported::hf(&out, all, kind, BaseFiles::Dir(&dir), &meta(&merged, &mixture, dtype), limit).unwrap();
                let mut run = || Ok(logits(&reload(&out)));
                let probe = Probe { logits: &want, outputs: 32 };
                let proof = hf::certify(&out, all, dtype, Some((probe, &mut run))).unwrap();
                let only_rounding = proof.problems.iter().all(|problem| problem.starts_with("a logit moved"));
                assert!(proof.passed || dtype != NumberFormat::F32 && only_rounding, "{family}: {:?}", proof.problems);
                let files = proof.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>();
                assert_eq!(files.contains(&"model.safetensors.index.json"), limit == 4000, "{files:?}");
                assert!(files.contains(&"tokenizer.json") && files.contains(&"tokenizer_config.json"), "{files:?}");
            });
            let got = logits(&reload(&out));
            same(&format!("{family} {dtype:?}"), &got, &want, tolerance);
            assert!(dtype == NumberFormat::F32 || off(&got, &want) > 0.0);
            let config = json_of(&out.join("config.json"));
            let names = ["float32", "float16", "bfloat16"];
            assert_eq!(config["torch_dtype"], names[dtype as usize]);
            assert_eq!(config["tie_word_embeddings"], source_tied(&dir));
        }
        // One value changed: the certificate says where.
        let out = place.path().join("F32-5000000000");
        damage(&out.join("model.safetensors"));
        merged_with(&dir, &modules, |all, _| {
            let mut run = || Ok(logits(&reload(&out)));
            let proof =
                hf::certify(&out, all, NumberFormat::F32, Some((Probe { logits: &want, outputs: 32 }, &mut run)))
                    .unwrap();
            assert!(!proof.passed && proof.worst_tensor == all.names().pop(), "{family}: {:?}", proof.problems);
        });
    }
}

fn source_tied(dir: &Path) -> bool {
    adamix::model::LmSource::open(dir).unwrap().spec.tied
}

#[test]
fn a_module_without_its_matrix_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("llama-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let mut modules = modules(&merged);
    modules[0].layer = 9;
    let source = adamix::model::LmSource::open(&dir).unwrap();
    let kind = BaseKind::Decoder(&source.spec);
    let err = exported::merged(&source.weights, kind, &modules, &[]).err().unwrap().to_string();
    assert!(err.contains("layers.9.self_attn.q_proj"), "{err}");
    modules[0].layer = 0;
    modules[0].b.truncate(8);
    let err = exported::merged(&source.weights, kind, &modules, &[]).err().unwrap().to_string();
    assert!(err.contains("is for a matrix"), "{err}");
    assert!(place_in_decoder(decoder(&dir), &modules).is_err());
}

#[test]
fn a_base_model_that_is_damaged_meanwhile_fails_the_certificate_by_name() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("llama-tiny", place.path());
    let mixture = settings(&[]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let out = place.path().join("out");
    merged_with(&dir, &modules(&merged), |all, source| {
        let kind = BaseKind::Decoder(&source.spec);
        exported::hf(&out, all, kind, BaseFiles::Dir(&dir), &meta(&merged, &mixture, NumberFormat::F32), hf::SHARD)
            .unwrap();
        let file = dir.join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 64]).unwrap();
        let proof = hf::certify(&out, all, NumberFormat::F32, None).unwrap();
        let unreadable = proof.problems.iter().any(|problem| problem.contains("cannot be read again"));
        assert!(!proof.passed && unreadable && proof.worst_tensor.is_some(), "{:?}", proof.problems);
        assert!(out.join("certificate.json").is_file());
    });
}
