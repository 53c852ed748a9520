//! Writing text: memory of what was read, decoders against transformers, routes, ends of texts, cancelling.

mod cache;
mod cli;
mod golden;
mod texts;

use crate::golden::golden_dir;
use crate::support::fill;
use adamix::config::{MixtureConfig, MixtureKind};
use adamix::eval::generate::{GenerateOptions, Generated, Hooks, generate};
use adamix::model::{CausalLm, LmSetup, LmSource, Network as _};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Tensor};

const FAMILIES: [&str; 5] = ["gpt2", "llama", "mistral", "qwen2", "qwen3"];

fn load(family: &str, mixture: Option<&MixtureConfig>) -> CausalLm {
    let source = LmSource::open(&golden_dir(&format!("{family}-tiny"))).unwrap();
    let setup = LmSetup { mixture, seed: SeedStream::new(1) };
    let model = CausalLm::load(source.spec, &source.weights, setup, DType::F32, &Device::Cpu).unwrap();
    // Experts that differ: fresh ones would all be the same.
    fill(model.params(), 0.4);
    model
}

fn mixture(kind: MixtureKind) -> MixtureConfig {
    MixtureConfig {
        kind,
        num_experts: 3,
        adapter_size: 2,
        lora_rank: 2,
        lora_dropout: 0.0,
        sharing_up: false,
        ..MixtureConfig::default()
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn write(model: &CausalLm, prompts: &[Vec<u32>], options: &GenerateOptions) -> Vec<Generated> {
    let found = generate(model, prompts, None, options, &mut Hooks { go_on: &|_| true, tell: &mut |_| {} }).unwrap();
    assert_eq!(found.len(), prompts.len());
    found
}
