//! Mixtures of LoRA on blocks of a layer's outputs under every kind of route, and what merging makes of them.

use super::mixture::expert_of_rows;
use super::{autograd, close, random, values, wide};
use crate::merge::folded;
use adamix::error::Result;
use adamix::mixture::{Bank, RowMap};
use adamix::mixture::{Lora, LoraMixture, Pick, Route, Side};
use adamix::nn::{Dropout, Grads, Params};
use adamix::tensor::{D, Device, Tensor};
use std::ops::Range;

const EXPERTS: usize = 3;
const OFFSETS: [usize; 4] = [0, 3, 4, 9];
const D_IN: usize = 6;
const D_OUT: usize = 11;
const R: usize = 2;
const SCALE: f64 = 1.7;

/// Ranges from their ends.
fn blocks(ends: &[[usize; 2]]) -> Vec<Range<usize>> {
    ends.iter().map(|[start, end]| *start..*end).collect()
}

/// All experts on all rows, each row's own chosen by a mask; blocks put into place by padding.
fn twin(v: &[Tensor], columns: &[Range<usize>], picked: &[Vec<usize>; 2], drop: Dropout) -> Result<Tensor> {
    let [x, y, a, b] = v else { panic!("four inputs") };
    let x = if drop.active() { (x * drop.mask(x.dims(), x).unwrap())? } else { x.clone() };
    let chosen = |picks: &[usize], e: usize| {
        let mask: Vec<f64> = picks.iter().map(|&p| if p == e { 1.0 } else { 0.0 }).collect();
        Tensor::from_vec(mask, (picks.len(), 1), &Device::Cpu)
    };
    let mut z = Tensor::zeros((x.dim(0)?, a.dim(1)?), x.dtype(), &Device::Cpu)?;
    for e in 0..a.dim(0)? {
        z = (z + x.matmul(&a.get(e)?.t()?)?.broadcast_mul(&chosen(&picked[0], e)?)?)?;
    }
    let (mut y, mut row) = (y.clone(), 0);
    for (i, block) in columns.iter().enumerate() {
        let z = z.narrow(1, i * R, R)?;
        for e in 0..b.dim(0)? {
            let b = b.get(e)?.narrow(0, row, block.len())?;
            let delta = (z.matmul(&b.t()?)?.broadcast_mul(&chosen(&picked[1], e)?)? * SCALE)?;
            y = (y + delta.pad_with_zeros(D::Minus1, block.start, D_OUT - block.end)?)?;
        }
        row += block.len();
    }
    Ok(y)
}

fn banks(columns: &[Range<usize>], experts: [usize; 2]) -> [Tensor; 2] {
    let width: usize = columns.iter().map(Range::len).sum();
    [random((experts[0], columns.len() * R, D_IN), 2), random((experts[1], width, R), 3)]
}

fn mixture(banks: &[Tensor; 2], columns: &[Range<usize>], cast: impl Fn(&Tensor) -> Tensor) -> LoraMixture {
    let [a, b] = banks.each_ref().map(|bank| Bank::new(cast(bank), None).unwrap());
    LoraMixture::new(a, b, columns.to_vec(), SCALE, 0.25).unwrap()
}

fn check(what: &str, picks: &[Pick; 4], experts: [usize; 2], columns: &[Range<usize>], drop: Dropout) {
    let route = Route { passes: 2, sites: 1, picks: picks.to_vec() };
    let rows = RowMap::tokens(&OFFSETS, 2);
    let n = rows.rows();
    let banks = banks(columns, experts);
    let (x, y, dy) = (random((n, D_IN), 1), random((n, D_OUT), 4), random((n, D_OUT), 5));
    let picked = [Side::Down, Side::Up].map(|side| expert_of_rows(&route, side, &rows));
    let inputs = [&x, &y, &banks[0], &banks[1]];
    let want = twin(&inputs.map(wide), columns, &picked, drop).unwrap();
    let auto = autograd(&inputs, &dy, |v| twin(v, columns, &picked, drop));
    for double in [false, true] {
        let cast = |t: &Tensor| if double { wide(t) } else { t.copy().unwrap() };
        let (tolerance, what) = if double { (1e-10, format!("{what} plain")) } else { (1e-5, what.to_owned()) };
        let mut mixture = mixture(&banks, columns, cast);
        let mut params = Params::default();
        mixture.train("layers.0.q", &mut params).unwrap();
        let (got, saved) = mixture.forward(&cast(&x), cast(&y), (&route, 0), &rows, drop).unwrap();
        close(&what, &got, &want, tolerance);
        let mut grads = Grads::new(&params);
        let base = random((n, D_IN), 6);
        let dx = mixture.backward(&saved, &cast(&x), &cast(&dy), Some(cast(&base)), &mut grads).unwrap().unwrap();
        close(&format!("{what} dx"), &dx, &(wide(&base) + &auto[0]).unwrap(), tolerance);
        for (at, param) in params.iter().enumerate() {
            assert_eq!(param.name, ["layers.0.q.lora_a.weight", "layers.0.q.lora_b.weight"][at]);
            for e in 0..param.experts {
                let name = format!("{what} {} expert {e}", param.name);
                let got = grads.iter().find(|(id, expert, _)| id.0 == at && *expert == e).map(|(_, _, g)| g);
                assert_eq!(got.is_some(), picked[at].contains(&e), "{name}: a gradient exactly where it ran");
                if let Some(got) = got {
                    close(&name, got, &auto[at + 2].get(e).unwrap(), tolerance);
                }
            }
        }
        let mut again = Grads::new(&params);
        assert!(mixture.backward(&saved, &cast(&x), &cast(&dy), None, &mut again).unwrap().is_none());
        assert_eq!(again.iter().count(), grads.iter().count());
    }
}

#[test]
fn every_route_on_one_block_and_on_two() {
    let list = |factor: u8| Pick::PerToken((0..9u8).map(|i| (i * factor + 1) % 3).collect());
    let routes = [
        ("per batch", [Pick::One(2), Pick::One(0), Pick::One(0), Pick::One(1)]),
        ("same twice", [1, 2, 1, 2].map(Pick::One)),
        ("per example", [vec![0, 2, 0], vec![1, 1, 2], vec![2, 0, 0], vec![0, 1, 1]].map(Pick::PerExample)),
        ("per token", [list(1), list(2), list(5), Pick::PerToken(vec![2; 9])]),
    ];
    for columns in [blocks(&[[0, D_OUT]]), blocks(&[[3, 8]]), blocks(&[[0, 4], [6, 11]]), blocks(&[[7, 9], [1, 6]])] {
        for drop in [Dropout::none(), Dropout::new(8, 0.25)] {
            for (name, picks) in &routes {
                let what = format!("lora {name} {columns:?} dropout {}", drop.active());
                check(&what, picks, [EXPERTS, EXPERTS], &columns, drop);
            }
            let shared = [Pick::One(2), Pick::One(0), Pick::One(0), Pick::One(0)];
            check(&format!("lora shared B {columns:?}"), &shared, [EXPERTS, 1], &columns, drop);
            let shared = [Pick::One(0), Pick::One(2), Pick::One(0), Pick::One(1)];
            check(&format!("lora shared A {columns:?}"), &shared, [1, EXPERTS], &columns, drop);
        }
    }
}

/// The output of every pair (j, k) of experts, for rows all routed alike.
fn pair(mixture: &LoraMixture, x: &Tensor, y: &Tensor, (j, k): (u8, u8)) -> Tensor {
    let rows = RowMap::tokens(&[0, x.dims()[0]], 1);
    let route = Route { passes: 1, sites: 1, picks: vec![Pick::One(j), Pick::One(k)] };
    mixture.forward(x, y.copy().unwrap(), (&route, 0), &rows, Dropout::none()).unwrap().0
}

fn merged(lora: &Lora, x: &Tensor, y: &Tensor) -> Tensor {
    lora.forward(x, y.copy().unwrap(), &RowMap::tokens(&[0, x.dims()[0]], 1)).unwrap()
}

#[test]
fn the_averages_are_what_they_say() {
    let weights = [0.5, 0.2, 0.3];
    let (x, y) = (wide(&random((5, D_IN), 7)), wide(&random((5, D_OUT), 8)));
    for columns in [blocks(&[[2, 9]]), blocks(&[[0, 4], [6, 11]])] {
        let unshared = mixture(&banks(&columns, [EXPERTS, EXPERTS]), &columns, wide);
        let sum = |pairs: &dyn Fn(usize, usize) -> f64| {
            let mut sum = y.zeros_like().unwrap();
            for (j, k) in (0..EXPERTS).flat_map(|j| (0..EXPERTS).map(move |k| (j, k))) {
                let out = pair(&unshared, &x, &y, (j as u8, k as u8));
                sum = (sum + (out * pairs(j, k)).unwrap()).unwrap();
            }
            sum
        };
        // A LoRA is linear in x, so an average of outputs is the output of the average of deltas.
        let diagonal = sum(&|j, k| if j == k { weights[j] } else { 0.0 });
        let all = sum(&|j, k| weights[j] * weights[k]);
        let (factors, deltas) = (unshared.merge(&weights).unwrap(), unshared.merge_deltas(&weights).unwrap());
        close("mean of factors", &merged(&factors, &x, &y), &all, 1e-12);
        close("mean of deltas", &merged(&deltas, &x, &y), &diagonal, 1e-12);
        assert_eq!((factors.rank(), deltas.rank()), (R, EXPERTS * R));
        let apart = (merged(&factors, &x, &y) - merged(&deltas, &x, &y)).unwrap();
        assert!(values(&apart).iter().any(|v| v.abs() > 0.1), "with both sides unshared the averages differ");
        let one = unshared.expert(2).unwrap();
        close("one expert", &merged(&one, &x, &y), &pair(&unshared, &x, &y, (2, 2)), 1e-12);
        assert!(unshared.merge_deltas(&[0.5, 0.5]).is_err() && unshared.merge(&[1.0]).is_err());
        for experts in [[EXPERTS, 1], [1, EXPERTS]] {
            let shared = mixture(&banks(&columns, experts), &columns, wide);
            let (factors, deltas) = (shared.merge(&weights).unwrap(), shared.merge_deltas(&weights).unwrap());
            assert_eq!(deltas.rank(), R, "with one side shared the rank stays");
            assert_eq!(values(&merged(&factors, &x, &y)), values(&merged(&deltas, &x, &y)));
        }
    }
}

#[test]
fn folding_into_the_weight_is_the_module() {
    for columns in [blocks(&[[2, 9]]), blocks(&[[6, 11], [0, 4]])] {
        let unshared = mixture(&banks(&columns, [EXPERTS, EXPERTS]), &columns, wide);
        let (x, w) = (wide(&random((5, D_IN), 9)), wide(&random((D_OUT, D_IN), 10)));
        let plain = x.matmul(&w.t().unwrap()).unwrap();
        for lora in [unshared.merge(&[0.5, 0.2, 0.3]).unwrap(), unshared.merge_deltas(&[0.5, 0.2, 0.3]).unwrap()] {
            let sum = x.matmul(&folded(&lora, &w).t().unwrap()).unwrap();
            close("folded", &sum, &merged(&lora, &x, &plain), 1e-12);
        }
    }
    let bank = |shape: (usize, usize, usize)| Bank::new(random(shape, 1), None).unwrap();
    assert!(LoraMixture::new(bank((2, 3, 5)), bank((2, 7, 2)), blocks(&[[0, 7]]), 1.0, 0.0).is_err(), "ranks differ");
    assert!(LoraMixture::new(bank((2, 2, 5)), bank((2, 7, 2)), blocks(&[[0, 6]]), 1.0, 0.0).is_err(), "another width");
}
