//! Three averages side by side, and what rounding costs.

use super::{base, logits, random, settings};
use crate::merge::deltas;
use adamix::analysis::averages::{apart, ensemble, probabilities};
use adamix::analysis::rounding::{Tally, budget};
use adamix::config::MixtureConfig;
use adamix::mixture::{Lora, Side};
use adamix::model::{Network as _, Site};
use adamix::tensor::{Device, HostTensor, NumberFormat, Tensor};
use adamix::workflow::studies::lora_averages::{distance, norm, site, truncate};

fn delta(lora: &Lora) -> Vec<f64> {
    deltas(lora).iter().flat_map(|(_, d)| d.flatten_all().unwrap().to_vec1::<f64>().unwrap()).collect()
}

fn frobenius(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn near(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{what}: {got} instead of {want}");
}

#[test]
fn averages_differ_where_nothing_is_shared_and_are_one_where_a_side_is() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let place = tempfile::tempdir().unwrap();
        let dir = base(family, place.path());
        for sharing_up in [false, true] {
            let mixture = MixtureConfig { sharing_up, ..settings(&[]) };
            let model = random(&dir, &mixture);
            for found in model.sites() {
                let Site::Lora(lora) = found else { panic!("an adapter") };
                let weights = [0.5, 0.3, 0.2];
                let all = site(lora, &weights).unwrap();
                let (f, d, t) = (delta(&lora.merge(&weights).unwrap()), delta(&all.deltas), delta(&all.truncated));
                near("norm", all.factors_norm, frobenius(f.iter().copied()));
                near("norm", all.deltas_norm, frobenius(d.iter().copied()));
                near("distance", all.factors_off, frobenius(f.iter().zip(&d).map(|(a, b)| a - b)));
                near("truncated", all.truncated_off, frobenius(t.iter().zip(&d).map(|(a, b)| a - b)));
                assert_eq!(all.truncated.rank(), 2);
                assert_eq!(all.deltas.rank(), if sharing_up { 2 } else { 6 });
                if sharing_up {
                    assert!(
                        all.factors_off < 1e-5 && all.truncated_off < 1e-5,
                        "{} {}",
                        all.factors_off,
                        all.truncated_off
                    );
                } else {
                    assert!(all.factors_off > 0.1 && all.truncated_off > 0.01);
                    // No matrix of rank 2 is nearer, this one included.
                    assert!(all.truncated_off < all.factors_off);
                }
            }
        }
    }
}

#[test]
fn a_known_case() {
    // Two experts of rank 1: B A = e1 e1ᵀ and e2 e2ᵀ. Mean of deltas: I / 2. Mean of factors: all ones / 4.
    let tensor = |values: &[f32], shape: (usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let both: Vec<_> = std::iter::once(0..2).collect();
    let deltas =
        Lora::new(&tensor(&[1., 0., 0., 1.], (2, 2)), &tensor(&[0.5, 0., 0., 0.5], (2, 2)), both.clone(), 1.0).unwrap();
    let factors = Lora::new(&tensor(&[0.5, 0.5], (1, 2)), &tensor(&[0.5, 0.5], (2, 1)), both.clone(), 1.0).unwrap();
    near("factors", norm(&factors).unwrap(), 0.5);
    near("deltas", norm(&deltas).unwrap(), 0.5f64.sqrt());
    near("apart", distance(&factors, &deltas).unwrap(), 0.5);
    let (nearest, lost) = truncate(&deltas, 1).unwrap();
    near("lost", lost, 0.5);
    near("kept", norm(&nearest).unwrap(), 0.5);
    assert_eq!(nearest.side(Side::Down).unwrap().dims(), [1, 2]);
}

#[test]
fn outputs_are_averaged_as_probabilities() {
    let place = tempfile::tempdir().unwrap();
    let dir = base("gpt2-tiny", place.path());
    let mixture = MixtureConfig { sharing_up: false, ..settings(&[]) };
    let model = random(&dir, &mixture);
    let experts: Vec<Vec<f32>> = (0..3).map(|e| logits(&model.with_loras(|_, lora| lora.expert(e)).unwrap())).collect();
    let weights = [1.0 / 3.0; 3];
    let mean = ensemble(&experts, &weights, 32).unwrap();
    near("a row sums to one", mean[..32].iter().sum(), 1.0);
    let factors = apart(&mean, &logits(&model.merged_own().unwrap()), 32);
    let deltas = apart(&mean, &logits(&model.with_loras(|_, lora| lora.merge_deltas(&weights)).unwrap()), 32);
    assert!(factors.kl > 0.0 && deltas.kl > 0.0 && factors != deltas, "{factors:?} {deltas:?}");
    let itself = apart(&probabilities(&experts[0], 32), &experts[0], 32);
    assert!(itself.largest == 0.0 && itself.kl.abs() < 1e-12 && itself.changed == 0);
    assert!(ensemble(&experts, &weights[..2], 32).is_err());
}

#[test]
fn a_rounding_budget_predicts_what_is_measured() {
    // Rows of whole blocks, for Q8_0.
    let shapes: [(&str, &[usize]); 3] =
        [("layers.0.x.weight", &[2, 32]), ("layers.1.x.weight", &[2, 32]), ("head.weight", &[3, 32])];
    let tensors: Vec<HostTensor> = shapes
        .iter()
        .map(|(name, shape)| {
            let n: usize = shape.iter().product();
            HostTensor::new(
                *name,
                *shape,
                (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>(),
            )
            .unwrap()
        })
        .collect();
    // Two rows of three outputs, linear in every tensor alone.
    let mut run = |tensors: &[HostTensor]| {
        let mut out = Vec::new();
        for row in 0..2 {
            let x: Vec<f32> = (0..32).map(|i| ((i + 5 * row) as f32 * 0.37).sin()).collect();
            let dot = |w: &[f32]| w.iter().zip(&x).map(|(a, b)| a * b).sum::<f32>();
            let h: Vec<f32> = (0..2)
                .map(|k| dot(&tensors[0].data[32 * k..32 * k + 32]) + dot(&tensors[1].data[32 * k..32 * k + 32]))
                .collect();
            out.extend(tensors[2].data.chunks(32).map(|w| w[0] * h[0] + w[1] * h[1]));
        }
        Ok(out)
    };
    let base = run(&tensors).unwrap();
    let mut of = |store| budget(&tensors, store, true, (&base, 3), &mut run).unwrap();
    let found = [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16, NumberFormat::Q8_0].map(&mut of);
    assert_eq!((found[0].predicted, found[0].moved.largest, found[0].causes.len()), (Some(0.0), 0.0, 0));
    for budget in &found[1..] {
        let predicted = budget.predicted.unwrap();
        assert!(budget.moved.largest > 0.0 && budget.moved.largest <= predicted * 1.05, "{budget:?}");
        assert_eq!(budget.causes.len(), 3);
        assert!(budget.causes.windows(2).all(|pair| pair[0].change >= pair[1].change));
        let names: Vec<&str> = budget.causes.iter().map(|cause| cause.part.as_str()).collect();
        assert!(names.contains(&"layers.1") && names.contains(&"head"), "{names:?}");
    }
    assert!(found[1].predicted < found[2].predicted, "16-bit floats are finer than brain floats");
    let unasked = budget(&tensors, NumberFormat::F16, false, (&base, 3), &mut run).unwrap();
    assert_eq!((unasked.predicted, &unasked.moved), (None, &found[1].moved));
}

#[test]
fn changes_of_weights_are_counted_in_units_of_the_last_place() {
    let change = |format: NumberFormat, values: Vec<f32>| {
        let exact = HostTensor::new("w", [1, values.len()], values).unwrap();
        let mut tally = Tally::default();
        tally.add(&exact, &exact.rounded(format).unwrap(), format);
        tally.done()
    };
    // f16 has 10 bits behind the point: 1 + 2^-11 lies half-way, and is moved down to 1.
    let half = change(NumberFormat::F16, vec![1.0 + 2f32.powi(-11), 4.0]);
    assert_eq!((half.ulps, half.largest, half.zeroed), (0.5, 2f64.powi(-11), 0));
    assert_eq!((half.relative, half.tensor.as_deref()), (2f64.powi(-13), Some("w")));
    near("norm", half.norm, 2f64.powi(-11) / (17.0 + 2f64.powi(-10)).sqrt());
    // The same distance is an eighth of a unit in bf16's larger steps, and above 1024 f16's step is 1.
    assert_eq!(change(NumberFormat::Bf16, vec![1.0 + 2f32.powi(-10)]).ulps, 0.125);
    assert_eq!(change(NumberFormat::F16, vec![1024.25]).ulps, 0.25);
    // Below its smallest normal number f16 has steps of 2^-24, and half of one is nothing.
    let lost = change(NumberFormat::F16, vec![2f32.powi(-25), 1.0]);
    assert_eq!((lost.ulps, lost.zeroed, lost.largest), (0.5, 1, 2f64.powi(-25)));
    assert_eq!(change(NumberFormat::F16, vec![2f32.powi(-24), 0.0]).zeroed, 0);
    // A block of Q8_0 has steps of its largest value over 127.
    let mut block = vec![0.0; 32];
    (block[0], block[1]) = (127.0, 3.25);
    let coarse = change(NumberFormat::Q8_0, block);
    assert_eq!((coarse.ulps, coarse.largest), (0.25, 0.25));
    let exact = change(NumberFormat::F32, vec![0.1, -7e-30]);
    assert_eq!((exact.ulps, exact.norm, exact.tensor, exact.values), (0.0, 0.0, None, 2));
}
