//! Memory by the byte. A binary of its own, for its allocator counts: what the estimate expects of a training step is
//! held to what the step really takes, and running layers again really takes less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use adamix::bench::{Lengths, Plan, Shape, series};
use adamix::config::{DeviceChoice, DtypeChoice};
use adamix::machine::facts;
use adamix::machine::memory::{Counted, allocated};
use adamix::model::decoder::Decoder;
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, NumberFormat};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Counted<System> = Counted(System);

/// The sizes of a known shape, with a small vocabulary: what a step takes does not depend on it, and making random
/// embeddings would take longer than all the rest.
fn shape(name: &str) -> Shape {
    Shape { vocabulary: 500, ..Shape::by_name(name).unwrap() }
}

/// A small language model, narrow enough for the logits to count.
fn writer(vocabulary: usize) -> Shape {
    let sizes = Shape::by_name("smollm2-135m").unwrap();
    Shape { layers: 5, hidden: 192, heads: 6, kv_heads: 2, inner: 512, vocabulary, ..sizes }
}

/// What is measured: a shape, its batch, and its formats.
#[derive(Clone)]
struct Case {
    shape: Shape,
    lengths: Lengths,
    batch_size: usize,
    dtype: DtypeChoice,
    weights: Option<NumberFormat>,
}

/// Memory of the largest timed step, in bytes, and the last loss.
struct StepMemory {
    took: f64,
    expected: f64,
    loss: f64,
}

impl Case {
    fn new(shape: Shape, lengths: Lengths, batch_size: usize) -> Self {
        Self { shape, lengths, batch_size, dtype: DtypeChoice::F32, weights: None }
    }
    fn narrow(self) -> Self {
        Self { dtype: DtypeChoice::Bf16, ..self }
    }
    fn quantised(self, format: NumberFormat) -> Self {
        Self { weights: Some(format), ..self }
    }

    fn measure(&self, recompute: bool) -> StepMemory {
        let plan = Plan {
            shape: self.shape,
            lengths: self.lengths.clone(),
            batch_size: self.batch_size,
            num_experts: 4,
            adapter_size: 16,
            passes: 2,
            warm_up: 1,
            steps: 1,
            recompute,
            device: DeviceChoice::Cpu,
            dtype: self.dtype,
            weights: self.weights,
            phases: true,
        };
        facts::pool(2, 0).unwrap().install(|| {
            let series = series(&plan).unwrap();
            let expected = series.expected_bytes(&plan).unwrap();
            StepMemory { took: series.step_bytes().unwrap() as f64, expected, loss: series.loss }
        })
    }

    fn words(&self) -> String {
        let weights = self.weights.map_or("", NumberFormat::name);
        let (name, lengths, n) = (self.shape.name, &self.lengths, self.batch_size);
        format!("{name} of {} words, {lengths:?} x {n}, {:?} {weights}", self.shape.vocabulary, self.dtype)
    }
}

/// One test, for the counts are the process's: nothing else may run beside it.
#[test]
fn a_step_takes_what_the_estimate_expects_and_less_when_layers_run_again() {
    let lab = Case::new(shape("lab"), Lengths::Dense(32), 8);
    let small = Case::new(writer(500), Lengths::Dense(32), 4);
    let wide = Case::new(writer(3000), Lengths::Dense(32), 4);
    let cases = [
        lab.clone(),
        lab.narrow(),
        Case::new(shape("lab"), Lengths::Real, 16),
        Case::new(shape("lab"), Lengths::Dense(96), 2),
        Case::new(shape("minilm"), Lengths::Real, 6),
        small.clone(),
        small.narrow(),
        wide.clone().narrow(),
        wide.narrow().quantised(NumberFormat::Q4_1),
    ];
    weights_take_what_they_say();
    for case in cases {
        let (kept, again) = (case.measure(false), case.measure(true));
        for (what, got) in [("kept", &kept), ("computed again", &again)] {
            let (expected, took) = (got.expected / 1e6, got.took / 1e6);
            let off = expected / took - 1.0;
            let words = format!("{}, activations {what}", case.words());
            println!("{words}: {took:.1} MB, expected {expected:.1} MB ({:+.1} %)", 100.0 * off);
            assert!(off.abs() < 0.2, "{words}: {took} MB, but the estimate says {expected} MB");
        }
        assert_eq!(kept.loss.to_bits(), again.loss.to_bits(), "{}: another result", case.words());
        let share = again.took / kept.took;
        assert!(share < 0.85, "{}: computing again takes {share:.2} of the memory", case.words());
    }
}

/// A trunk takes the bytes it says, in every format.
fn weights_take_what_they_say() {
    let spec = writer(500).decoder_spec().unwrap();
    let live = || allocated().unwrap().live as f64;
    let random = Decoder::random(spec, SeedStream::new(1), &Device::Cpu).unwrap();
    let forms: [(&str, &dyn Fn() -> Decoder); 4] = [
        ("bf16", &|| random.stored_as(DType::BF16).unwrap()),
        ("Q4_0", &|| random.quantised(NumberFormat::Q4_0).unwrap()),
        ("Q8_0", &|| random.quantised(NumberFormat::Q8_0).unwrap()),
        ("Q6_K", &|| random.quantised(NumberFormat::Q6K).unwrap()),
    ];
    for (what, make) in forms {
        let before = live();
        let decoder = make();
        let (took, says) = (live() - before, decoder.weight_bytes() as f64);
        assert!((took / says - 1.0).abs() < 0.05, "{what}: {took} bytes taken, {says} said");
    }
}
