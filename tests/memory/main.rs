//! Memory by the byte. A binary of its own, for its allocator counts: what the estimate expects of a training step is
//! held to what the step really takes, and running layers again really takes less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use adamix::config::{DeviceChoice, DtypeChoice};
use adamix::engine::bench::{Lengths, Plan, Shape, StepMemory, step_memory};
use adamix::engine::machine;
use adamix::engine::memory::Counted;
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
        passes: 2,
        warm_up: 1,
        steps: 1,
        recompute,
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
    };
    machine::pool(2, 0).unwrap().install(|| step_memory(&plan)).unwrap()
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
