//! Merging: the merged model is the single-adapter model, on random non-zero weights, with negative controls.

use crate::support::{assert_close, fill, tiny};
use adamix::config::{Problem, RunConfig};
use adamix::data::Batch;
use adamix::eval::compare::random_route;
use adamix::mixture::{Adapter, AdapterMixture, Bank, Lora, MergeWeights, Route, Side};
use adamix::model::loras::Module;
use adamix::model::network::{self, FfnAdapter};
use adamix::model::{BaseModel, CausalLm, Classifier, Encoder, Family, LmSetup, Network as _, Site};
use adamix::nn::{Linear, Weight};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Tensor};
use std::ops::Range;

fn setup(shared_up: bool) -> (RunConfig, Classifier, Batch) {
    let mut config = tiny::config(5);
    config.mixture.sharing_up = shared_up;
    let model = tiny::classifier(&config, Family::Roberta, 3);
    fill(model.params(), 0.4);
    let batch = tiny::task(20, Problem::Classification).train.batch(&[0, 3, 5, 9, 11]);
    (config, model, batch)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The weighted mean over the first dimension, computed apart from the code under test.
fn mean(bank: &Tensor, weights: &[f64]) -> Tensor {
    let shape = &bank.dims()[1..];
    let size: usize = shape.iter().product();
    let all = values(bank);
    let experts = bank.dims()[0];
    let weight = |e: usize| if experts == 1 { 1.0 } else { weights[e] };
    let mean: Vec<f32> =
        (0..size).map(|i| (0..experts).map(|e| weight(e) * all[e * size + i]).sum::<f64>() as f32).collect();
    Tensor::from_vec(mean, shape, &Device::Cpu).unwrap()
}

fn by_hand(model: &Classifier, weights: &[f64]) -> Classifier {
    let sites = model.sites();
    let adapters = sites.iter().map(|site| {
        let Site::Adapter(site) = site else { panic!("{site:?} is no adapter") };
        let part = |side| (mean(site.bank(side).weight(), weights), mean(site.bank(side).bias().unwrap(), weights));
        let bank = |(weight, bias): (Tensor, Tensor)| {
            Bank::new(weight.unsqueeze(0).unwrap(), Some(bias.unsqueeze(0).unwrap())).unwrap()
        };
        let act = network::act_of(model.mixture().unwrap().activation);
        AdapterMixture::new(bank(part(Side::Down)), bank(part(Side::Up)), act).merge(&[1.0]).unwrap()
    });
    let mut adapters: Vec<Adapter> = adapters.collect();
    let place = |encoder: &mut Encoder| {
        let layers = encoder.modules_mut().zip(adapters.drain(..));
        layers.for_each(|(layer, adapter)| layer.adapter = FfnAdapter::Merged(adapter));
        Ok(())
    };
    model.with_base(place).unwrap()
}

/// What a LoRA adds to each block's rows of the layer's weight: `s B_i A_i` in f64. `[width, in]` for each block
pub fn deltas(lora: &Lora) -> Vec<(Range<usize>, Tensor)> {
    let wide = |side| lora.side(side).unwrap().to_dtype(DType::F64).unwrap();
    let (a, b, rank, mut row) = (wide(Side::Down), wide(Side::Up), lora.rank(), 0);
    let mut found = Vec::new();
    for (i, columns) in lora.columns().iter().enumerate() {
        let b = b.narrow(0, row, columns.len()).unwrap().contiguous().unwrap();
        let product = b.matmul(&a.narrow(0, i * rank, rank).unwrap()).unwrap();
        found.push((columns.clone(), (product * lora.scale()).unwrap()));
        row += columns.len();
    }
    found
}

/// The layer's weight with a LoRA folded in. W `[out, in]` -> `[out, in]`
pub fn folded(lora: &Lora, weight: &Tensor) -> Tensor {
    let (d_out, _) = weight.dims2().unwrap();
    let sum = deltas(lora).into_iter().fold(weight.to_dtype(DType::F64).unwrap(), |sum, (columns, delta)| {
        (sum + delta.pad_with_zeros(0, columns.start, d_out - columns.end).unwrap()).unwrap()
    });
    sum.to_dtype(weight.dtype()).unwrap()
}

/// Adds every merged LoRA to the weight of its linear layer: a plain base model again.
fn fold(base: &mut impl BaseModel) {
    for adapted in base.modules_mut().flat_map(|layer| &mut layer.linears) {
        for placed in std::mem::take(&mut adapted.loras) {
            let Module::Merged(lora) = placed.module else { panic!("{} is not merged", placed.path) };
            let weight = match adapted.linear.weight() {
                Weight::Dense(dense) => folded(&lora, dense),
                Weight::Quantised(quantised) => folded(&lora, &quantised.dense().unwrap()),
            };
            adapted.linear = Linear::new(weight, adapted.linear.bias().cloned());
        }
    }
}

pub fn folded_classifier(merged: &Classifier) -> Classifier {
    let place = |encoder: &mut Encoder| {
        fold(encoder);
        Ok(())
    };
    merged.with_base(place).unwrap()
}

pub fn folded_language_model(merged: &CausalLm) -> CausalLm {
    let mut decoder = merged.base.clone();
    fold(&mut decoder);
    CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) }).unwrap()
}

#[test]
fn merged_forward_is_the_forward_of_a_single_adapter() {
    for shared_up in [true, false] {
        let (_, model, batch) = setup(shared_up);
        let merged = model.merged_own().unwrap().logits(&batch, None).unwrap();
        assert_close("merged", &merged, &by_hand(&model, &[0.25; 4]).logits(&batch, None).unwrap(), 1e-5, 1e-6);
    }
}

#[test]
fn any_weights_are_normalised_and_applied() {
    let (_, model, batch) = setup(false);
    let weights = MergeWeights::global(&[3.0, -1.0, 4.0, 2.0]).unwrap();
    let merged = model.merged(&weights).unwrap().logits(&batch, None).unwrap();
    let hand = by_hand(&model, &[0.375, -0.125, 0.5, 0.25]).logits(&batch, None).unwrap();
    assert_close("weighted", &merged, &hand, 1e-5, 1e-6);
    let uniform = model.merged_own().unwrap().logits(&batch, None).unwrap();
    assert!(merged.iter().zip(&uniform).any(|(a, b)| (a - b).abs() > 1e-3), "weights change nothing");
}

#[test]
fn weights_of_one_expert_are_that_experts_route() {
    let (config, model, batch) = setup(false);
    for expert in 0..4 {
        let mut weights = vec![0.0; 4];
        weights[expert] = 1.0;
        let merged = model.merged(&MergeWeights::global(&weights).unwrap()).unwrap().logits(&batch, None).unwrap();
        let fixed = model.logits(&batch, Some(&Route::fixed(&config.mixture, 3, expert))).unwrap();
        assert_close("one expert", &merged, &fixed, 1e-6, 1e-6);
    }
}

#[test]
fn each_site_can_have_its_own_weights() {
    let (config, model, batch) = setup(false);
    let pick = |expert: usize| (0..4).map(|e| f64::from(u8::from(e == expert))).collect::<Vec<_>>();
    let merged = model.merged(&MergeWeights::per_site(&[pick(2), pick(0), pick(3)]).unwrap()).unwrap();
    let mut route = Route::fixed(&config.mixture, 3, 0);
    for (site, expert) in [2u8, 0, 3].into_iter().enumerate() {
        for side in 0..2 {
            route.picks[site * 2 + side] = adamix::mixture::Pick::One(expert);
        }
    }
    let (got, want) = (merged.logits(&batch, None).unwrap(), model.logits(&batch, Some(&route)).unwrap());
    assert_close("per site", &got, &want, 1e-6, 1e-6);
}

#[test]
fn merging_changes_the_output_and_leaves_the_experts_alone() {
    let (config, model, batch) = setup(true);
    let before: Vec<Vec<f64>> = model.params().iter().map(|p| values(&p.value)).collect();
    let merged = model.merged_own().unwrap();
    let after: Vec<Vec<f64>> = model.params().iter().map(|p| values(&p.value)).collect();
    assert_eq!(before, after);
    assert!(merged.params().iter().next().is_none() && merged.mixture().is_none());
    let merged = merged.logits(&batch, None).unwrap();
    let random = model.logits(&batch, Some(&random_route(&config.mixture, 3, SeedStream::new(0), 0))).unwrap();
    assert!(merged.iter().zip(&random).any(|(a, b)| (a - b).abs() > 1e-3), "merged equals a random route");
    // Negative control: with all experts equal, every route is the merged model.
    for param in model.params().iter().filter(|p| p.bank) {
        let first = param.value.narrow(0, 0, 1).unwrap();
        let same = first.expand(param.value.shape()).unwrap().contiguous().unwrap().copy().unwrap();
        param.value.slice_set(&same, 0, 0).unwrap();
    }
    let merged = model.merged_own().unwrap().logits(&batch, None).unwrap();
    let random = model.logits(&batch, Some(&random_route(&config.mixture, 3, SeedStream::new(0), 1))).unwrap();
    assert_close("equal experts", &merged, &random, 1e-5, 1e-6);
}

#[test]
fn wrong_weights_are_refused() {
    let (_, model, _) = setup(true);
    assert!(MergeWeights::global(&[1.0, -1.0]).unwrap_err().to_string().contains("no usable sum"));
    assert!(MergeWeights::global(&[f64::NAN, 1.0]).is_err());
    let three = MergeWeights::global(&[1.0, 1.0, 1.0]).unwrap();
    assert!(model.merged(&three).unwrap_err().to_string().contains("3 merge weights for 4 experts"));
    let two_sites = MergeWeights::per_site(&[vec![1.0; 4], vec![1.0; 4]]).unwrap();
    assert!(model.merged(&two_sites).unwrap_err().to_string().contains("2 of 3 sites"));
}
