//! Mixtures of adapters under every kind of route, and the consistency term.

use super::{autograd, close, random, wide};
use adamix::error::Result;
use adamix::mixture::adapter::AdapterMixture;
use adamix::mixture::consistency::{squared_difference, symmetric_kl};
use adamix::mixture::{Bank, RowMap};
use adamix::mixture::{Pick, Route, Side};
use adamix::nn::kernels::activation::Act;
use adamix::nn::{Grads, Params};
use adamix::tensor::{D, DType, Device, Tensor};

const EXPERTS: usize = 3;
const OFFSETS: [usize; 4] = [0, 3, 4, 9];

/// Expert of each row, both passes, for one side.
pub fn expert_of_rows(route: &Route, side: Side, rows: &RowMap) -> Vec<usize> {
    let one = |pass: usize, row: usize| match route.pick(pass, 0, side) {
        Pick::One(e) => *e,
        Pick::PerExample(list) => list[rows.sequence[row] as usize],
        Pick::PerToken(list) => list[rows.token[row] as usize],
    };
    (0..rows.passes)
        .flat_map(|pass| (0..rows.sequence.len()).map(move |row| (pass, row)))
        .map(|(p, r)| one(p, r) as usize)
        .collect()
}

/// All experts on all rows, then each row's own by a mask.
fn side_twin(x: &Tensor, weight: &Tensor, bias: &Tensor, picks: &[usize]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for e in 0..weight.dim(0)? {
        let y = x.matmul(&weight.get(e)?.t()?)?.broadcast_add(&bias.get(e)?)?;
        let mask: Vec<f64> = picks.iter().map(|&p| if p == e { 1.0 } else { 0.0 }).collect();
        let y = y.broadcast_mul(&Tensor::from_vec(mask, (picks.len(), 1), &Device::Cpu)?)?;
        sum = Some(sum.map_or(Ok(y.clone()), |s| s + &y)?);
    }
    Ok(sum.unwrap())
}

fn check(what: &str, picks: &[Pick; 4], up_experts: usize, rows: &RowMap) {
    let route = Route { passes: 2, sites: 1, picks: picks.to_vec() };
    let (d, r, n) = (6, 5, rows.rows());
    let h = random((n, d), 1);
    let banks = [
        random((EXPERTS, r, d), 2),
        random((EXPERTS, r), 3),
        random((up_experts, d, r), 4),
        random((up_experts, d), 5),
    ];
    let dout = random((n, d), 6);
    let picked = [Side::Down, Side::Up].map(|side| expert_of_rows(&route, side, rows));
    let twin = |v: &[Tensor]| {
        let a = side_twin(&v[0], &v[1], &v[2], &picked[0])?.gelu_erf()?;
        side_twin(&a, &v[3], &v[4], &picked[1])? + &v[0]
    };
    let inputs = [&h, &banks[0], &banks[1], &banks[2], &banks[3]];
    let want = twin(&inputs.map(wide)).unwrap();
    let auto = autograd(&inputs, &dout, twin);
    for double in [false, true] {
        let cast = |t: &Tensor| if double { wide(t) } else { t.clone() };
        // candle's derivative of gelu uses 1/sqrt(2 pi) with six digits, so the judge itself is off by 1e-7
        let (tolerance, what) = if double { (1e-6, format!("{what} plain")) } else { (2e-5, what.to_owned()) };
        let bank = |i: usize| Bank::new(cast(&banks[i]), Some(cast(&banks[i + 1]))).unwrap();
        let mut mixture = AdapterMixture::new(bank(0), bank(2), Act::Gelu);
        let mut params = Params::default();
        mixture.train("layers.0.ffn", &mut params).unwrap();
        let (y, saved) = mixture.forward(&cast(&h), &route, 0, rows).unwrap();
        close(&what, &y, &want, tolerance);
        let mut grads = Grads::new(&params);
        let dh = mixture.backward(&saved, &cast(&dout), true, &mut grads).unwrap().unwrap();
        close(&format!("{what} dh"), &dh, &auto[0], tolerance);
        for (at, param) in params.iter().enumerate() {
            let side = usize::from(param.name.contains(".up."));
            for e in 0..param.experts {
                let name = format!("{what} {} expert {e}", param.name);
                let got = grads.iter().find(|(id, expert, _)| id.0 == at && *expert == e).map(|(_, _, g)| g);
                let ran = picked[side].contains(&e);
                assert_eq!(got.is_some(), ran, "{name}: a gradient exactly where the expert ran");
                if let Some(got) = got {
                    close(&name, got, &auto[at + 1].get(e).unwrap(), tolerance);
                }
            }
        }
        let mut again = Grads::new(&params);
        assert!(mixture.backward(&saved, &cast(&dout), false, &mut again).unwrap().is_none());
        assert_eq!(again.iter().count(), grads.iter().count());
    }
}

#[test]
fn one_expert_for_the_batch() {
    let rows = RowMap::tokens(&OFFSETS, 2);
    for (a, b) in [(0, 2), (1, 1), (2, 0)] {
        check("shared up", &[Pick::One(a), Pick::One(0), Pick::One(b), Pick::One(0)], 1, &rows);
        check("nothing shared", &[Pick::One(a), Pick::One(b), Pick::One(b), Pick::One(1)], EXPERTS, &rows);
    }
}

#[test]
fn one_expert_for_each_sequence() {
    let picks = [vec![0, 2, 0], vec![1, 1, 2], vec![2, 0, 0], vec![0, 1, 1]].map(Pick::PerExample);
    check("per example", &picks, EXPERTS, &RowMap::tokens(&OFFSETS, 2));
    check("per example, first tokens", &picks, EXPERTS, &RowMap::first_tokens(&OFFSETS, 2));
}

#[test]
fn one_expert_for_each_token() {
    let list = |factor: u8| Pick::PerToken((0..9u8).map(|i| (i * factor + 1) % 3).collect());
    let picks = [list(1), list(2), list(5), Pick::PerToken(vec![2; 9])];
    check("per token", &picks, EXPERTS, &RowMap::tokens(&OFFSETS, 2));
    check("per token, first tokens", &picks, EXPERTS, &RowMap::first_tokens(&OFFSETS, 2));
}

#[test]
fn a_route_that_does_not_fit_is_refused() {
    let rows = RowMap::tokens(&OFFSETS, 1);
    let route = |pick: Pick| Route { passes: 1, sites: 1, picks: vec![pick, Pick::One(0)] };
    for pick in [Pick::One(3), Pick::PerExample(vec![0, 1]), Pick::PerToken(vec![0, 1, 2, 3, 0, 0, 0, 0, 0])] {
        assert!(rows.groups(&route(pick.clone()), 0, Side::Down, EXPERTS).is_err(), "{pick:?}");
    }
    let two = Route { passes: 2, sites: 1, picks: vec![Pick::One(0); 4] };
    assert!(rows.groups(&two, 0, Side::Down, EXPERTS).is_err(), "two passes for one");
}

#[test]
fn consistency_against_autograd() {
    let (n, classes) = (5, 4);
    let (za, zb) = ((random((n, classes), 1) * 2.0).unwrap(), (random((n, classes), 2) * 2.0).unwrap());
    let one = Tensor::ones((), DType::F64, &Device::Cpu).unwrap();
    let log_softmax = |z: &Tensor| z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?);
    let flat = |z: &Tensor| super::values(z);
    for detach in [true, false] {
        let hold = |t: Tensor| if detach { super::detached(&t) } else { t };
        let auto = autograd(&[&za, &zb], &one, |v| {
            let (la, lb) = (log_softmax(&v[0])?, log_softmax(&v[1])?);
            let (ta, tb) = (hold(la.clone()), hold(lb.clone()));
            let b_from_a = (tb.exp()? * (tb - la)?)?.sum_all()?;
            let a_from_b = (ta.exp()? * (ta - lb)?)?.sum_all()?;
            (b_from_a + a_from_b)? * (0.5 / n as f64)
        });
        let got = symmetric_kl(&flat(&za), &flat(&zb), classes, detach);
        let tensor = |g: Vec<f64>| Tensor::from_vec(g, (n, classes), &Device::Cpu).unwrap();
        close(&format!("symmetric KL a, detach {detach}"), &tensor(got.grad_a), &auto[0], 1e-12);
        close(&format!("symmetric KL b, detach {detach}"), &tensor(got.grad_b), &auto[1], 1e-12);

        let (ya, yb) = (random(7, 3), random(7, 4));
        let auto = autograd(&[&ya, &yb], &one, |v| {
            let (ta, tb) = (hold(v[0].clone()), hold(v[1].clone()));
            ((&v[0] - tb)?.sqr()? + (&v[1] - ta)?.sqr()?)?.sum_all()? * (0.5 / v[0].elem_count() as f64)
        });
        let got = squared_difference(&flat(&ya), &flat(&yb), detach);
        let tensor = |g: Vec<f64>| Tensor::from_vec(g, 7, &Device::Cpu).unwrap();
        close(&format!("squared difference a, detach {detach}"), &tensor(got.grad_a), &auto[0], 1e-12);
        close(&format!("squared difference b, detach {detach}"), &tensor(got.grad_b), &auto[1], 1e-12);
    }
}
