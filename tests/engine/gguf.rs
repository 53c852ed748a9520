//! Models out of GGUF files: formats, quantised matrices, whole models, training through them, files that lie.

mod formats;
mod lies;
mod models;

use crate::support::gguf::{Entries, Stored, Value, number, text};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{Device, NumberFormat, Tensor};
use candle_core::quantized::{GgmlDType, QTensor};

/// Reproducible normal values.
pub fn noise(shape: &[usize], std: f64, index: u64) -> Tensor {
    let values = SeedStream::new(8).stream(Purpose::Init, index).normal_vec(shape.iter().product(), std);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn ggml(format: NumberFormat) -> GgmlDType {
    match format {
        NumberFormat::F32 => GgmlDType::F32,
        NumberFormat::F16 => GgmlDType::F16,
        NumberFormat::Bf16 => GgmlDType::BF16,
        NumberFormat::Q8_0 => GgmlDType::Q8_0,
        NumberFormat::Q4_0 => GgmlDType::Q4_0,
        NumberFormat::Q4_1 => GgmlDType::Q4_1,
        NumberFormat::Q5_0 => GgmlDType::Q5_0,
        NumberFormat::Q5_1 => GgmlDType::Q5_1,
        NumberFormat::Q4K => GgmlDType::Q4K,
        NumberFormat::Q5K => GgmlDType::Q5K,
        NumberFormat::Q6K => GgmlDType::Q6K,
    }
}

/// A tensor in this format, by candle: bytes, and the values they stand for.
pub fn quantised(dense: &Tensor, format: NumberFormat) -> (Vec<u8>, Tensor) {
    let q = QTensor::quantize(dense.candle().unwrap(), ggml(format)).unwrap();
    (q.data().unwrap().to_vec(), q.dequantize(&candle_core::Device::Cpu).unwrap().into())
}

/// Formats of q, k, v, o, gate, up and down.
type Formats = [NumberFormat; 7];

const K_QUANTS: Formats = [
    NumberFormat::Q4K,
    NumberFormat::Q5K,
    NumberFormat::Q6K,
    NumberFormat::Q8_0,
    NumberFormat::Q4K,
    NumberFormat::Q6K,
    NumberFormat::Q5_1,
];

const D: usize = 256;

/// The metadata of a small llama: 256 wide, 1 layer, 2 heads of 32 on one key head, 64 in between, 24 tokens.
fn metadata() -> Entries {
    let entry = |key: &str, value: Value| (format!("llama.{key}"), value);
    let mut entries = vec![("general.architecture".to_owned(), text("llama"))];
    entries.extend(
        [
            ("context_length", 64),
            ("embedding_length", D as u32),
            ("block_count", 1),
            ("feed_forward_length", 64),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 32),
            ("attention.value_length", 32),
            ("rope.dimension_count", 32),
        ]
        .map(|(key, value)| entry(key, Value::U32(value))),
    );
    entries.push(entry("attention.layer_norm_rms_epsilon", number(1e-5)));
    entries.push(entry("rope.freq_base", number(10_000.0)));
    entries
}

/// Its tensors in these formats; an untied head in Q6_K.
fn tensors(formats: Formats) -> Vec<Stored> {
    let mut stored = Vec::new();
    let mut add = |name: &str, shape: &[usize], std: f64, format: NumberFormat| {
        let mut dense = noise(shape, std, stored.len() as u64);
        if name.contains("norm") {
            dense = (dense + 1.0).unwrap();
        }
        let bytes = quantised(&dense, format).0;
        let shape = shape.iter().map(|&size| size as u64).collect();
        stored.push(Stored { name: name.to_owned(), shape, dtype: format.ggml(), bytes });
    };
    add("token_embd.weight", &[24, D], 0.6, NumberFormat::Q6K);
    add("output_norm.weight", &[D], 0.2, NumberFormat::F32);
    add("output.weight", &[24, D], 0.2, NumberFormat::Q6K);
    add("blk.0.attn_norm.weight", &[D], 0.2, NumberFormat::F32);
    add("blk.0.ffn_norm.weight", &[D], 0.2, NumberFormat::F32);
    let parts: [(&str, [usize; 2]); 7] = [
        ("attn_q", [64, D]),
        ("attn_k", [32, D]),
        ("attn_v", [32, D]),
        ("attn_output", [D, 64]),
        ("ffn_gate", [64, D]),
        ("ffn_up", [64, D]),
        ("ffn_down", [D, 64]),
    ];
    for ((part, shape), format) in parts.into_iter().zip(formats) {
        add(&format!("blk.0.{part}.weight"), &shape, 1.2 / (shape[1] as f64).sqrt(), format);
    }
    stored
}
