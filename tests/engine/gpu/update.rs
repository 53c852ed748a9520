use super::support::{Array, assert_close, device, random, run};
use adamix::gpu::kernels::update::{AdamW, Group, PIECE, Piece, groups, squares_total};
use adamix::gpu::{Address, Backend, Format, Operand};

/// Trained tensors of the test: lengths, and whether they have gradients.
const TENSORS: [(usize, bool); 7] =
    [(1, true), (0, true), (70, false), (3 * PIECE + 17, true), (300, true), (PIECE, false), (1030, true)];
const NUMBERS: AdamW = AdamW { betas: (0.9, 0.999), eps: 1e-8 };

struct Tensor {
    values: [Vec<f32>; 4],
    on: [Array; 4],
    piece: Piece,
}

fn tensors(device: &dyn Backend) -> Vec<Tensor> {
    let one = |(i, &(len, has_gradient)): (usize, &(usize, bool))| {
        let random = |part: u64, scale| random(10 * i as u64 + part, len, scale);
        let values =
            [random(0, 1.0), random(1, 0.1), random(2, 0.01).into_iter().map(f32::abs).collect(), random(3, 0.2)];
        let on = values.each_ref().map(|values| Array::floats(device, values, Format::F32));
        let [p, m, v, g] = on.each_ref().map(|array| array.operand.address);
        let t = i as i32 + 1;
        let (lr, decay) = (1e-3 * f64::from(t), 0.01 * f64::from(t % 3));
        let piece = Piece {
            p,
            m,
            v,
            g: has_gradient.then_some(g),
            len,
            keep: (1.0 - lr * decay) as f32,
            step: (lr / (1.0 - 0.9f64.powi(t))) as f32,
            inv_c2: (1.0 / (1.0 - 0.999f64.powi(t)).sqrt()) as f32,
        };
        Tensor { values, on, piece }
    };
    TENSORS.iter().enumerate().map(one).collect()
}

fn pieces(tensors: &[Tensor]) -> Vec<Piece> {
    tensors.iter().map(|tensor| tensor.piece).collect()
}

/// The groups with their tables on the device.
fn uploaded(device: &dyn Backend, groups: Vec<Group>) -> Vec<(Group, Array)> {
    groups
        .into_iter()
        .map(|group| {
            let table = Array::words(device, &group.table());
            (group, table)
        })
        .collect()
}

#[test]
fn adamw_over_many_tensors() {
    let Some(device) = device() else { return };
    let device = &*device;
    // The second time the slabs cannot be bound whole.
    for max_binding in [device.facts().max_binding, 2 * PIECE as u64 * 4] {
        let tensors = tensors(device);
        let groups = uploaded(device, groups(&pieces(&tensors), max_binding));
        run(device, groups.iter().map(|(group, table)| group.adamw(table.operand, NUMBERS)));
        for (tensor, (_, has_gradient)) in tensors.iter().zip(TENSORS) {
            let [p, m, v, g] = &tensor.values;
            let (mut want_p, mut want_m, mut want_v) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..p.len() {
                let [p, m, v, g] = [p[i], m[i], v[i], if has_gradient { g[i] } else { 0.0 }].map(f64::from);
                let [keep, step, inv_c2] = [tensor.piece.keep, tensor.piece.step, tensor.piece.inv_c2].map(f64::from);
                let (first, second) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
                want_p.push(keep * p - step * first / (second.sqrt() * inv_c2 + 1e-8));
                want_m.push(first);
                want_v.push(second);
            }
            let got = tensor.on.each_ref().map(|array| array.read(device));
            assert_close("p", &got[0], &want_p, Format::F32, 1e-6);
            assert_close("m", &got[1], &want_m, Format::F32, 1e-6);
            assert_close("v", &got[2], &want_v, Format::F32, 1e-6);
            assert_eq!(got[3], *g, "gradients are only read");
        }
    }
}

#[test]
fn the_gradient_norm_and_scaling() {
    let Some(device) = device() else { return };
    let device = &*device;
    let tensors = tensors(device);
    let groups = uploaded(device, groups(&pieces(&tensors), device.facts().max_binding));
    let entries: usize = groups.iter().map(|(group, _)| group.entries()).sum();
    let (parts, out) = (Array::unwritten(device, entries, Format::F32), Array::unwritten(device, 1, Format::F32));
    let squares = |factor: f64| {
        let mut first = 0;
        for (group, table) in &groups {
            run(device, [group.squares(table.operand, parts.operand.part(first, group.entries()))]);
            first += group.entries();
        }
        run(device, [squares_total(parts.operand, out.operand)]);
        let with = tensors.iter().zip(TENSORS).filter(|(_, (_, has_gradient))| *has_gradient);
        let all = with.flat_map(|(tensor, _)| &tensor.values[3]);
        let want: f64 = all.map(|&g| (factor * f64::from(g)).powi(2)).sum();
        let got = f64::from(out.read(device)[0]);
        assert!((got - want).abs() < 1e-6 * want, "{got}, not {want}");
    };
    squares(1.0);
    run(device, groups.iter().map(|(group, table)| group.scale(table.operand, -0.37)));
    squares(0.37);
    for (tensor, (_, has_gradient)) in tensors.iter().zip(TENSORS) {
        let factor = if has_gradient { -0.37 } else { 1.0 };
        let want: Vec<f64> = tensor.values[3].iter().map(|&g| factor * f64::from(g)).collect();
        assert_close("scaled", &tensor.on[3].read(device), &want, Format::F32, 1e-6);
        assert_eq!(tensor.on[0].read(device), tensor.values[0], "values stay as they are");
    }
}

#[test]
fn a_long_sum_of_squares_is_exact_enough() {
    let Some(device) = device() else { return };
    let device = &*device;
    let parts: Vec<f32> = random(4, 70_000, 1.0).into_iter().map(f32::abs).collect();
    for n in [0, 1, 257, parts.len()] {
        let on = Array::floats(device, &parts[..n], Format::F32);
        let out = Array::unwritten(device, 1, Format::F32);
        run(device, [squares_total(on.operand, out.operand)]);
        let want: f64 = parts[..n].iter().map(|&v| f64::from(v)).sum();
        assert_close("total", &out.read(device), &[want], Format::F32, 2e-7);
    }
}

#[test]
fn groups_hold_what_lies_together() {
    let at = |slab, byte| Address::new(slab, byte);
    let piece = |slab: u32, byte, len| Piece {
        p: at(slab, byte),
        m: at(slab, byte + 1024),
        v: at(7, byte),
        g: Some(at(8, byte)),
        len,
        keep: 1.0,
        step: 0.5,
        inv_c2: 2.0,
    };
    let all = [piece(0, 512, 3), piece(1, 256, 5), piece(0, 4096, 2 * PIECE + 1), Piece { g: None, ..piece(0, 0, 9) }];
    let some = groups(&all, 1 << 30);
    assert_eq!(some.iter().map(Group::entries).collect::<Vec<_>>(), [4, 1, 1]);
    let words = some[0].table();
    let numbers = [1.0f32, 0.5, 2.0].map(f32::to_bits);
    assert_eq!(words[..8], [&[0, 0, 0, 0, 3][..], &numbers].concat());
    assert_eq!(words[8..16], [&[896, 896, 896, 896, PIECE as u32][..], &numbers].concat());
    assert_eq!(words[28], 1, "the last block has what is left");
    let operand = |launch: &adamix::gpu::Launch, i: usize| launch.operands[i].unwrap();
    let table = Operand::new(at(9, 0), words.len(), Format::U32);
    let launch = some[0].adamw(table, NUMBERS);
    assert_eq!(operand(&launch, 1), Operand::new(at(0, 512), 896 + 2 * PIECE + 1, Format::F32));
    assert_eq!((launch.operands[5], launch.grid), (None, [4, 1, 1]));
    assert!(some[2].scale(table, 2.0).is_empty(), "no gradients to scale");
    // Pieces far apart come into several groups.
    let far = [piece(0, 0, 8), piece(0, 1 << 20, 8), piece(0, 1 << 20, 8)];
    assert_eq!(groups(&far, 1 << 16).iter().map(Group::entries).collect::<Vec<_>>(), [1, 2]);
    assert!(groups(&[piece(0, 0, 0)], 1 << 16).is_empty());
}
