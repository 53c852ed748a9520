//! What a training step asks of a GPU, counted without one; and gradients that leave the range of f16.

use super::training::gpu;
use crate::golden::{Tensors, golden_dir, off, read_tensors, variant};
use crate::support::tiny;
use adamix::bench::{self, Asked, Lengths, Plan, Shape};
use adamix::config::{DeviceChoice, DtypeChoice, Method, Problem, RunConfig};
use adamix::data::{Batch, Labels};
use adamix::gpu::kernels::product::ProductPlan;
use adamix::gpu::{AdapterKind, Backend as _, Facts, Recording};
use adamix::model::{Classifier, DropKeys, Encoder, ForwardOptions, ModelSource, Network as _, Setup};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Gpu, to_f32};
use adamix::train::step::{StepIndex, StepResult, draw_route, step};
use adamix::train::{AdamW, Trainable as _};
use serde_json::Map;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A device that counts.
pub fn recording(memory: Option<u64>) -> (Arc<Recording>, Device) {
    let facts = Recording::like(AdapterKind::Discrete).facts().clone();
    let backend = Arc::new(Recording::new(Facts { memory, ..facts }));
    let plan = ProductPlan::of(backend.facts());
    (backend.clone(), Device::Gpu(Gpu::new(0, backend, plan)))
}

fn asked(shape: Shape) -> Asked {
    let (batch_size, length, adapter_size) = if shape.is_decoder() { (8, 256, 4) } else { (16, 64, 16) };
    let plan = Plan {
        shape,
        lengths: Lengths::Dense(length),
        batch_size,
        num_experts: 4,
        adapter_size,
        passes: 2,
        warm_up: 2,
        steps: 1,
        recompute: false,
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F16,
        weights: None,
        phases: false,
    };
    bench::asked(&plan).unwrap()
}

/// Shape; kernels, command lists, bytes up and bytes down of a step of it.
const STEPS: [(&str, u64, u64, u64, u64); 5] = [
    ("lab", 97, 1, 28_080, 196),
    ("minilm", 142, 1, 30_816, 196),
    ("roberta-base", 255, 5, 42_896, 196),
    ("roberta-large", 541, 16, 59_672, 196),
    ("smollm2-135m", 962, 16, 128_840, 24_484),
];

#[test]
fn a_step_asks_no_more_than_this() {
    let mut wrong = Vec::new();
    for (name, kernels, lists, up, down) in STEPS {
        let asked = asked(Shape::by_name(name).unwrap());
        let step = asked.step;
        // The host waits once, and nothing is asked of the driver once a step has run.
        assert_eq!((step.waits, step.allocations), (1, 0), "{name}: {step:?}");
        let found = (name, step.kernels, step.submissions, step.uploaded, step.downloaded);
        if found != (name, kernels, lists, up, down) {
            wrong.push((found, asked.kernels));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Launches by kernel.
type Launches = BTreeMap<String, usize>;

/// The launches of a forward and of a backward pass of an encoder of so many layers, once it has run before.
fn passes(layers: usize, sequences: usize, dtype: DType) -> [Launches; 2] {
    let (backend, device) = recording(None);
    backend.keep_launches();
    let shape = Shape { layers, vocabulary: 500, ..Shape::by_name("roberta-base").unwrap() };
    let (config, seed) = (RunConfig::default(), SeedStream::new(0));
    assert!(config.model.trunk_dropout && config.mixture.consistency);
    let encoder = Encoder::random(shape.spec().unwrap(), seed, &device).unwrap().stored(dtype).unwrap();
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
    let model = Classifier::new(encoder, None, &setup, dtype).unwrap();
    let batch = Batch {
        ids: (0..64 * sequences as u32).map(|i| i % 500).collect(),
        type_ids: vec![0; 64 * sequences],
        offsets: (0..=sequences).map(|i| 64 * i).collect(),
        labels: Labels::Classes((0..sequences as u32).map(|i| i % 2).collect()),
        rows: (0..sequences).collect(),
    };
    let route = draw_route(&config, &model, model.size(&batch), 0);
    let keys = Some(DropKeys::new(seed, 0));
    let options = ForwardOptions {
        passes: 2,
        route: route.as_ref(),
        drop: keys,
        lora_drop: keys,
        keep: true,
        ..ForwardOptions::eval()
    };
    let mut marks = Vec::new();
    for _ in 0..2 {
        marks.push(backend.launches().len());
        let forward = adamix::train::Trainable::forward(&model, &batch, options, &config, 0);
        let (loss, activations) = forward.unwrap();
        marks.push(backend.launches().len());
        adamix::train::Trainable::backward(&model, activations, loss.gradient).unwrap();
        marks.push(backend.launches().len());
    }
    let all = backend.launches();
    let count = |from: usize, to: usize| {
        let mut found = Launches::new();
        for launch in &all[from..to] {
            *found.entry(format!("{}:{}", launch.source.name, launch.entry)).or_default() += 1;
        }
        found
    };
    [count(marks[3], marks[4]), count(marks[4], marks[5])]
}

#[test]
fn a_layer_takes_few_kernels() {
    for dtype in [DType::F32, DType::F16] {
        // Of few rows, products are made in slices and summed, at most one kernel more for each but the last.
        for (sequences, most, sums) in [(16, [7, 8], 0), (2, [10, 11], 3)] {
            let (fewer, more) = (passes(3, sequences, dtype), passes(4, sequences, dtype));
            for (at, direction) in ["forward", "backward"].into_iter().enumerate() {
                let mut layer = more[at].clone();
                layer.iter_mut().for_each(|(kernel, count)| *count -= fewer[at].get(kernel).unwrap_or(&0));
                layer.retain(|kernel, count| *count > 0 && !kernel.starts_with("attention"));
                let found: usize = layer.values().sum();
                assert_eq!(found, most[at], "{dtype:?}, {sequences} sequences, {direction}: {layer:?}");
                let summed: usize =
                    layer.iter().filter(|(kernel, _)| kernel.starts_with("product_combine")).map(|(_, n)| n).sum();
                assert!(found - summed <= 8 && summed == sums, "{layer:?}");
            }
        }
    }
}

/// A directory whose last layer ends in a norm of values near `size`: gradients of what is below it are as many times
/// larger.
fn steep(size: f32) -> tempfile::TempDir {
    let dir = golden_dir("bert-tiny");
    let all = read_tensors(&dir.join("model.safetensors"));
    let layer = "bert.encoder.layer.1.";
    let mut changed = Tensors::new();
    for (name, factor) in [
        ("attention.output.LayerNorm.weight", size),
        ("attention.output.LayerNorm.bias", 0.0),
        ("output.dense.weight", size),
        ("output.dense.bias", 0.0),
    ] {
        let name = format!("{layer}{name}");
        let (shape, values) = all[&name].clone();
        changed.insert(name, (shape, values.into_iter().map(|value| value * factor).collect()));
    }
    variant(&dir, &Map::new(), &changed)
}

/// A step of it, after `overflows` in steps before.
fn steep_step(dir: &std::path::Path, dtype: DType, device: &Device, overflows: u32) -> (StepResult, Vec<Vec<f32>>) {
    let mut config = tiny::config(5);
    (config.train.max_grad_norm, config.model.trunk_dropout) = (0.0, false);
    config.mixture.init_std = 1e-5;
    let source = ModelSource::open(dir.to_str().unwrap()).unwrap();
    let setup = Setup { method: Method::Adamix, mixture: &config.mixture, outputs: 3, seed: SeedStream::new(1) };
    // Activations of this format, even where the processor would compute in a wider one.
    let encoder = Encoder::load(source.spec, &source.weights, DType::F32, device).unwrap().cast(dtype).unwrap();
    let model = Classifier::new(encoder, Some(&source.weights), &setup, dtype).unwrap();
    let task = tiny::task(8, Problem::Classification).train;
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let at = StepIndex { overflows, ..StepIndex::new(0, 4) };
    let rows: Vec<usize> = (0..8).collect();
    let done = step(&config, &model, &mut optimizer, at, |_| Ok(task.batch(&rows))).unwrap();
    let grads = done.grads.iter().map(|(_, _, grad)| to_f32(grad).unwrap()).collect();
    (done, grads)
}

#[test]
fn gradients_beyond_the_range_of_f16_are_computed_again() {
    let dir = steep(3e-5);
    let (wanted, grads) = steep_step(dir.path(), DType::F32, &Device::Cpu, 0);
    assert_eq!(wanted.overflows, 0);
    let mut devices = vec![Device::Cpu];
    if let Some(Device::Gpu(gpu)) = gpu()
        && gpu.backend().facts().f16
    {
        devices.push(Device::Gpu(gpu));
    }
    for device in devices {
        let (done, found) = steep_step(dir.path(), DType::F16, &device, 0);
        println!("{device}: {} overflows, norm {} for {}", done.overflows, done.grad_norm, wanted.grad_norm);
        assert!(done.overflows > 0 && done.grad_norm.is_finite(), "{device}: {}", done.overflows);
        assert!((done.loss.total - wanted.loss.total).abs() < 2e-2 * wanted.loss.total, "{device}");
        assert!((done.grad_norm / wanted.grad_norm - 1.0).abs() < 2e-2, "{device}: {}", done.grad_norm);
        assert_eq!(found.len(), grads.len());
        for (i, (got, want)) in found.iter().zip(&grads).enumerate() {
            let largest = want.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
            let apart = off(got, want) / f64::from(largest);
            assert!(apart < 3e-2, "{device}: gradient {i} is off by {apart:.1e} of its largest, {largest}");
        }
        // The step after begins with that scale: the same bits.
        let (after, again) = steep_step(dir.path(), DType::F16, &device, done.overflows);
        assert!((after.overflows, &again) == (done.overflows, &found), "{device}: {}", after.overflows);
        // A model whose gradients stay in range is computed once.
        let flat = golden_dir("bert-tiny");
        assert_eq!(steep_step(&flat, DType::F16, &device, 0).0.overflows, 0, "{device}");
    }
}
