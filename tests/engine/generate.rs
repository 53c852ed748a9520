//! Writing text: memory of what was read, decoders against transformers, routes, ends of texts, cancelling.

mod cache;
mod cli;
mod golden;
mod texts;

use crate::golden::golden_dir;
use adamix::config::{MixtureConfig, MixtureKind};
use adamix::eval::generate::{Event, Generated, Hooks, Options, generate};
use adamix::model::{CausalLm, LmSetup, LmSource};
use adamix::rng::{Purpose, SeedStream};
use candle_core::{DType, Device, Tensor};

const FAMILIES: [&str; 5] = ["gpt2", "llama", "mistral", "qwen2", "qwen3"];

fn load(family: &str, mixture: Option<&MixtureConfig>) -> CausalLm {
    let source = LmSource::open(&golden_dir(&format!("{family}-tiny"))).unwrap();
    let setup = LmSetup { mixture, seed: SeedStream::new(1) };
    let model = CausalLm::load(source.spec, &source.weights, setup, DType::F32, &Device::Cpu).unwrap();
    // Experts that differ: fresh ones would all be the same.
    let mut stream = SeedStream::new(31).stream(Purpose::Init, 9);
    for param in model.params().iter() {
        let new = stream.normal_vec(param.value.elem_count(), 0.4);
        let new = Tensor::from_vec(new, param.value.shape(), &Device::Cpu).unwrap();
        param.value.slice_set(&new, 0, 0).unwrap();
    }
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

fn write(model: &CausalLm, prompts: &[Vec<u32>], options: &Options) -> Vec<Generated> {
    let mut told = 0;
    let mut tell = |event: Event<'_>| told += usize::from(matches!(event, Event::Text { .. }));
    let found = generate(model, prompts, None, options, &mut Hooks { go_on: &|_| true, tell: &mut tell }).unwrap();
    assert_eq!(told, prompts.len(), "every text is told once");
    found
}
