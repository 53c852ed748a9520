//! Memory by the byte. A binary of its own, for its allocator counts: what the estimate expects of a training step is
//! held to what the step really takes, and running layers again really takes less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use adamix::config::{DeviceChoice, DtypeChoice, Method, MixtureKind, Recompute, RunConfig};
use adamix::data::{Batch, Labels};
use adamix::engine::bench::{Lengths, Plan, Shape, StepMemory, step_memory};
use adamix::engine::estimate::{Load, Mixtures, decoder_step_bytes, step_bytes};
use adamix::engine::machine;
use adamix::engine::memory::{self, Counted};
use adamix::model::decoder::Decoder;
use adamix::model::{CausalLm, Classifier, DecoderSpec, Encoder, LmSetup, Packed, Setup};
use adamix::rng::SeedStream;
use adamix::train::lm_step::{self, LmBatch};
use adamix::train::{AdamW, step};
use candle_core::{DType, Device};
use serde_json::json;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Counted<System> = Counted(System);

/// The sizes of a known shape, with a small vocabulary: what a step takes does not depend on it, and making random
/// embeddings would take longer than all the rest.
fn shape(name: &str) -> Shape {
    Shape { vocabulary: 500, ..Shape::by_name(name).unwrap() }
}

fn measure(shape: Shape, lengths: Lengths, batch_size: usize, recompute: bool) -> StepMemory {
    let plan = Plan {
        shape,
        lengths,
        batch_size,
        num_experts: 4,
        adapter_size: 16,
        warm_up: 1,
        steps: 1,
        recompute,
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
    };
    machine::pool(2, 0).unwrap().install(|| step_memory(&plan)).unwrap()
}

/// Steps of decoders and of encoders with LoRA take what the estimate expects.
fn low_rank() {
    let gpt2 =
        json!({"model_type": "gpt2", "n_embd": 192, "n_head": 4, "n_layer": 6, "n_positions": 128, "vocab_size": 900});
    let llama = json!({"model_type": "llama", "hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 2,
        "num_hidden_layers": 6, "intermediate_size": 512, "vocab_size": 900, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true});
    let cases = [
        (&gpt2, MixtureKind::Lora, ""),
        (&gpt2, MixtureKind::Lora, "all-linear"),
        (&gpt2, MixtureKind::Adapter, ""),
        (&llama, MixtureKind::Lora, ""),
        (&llama, MixtureKind::Lora, "all-linear"),
    ];
    for (json, kind, target) in cases {
        let spec = DecoderSpec::from_json(&json.to_string()).unwrap();
        let config = low_rank_config(kind, target);
        let decoder = Decoder::random(spec.clone(), SeedStream::new(1), &Device::Cpu).unwrap();
        let setup = LmSetup { mixture: Some(&config.mixture), seed: SeedStream::new(1) };
        let model = CausalLm::new(decoder, setup).unwrap();
        let mixtures = Mixtures::new(&config, spec.hidden_size, Some(&model.decoder().layers()[0].loras));
        let offsets: Vec<usize> = (0..=8).map(|i| 96 * i).collect();
        let ids: Vec<u32> = (0..96 * 8).map(|i| i % 900).collect();
        let wanted: Vec<bool> = (0..96 * 8).map(|i| i % 2 == 1).collect();
        let batch = LmBatch { packed: Packed { ids: &ids, offsets: &offsets }, wanted: &wanted };
        let mut took = Vec::new();
        for recompute in [Recompute::Off, Recompute::On] {
            let mut config = config.clone();
            config.train.recompute = recompute;
            let mut optimizer = AdamW::new(model.params()).unwrap();
            let bytes = peak(|index| {
                lm_step::step(&config, &model, &mut optimizer, (index, 9), |_, run| run(batch)).unwrap();
            });
            let load = Load { tokens: 2.0 * 96.0 * 8.0, sequences: 16.0, longest: 96.0 };
            let expected = decoder_step_bytes(&spec, mixtures, (load, 2.0 * 48.0 * 8.0, 2), recompute == Recompute::On);
            near(&format!("{} {kind:?} {target} {recompute:?}", spec.family.model_type()), bytes, expected);
            took.push(bytes);
        }
        assert!(took[1] < 0.85 * took[0], "computing again takes {} of {}", took[1], took[0]);
    }
    for target in ["", "all-linear"] {
        let config = low_rank_config(MixtureKind::Lora, target);
        let spec = shape("minilm").spec().unwrap();
        let encoder = Encoder::random(spec.clone(), SeedStream::new(1), &Device::Cpu).unwrap();
        let setup = Setup { method: Method::Adamix, mixture: &config.mixture, outputs: 2, seed: SeedStream::new(1) };
        let model = Classifier::new(encoder, None, &setup, DType::F32).unwrap();
        let mixtures = Mixtures::new(&config, spec.hidden_size, Some(&model.encoder().layers()[0].loras));
        let batch = Batch {
            ids: (0..96 * 4).map(|i| i % 500).collect(),
            type_ids: vec![0; 96 * 4],
            offsets: (0..=4).map(|i| 96 * i).collect(),
            labels: Labels::Classes(vec![0, 1, 0, 1]),
            rows: vec![0, 1, 2, 3],
        };
        let mut optimizer = AdamW::new(model.params()).unwrap();
        let bytes = peak(|index| {
            step::step(&config, &model, &mut optimizer, (index, 9), |_| Ok(batch.clone())).unwrap();
        });
        let load = Load { tokens: 2.0 * 96.0 * 4.0, sequences: 8.0, longest: 96.0 };
        near(&format!("minilm LoRA {target}"), bytes, step_bytes(&spec, &config, mixtures, (load, 2), false));
    }
}

fn low_rank_config(kind: MixtureKind, target: &str) -> RunConfig {
    let mut config = RunConfig::default();
    (config.mixture.kind, config.mixture.lora_rank) = (kind, 4);
    config.mixture.lora_target = if target.is_empty() { Vec::new() } else { vec![target.to_owned()] };
    config.train.recompute = Recompute::Off;
    config
}

/// Most bytes that the second step has in use beyond those before it.
fn peak(mut step: impl FnMut(u64)) -> f64 {
    step(0);
    memory::reset_peak();
    let before = memory::allocated().unwrap();
    step(1);
    memory::allocated().unwrap().peak.saturating_sub(before.live) as f64
}

fn near(what: &str, took: f64, expected: f64) {
    let off = expected / took - 1.0;
    println!("{what}: {:.2} MB, expected {:.2} MB ({:+.1} %)", took / 1e6, expected / 1e6, 100.0 * off);
    assert!(off.abs() < 0.2, "{what}: {took} bytes, but the estimate says {expected}");
}

/// One test, for the counts are the process's: nothing else may run beside it.
#[test]
fn a_step_takes_what_the_estimate_expects_and_less_when_layers_run_again() {
    let cases = [
        ("lab", Lengths::Dense(32), 8),
        ("lab", Lengths::Real, 16),
        ("lab", Lengths::Dense(96), 2),
        ("minilm", Lengths::Real, 6),
    ];
    machine::pool(2, 0).unwrap().install(low_rank);
    for (name, lengths, batch_size) in cases {
        let measured = |recompute| measure(shape(name), lengths.clone(), batch_size, recompute);
        let (kept, again) = (measured(false), measured(true));
        for (what, got) in [("kept", &kept), ("computed again", &again)] {
            let (expected, took) = (got.expected / 1e6, got.bytes.unwrap() as f64 / 1e6);
            let off = expected / took - 1.0;
            let words = format!("{name}, {lengths:?} x {batch_size}, activations {what}");
            println!("{words}: {took:.1} MB, expected {expected:.1} MB ({:+.1} %)", 100.0 * off);
            assert!(off.abs() < 0.2, "{words}: {took} MB, but the estimate says {expected} MB");
        }
        assert_eq!(kept.loss.to_bits(), again.loss.to_bits(), "{name}: another result");
        let share = again.bytes.unwrap() as f64 / kept.bytes.unwrap() as f64;
        assert!(share < 0.8, "{name}, {lengths:?}: computing again takes {share:.2} of the memory");
    }
}
