//! Layers with parameters of their own: which gradients are added, under which tensor.

use super::{autograd, close, random, values, wide};
use adamix::error::Result;
use adamix::nn::embedding::Ids;
use adamix::nn::{Dropout, Embeddings, Grads, LayerNorm, Linear, Params};
use adamix::tensor::{D, Device, Tensor};

/// The gradient of the tensor called `name`.
fn gradient(params: &Params, grads: &Grads, name: &str) -> Tensor {
    let at = params.iter().position(|param| param.name == name).unwrap();
    grads.iter().find(|(id, _, _)| id.0 == at).unwrap_or_else(|| panic!("{name} has no gradient")).2.clone()
}

#[test]
fn a_trained_linear_adds_its_gradients_and_a_frozen_one_none() {
    let (x, w, b, dy) = (random((9, 7), 1), random((5, 7), 2), random(5, 3), random((9, 5), 4));
    let auto = autograd(&[&x, &w, &b], &dy, |v| v[0].matmul(&v[1].t()?)?.broadcast_add(&v[2]));
    let mut linear = Linear::new(w.clone(), Some(b.clone()));
    let mut params = Params::default();
    let mut none = Grads::new(&params);
    linear.add_grads(&x, &dy, &mut none).unwrap();
    assert_eq!(none.iter().count(), 0, "a frozen layer has no gradient");
    linear.train("dense", &mut params);
    let mut grads = Grads::new(&params);
    linear.add_grads(&x, &dy, &mut grads).unwrap();
    close("dx", &linear.backward(&dy).unwrap(), &auto[0], 1e-5);
    close("dW", &gradient(&params, &grads, "dense.weight"), &auto[1], 1e-5);
    close("db", &gradient(&params, &grads, "dense.bias"), &auto[2], 1e-5);
    linear.add_grads(&x, &dy, &mut grads).unwrap();
    close("a second batch adds", &gradient(&params, &grads, "dense.bias"), &(&auto[2] * 2.0).unwrap(), 1e-5);
    let acc = random((9, 7), 5);
    let sum = (wide(&acc) + &auto[0]).unwrap();
    close("acc + dx", &linear.backward_add(&dy, acc.copy().unwrap()).unwrap(), &sum, 1e-5);
}

#[test]
fn a_block_of_a_linear_adds_to_its_own_rows_only() {
    let (x, w, b, dy) = (random((6, 7), 1), random((9, 7), 2), random(9, 3), random((6, 4), 4));
    let auto = autograd(&[&x, &w, &b], &dy, |v| {
        v[0].matmul(&v[1].narrow(0, 3, 4)?.t()?)?.broadcast_add(&v[2].narrow(0, 3, 4)?)
    });
    let mut whole = Linear::new(w, Some(b));
    let mut params = Params::default();
    whole.train("qkv", &mut params);
    let block = whole.rows(3, 4).unwrap();
    close("dx", &block.backward(&dy).unwrap(), &auto[0], 1e-5);
    let mut grads = Grads::new(&params);
    Linear::add_block_grads(&whole, 3, &x, &dy, &mut grads).unwrap();
    close("dW", &gradient(&params, &grads, "qkv.weight"), &auto[1], 1e-5);
    close("db", &gradient(&params, &grads, "qkv.bias"), &auto[2], 1e-5);
}

#[test]
fn embeddings_add_to_the_rows_that_were_used() {
    let (word, position, segment) = (random((11, 8), 1), random((6, 8), 2), random((2, 8), 3));
    let (gamma, beta, dy) = (random(8, 4), random(8, 5), random((7, 8), 6));
    let rows: [&[u32]; 3] = [&[3, 1, 3, 0, 10, 3, 1], &[0, 1, 2, 3, 0, 1, 2], &[0, 0, 1, 1, 0, 0, 0]];
    let index = rows.map(|r| Tensor::new(r, &Device::Cpu).unwrap());
    for drop in [Dropout::none(), Dropout::new(8, 0.3)] {
        let mask = drop.mask(&[7, 8], &wide(&dy)).unwrap();
        let twin = |v: &[Tensor]| -> Result<Tensor> {
            let s = (v[0].index_select(&index[0], 0)? + v[1].index_select(&index[1], 0)?)?;
            let s = (s + v[2].index_select(&index[2], 0)?)?;
            let c = s.broadcast_sub(&s.mean_keepdim(D::Minus1)?)?;
            let sd = (c.sqr()?.mean_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
            c.broadcast_div(&sd)?.broadcast_mul(&v[3])?.broadcast_add(&v[4])? * &mask
        };
        let inputs = [&word, &position, &segment, &gamma, &beta];
        let auto = autograd(&inputs, &dy, twin);
        let norm = LayerNorm::new(gamma.clone(), beta.clone(), 1e-12);
        let mut layer = Embeddings::new(word.clone(), position.clone(), segment.clone(), norm);
        let mut params = Params::default();
        layer.train("embeddings", &mut params);
        let ids = Ids::new(rows[0].to_vec(), rows[1].to_vec(), rows[2].to_vec(), &Device::Cpu).unwrap();
        let (y, saved) = layer.forward(&ids, drop).unwrap();
        close("embeddings", &y, &twin(&inputs.map(wide)).unwrap(), 1e-5);
        let mut grads = Grads::new(&params);
        layer.backward(&saved, &dy, &mut grads).unwrap();
        let names = ["word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"];
        for (name, want) in names.into_iter().chain(["LayerNorm.weight", "LayerNorm.bias"]).zip(&auto) {
            close(name, &gradient(&params, &grads, &format!("embeddings.{name}")), want, 5e-5);
        }
        let unused = gradient(&params, &grads, "embeddings.word_embeddings.weight").narrow(0, 4, 6).unwrap();
        assert!(values(&unused).iter().all(|&v| v == 0.0), "a word that did not occur got a gradient");
    }
}

#[test]
fn gradients_of_micro_batches_add_up() {
    let mut params = Params::default();
    let a = params.add("a", &random(3, 1));
    let bank = params.add_bank("b", &random((2, 3), 2)).unwrap();
    let (mut first, mut second) = (Grads::new(&params), Grads::new(&params));
    first.add(a, 0, random(3, 3)).unwrap();
    first.add(bank, 0, random(3, 4)).unwrap();
    second.add(bank, 0, random(3, 5)).unwrap();
    first.merge(second).unwrap();
    first.scale(0.5).unwrap();
    close("mean", first.get(bank, 0).unwrap(), &((random(3, 4) + random(3, 5)).unwrap() * 0.5).unwrap(), 1e-6);
    assert!(first.get(bank, 1).is_none(), "an expert that was not drawn has no gradient");
    assert!(first.add(bank, 2, random(3, 6)).is_err(), "there is no third expert");
}
