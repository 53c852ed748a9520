//! Gradient norm, scaling, AdamW.

use super::host::{Memory, run};
use super::{close, random, values, wide};
use adamix::nn::kernels::adamw::{self, Update as Numbers};
use adamix::nn::kernels::cuda::plan::{Piece, Update};
use adamix::tensor::{DType, Tensor};

const SIZES: [usize; 5] = [1, 5, 16_384, 40_001, 255];

fn memories(from: u64) -> Vec<Memory> {
    SIZES.iter().enumerate().map(|(i, &n)| Memory::of(&random(n, from + i as u64, DType::F32))).collect()
}

fn gradients(memories: &mut [Memory]) -> Vec<Piece> {
    let piece =
        |(memory, &len): (&mut Memory, &usize)| Piece { tensors: [0, 0, 0, memory.address()], len, ..Piece::default() };
    memories.iter_mut().zip(&SIZES).map(piece).collect()
}

#[test]
fn the_norm_is_that_of_all_gradients_and_scaling_reaches_all() {
    let mut memories = memories(0);
    let table = Piece::table(&gradients(&mut memories));
    let count = Piece::entries(&table);
    assert_eq!(count, 1 + 1 + 1 + 3 + 1);
    let (mut pieces, mut sums) = (Memory::words(&table), Memory::empty(1 + count, DType::F64));
    let update = Update { pieces: pieces.address(), out: sums.address(), count };
    for launch in update.squares() {
        run(&launch);
    }
    let before: Vec<Vec<f64>> = memories.iter().zip(SIZES).map(|(m, n)| values(&m.tensor(n))).collect();
    let want: f64 = before.iter().flatten().map(|v| v * v).sum();
    let got = values(&sums.tensor(1 + count))[0];
    assert!((got - want).abs() < 1e-6 * want, "{got} {want}");
    run(&update.scale(0.25));
    for ((memory, n), before) in memories.iter().zip(SIZES).zip(before) {
        assert_eq!(values(&memory.tensor(n)), before.iter().map(|v| v * 0.25).collect::<Vec<_>>());
    }
}

#[test]
fn adamw_is_the_plain_update() {
    let mut all = [memories(0), memories(10), memories(20), memories(30)];
    // Second moments are not negative.
    for (memory, n) in all[2].iter_mut().zip(SIZES) {
        *memory = Memory::of(&memory.tensor(n).abs().unwrap());
    }
    let numbers = |i: u64| Numbers { lr: 1e-2, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1 * i as f64, t: 1 + i };
    let before: Vec<Vec<Tensor>> =
        all.iter().map(|list| list.iter().zip(SIZES).map(|(m, n)| m.tensor(n)).collect()).collect();
    let mut pieces = Vec::new();
    for (i, &len) in SIZES.iter().enumerate() {
        let u = numbers(i as u64);
        let (c1, c2) = u.corrections();
        let mut tensors = [0, 1, 2, 3].map(|part: usize| all[part][i].address());
        if i == 2 {
            tensors[3] = 0; // moves on without a gradient
        }
        pieces.push(Piece {
            tensors,
            len,
            keep: (1.0 - u.lr * u.weight_decay) as f32,
            step: (u.lr / c1) as f32,
            inv_c2: (1.0 / c2.sqrt()) as f32,
        });
    }
    let table = Piece::table(&pieces);
    let mut memory = Memory::words(&table);
    let count = Piece::entries(&table);
    run(&Update { pieces: memory.address(), out: 0, count }.adamw((0.9, 0.999), 1e-8));
    for i in 0..SIZES.len() {
        let [p, m, v, g] = [0, 1, 2, 3].map(|part: usize| wide(&before[part][i]));
        let g = if i == 2 { g.zeros_like().unwrap() } else { g };
        adamw::plain_update(&p, &m, &v, &g, numbers(i as u64)).unwrap();
        for (part, want) in [p, m, v].iter().enumerate() {
            close(["values", "first", "second"][part], &all[part][i].tensor(SIZES[i]), want, 2e-6, 1e-7);
        }
    }
}
