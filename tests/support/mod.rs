//! Helpers shared by the test binaries.

pub mod cli;
pub mod exported;
pub mod gguf;
pub mod hub;
pub mod place;
pub mod tensorboard;
pub mod texts;
pub mod tiny;

use adamix::config::{Recompute, RunConfig};
use adamix::data::text::TextBatch;
use adamix::model::CausalLm;
use adamix::nn::Params;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{Device, Tensor};
use adamix::train::{Trainable as _, step};

/// Compares element by element with `|a - b| <= atol + rtol * |b|`; prints the worst element.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], rtol: f64, atol: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let mut worst = (0, 0.0f64);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let excess = (f64::from(g) - f64::from(w)).abs() - (atol + rtol * f64::from(w).abs());
        if excess > worst.1 || !excess.is_finite() {
            worst = (i, if excess.is_finite() { excess } else { f64::INFINITY });
        }
    }
    assert!(
        worst.1 <= 0.0,
        "{what}: element {} is {} but should be {} (beyond tolerance by {:.3e})",
        worst.0,
        got[worst.0],
        want[worst.0],
        worst.1
    );
}

/// Gives every trained tensor, biases too, random values: experts differ and say something.
pub fn fill(params: &Params, std: f64) {
    let mut stream = SeedStream::new(31).stream(Purpose::Init, 9);
    for param in params.iter() {
        let values = stream.normal_vec(param.value.elem_count(), std);
        let new = Tensor::from_vec(values, param.value.shape(), &Device::Cpu).unwrap();
        param.value.slice_set(&new.to_dtype(param.value.dtype()).unwrap(), 0, 0).unwrap();
    }
}

/// Loss and gradients of a batch are the same with activations that are kept and with layers that are run again.
#[track_caller]
pub fn assert_recompute_changes_no_bit(what: &str, config: &RunConfig, model: &CausalLm, batch: &TextBatch) {
    let mut config = config.clone();
    let mut run = |recompute: Recompute| {
        config.train.recompute = recompute;
        let route = step::draw_route(&config, model, model.size(batch), 4);
        let (loss, grads) = step::forward_backward(&config, model, batch, route.as_ref(), 4).unwrap();
        let values = |grad: &Tensor| grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (loss.read().unwrap(), grads.iter().map(|(_, _, grad)| values(grad)).collect::<Vec<_>>())
    };
    assert_eq!(run(Recompute::On), run(Recompute::Off), "{what}");
}
