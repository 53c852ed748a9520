//! A merged model written as GGUF, read by candle's own quantised Llama: the same logits.
//!
//! candle reads rotary positions as neighbouring pairs, the order GGUF files of Llamas have, so it also checks the rows
//! that change places. It rounds the inputs of 8-bit products to 8 bits, we do not.

use super::others::wide;
use super::{IDS, OFFSETS, base, decoder, logits, merged_with, meta, modules, random, settings};
use crate::golden::off;
use crate::support::exported;
use adamix::artifact::export::base::BaseFiles;
use adamix::artifact::export::gguf_model::{self, GgufModel};
use adamix::model::{CausalLm, LmSetup};
use adamix::rng::SeedStream;
use adamix::tensor::NumberFormat;
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::fs::File;
use std::path::Path;

const VOCABULARY: usize = 32;

/// candle's logits after every token of both sequences. `[14, 32]`
fn candle(file: &Path) -> Vec<f32> {
    let mut logits = Vec::new();
    for ends in OFFSETS.windows(2) {
        let sequence = &IDS[ends[0]..ends[1]];
        for length in 1..=sequence.len() {
            // It gives the last token's logits only, and keeps what it read: a fresh model for each beginning.
            let mut reader = File::open(file).unwrap();
            let content = gguf_file::Content::read(&mut reader).unwrap();
            let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).unwrap();
            let ids = Tensor::new(&sequence[..length], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            logits.extend(model.forward(&ids, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
    }
    assert_eq!(logits.len(), IDS.len() * VOCABULARY);
    logits
}

#[test]
fn candle_s_llama_gives_the_merged_model_s_logits() {
    let place = tempfile::tempdir().unwrap();
    let dir = wide(place.path());
    let mixture = settings(&["all-linear"]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let want = logits(&merged);
    let untrained = CausalLm::new(decoder(&dir), LmSetup { mixture: None, seed: SeedStream::new(0) }).unwrap();
    let untrained = logits(&untrained);
    for (store, tolerance) in [(NumberFormat::F32, 1e-4), (NumberFormat::F16, 2e-2), (NumberFormat::Q8_0, 0.5)] {
        let out = place.path().join(store.name());
        merged_with(&dir, &modules(&merged), |all, source| {
            let info = meta(&merged, &mixture, NumberFormat::F32);
            exported::gguf(&out, &GgufModel::new(all, &source.spec, BaseFiles::Dir(&dir), &info, store).unwrap())
                .unwrap();
        });
        let got = candle(&out.join(gguf_model::FILE));
        let apart = off(&got, &want);
        println!("{}: off by {apart:.2e}; the base by {:.2e}", store.name(), off(&got, &untrained));
        assert!(apart <= tolerance, "{}: off by {apart}", store.name());
        assert!(off(&got, &untrained) > 3.0 * tolerance, "{}: this is the base, not the merged model", store.name());
    }
}

#[test]
fn a_family_candle_s_llama_does_not_know_says_its_name() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("qwen3-tiny", place.path());
    let mixture = settings(&["all-linear"]);
    let merged = random(&dir, &mixture).merged_own().unwrap();
    let out = place.path().join("out");
    merged_with(&dir, &modules(&merged), |all, source| {
        let info = meta(&merged, &mixture, NumberFormat::F32);
        exported::gguf(
            &out,
            &GgufModel::new(all, &source.spec, BaseFiles::Dir(&dir), &info, NumberFormat::F32).unwrap(),
        )
        .unwrap();
    });
    let mut reader = File::open(out.join(gguf_model::FILE)).unwrap();
    let content = gguf_file::Content::read(&mut reader).unwrap();
    assert!(ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).is_err());
}
