//! Files that outlive the process: safetensors, run directories, records, checkpoints, exports.

mod checkpoints;
mod exports;
mod files;
mod records;
mod runs;

use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::HostTensor;

/// A tensor of reproducible normal numbers.
pub(crate) fn tensor(name: &str, shape: &[usize]) -> HostTensor {
    let index = name.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let data = SeedStream::new(11).stream(Purpose::Init, index).normal_vec(shape.iter().product(), 0.02);
    HostTensor::new(name, shape, data).unwrap()
}

/// A merged adapter of `layers` layers and a head of the family, as the engine names them.
pub(crate) fn merged(
    model_type: &str,
    layers: usize,
    hidden: usize,
    bottleneck: usize,
    labels: usize,
) -> Vec<HostTensor> {
    let mut tensors = Vec::new();
    for layer in 0..layers {
        let site = format!("layers.{layer}.ffn");
        tensors.push(tensor(&format!("{site}.down.weight"), &[1, bottleneck, hidden]));
        tensors.push(tensor(&format!("{site}.down.bias"), &[1, bottleneck]));
        tensors.push(tensor(&format!("{site}.up.weight"), &[1, hidden, bottleneck]));
        tensors.push(tensor(&format!("{site}.up.bias"), &[1, hidden]));
    }
    if model_type == "roberta" {
        tensors.push(tensor("classifier.dense.weight", &[hidden, hidden]));
        tensors.push(tensor("classifier.dense.bias", &[hidden]));
        tensors.push(tensor("classifier.out_proj.weight", &[labels, hidden]));
        tensors.push(tensor("classifier.out_proj.bias", &[labels]));
    } else {
        tensors.push(tensor("classifier.weight", &[labels, hidden]));
        tensors.push(tensor("classifier.bias", &[labels]));
    }
    tensors
}
