//! The model as files in Hugging Face layout.

use adamix::atomic;
use adamix::error::Result;
use adamix::nn::Params;
use adamix::tensor::{DType, HostTensor, NumberFormat, Tensor, safetensors};
use std::path::Path;

/// Shape and constants.
pub const CONFIG: &str = r#"{
  "architectures": ["LlamaForCausalLM"],
  "attention_bias": false,
  "bos_token_id": 0,
  "eos_token_id": 0,
  "head_dim": 40,
  "hidden_act": "silu",
  "hidden_size": 160,
  "initializer_range": 0.02,
  "intermediate_size": 448,
  "max_position_embeddings": 256,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 4,
  "num_hidden_layers": 4,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "tie_word_embeddings": true,
  "vocab_size": 4096
}
"#;

/// Names in the file and values: q, k and v apart, gate and up apart.
fn tensors(params: &Params) -> Result<Vec<HostTensor>> {
    let mut tensors = Vec::new();
    let mut push = |name: &str, value: &Tensor| -> Result<()> {
        let values = value.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        tensors.push(HostTensor::new(format!("model.{name}"), value.dims(), values)?);
        Ok(())
    };
    for param in params.iter() {
        let (name, value) = (param.name.as_str(), &param.value);
        if let Some(layer) = name.strip_suffix("self_attn.qkv_proj.weight") {
            // Four query heads to two of keys and two of values.
            let part = value.dim(0)? / 4;
            for (which, start, rows) in [("q", 0, 2 * part), ("k", 2 * part, part), ("v", 3 * part, part)] {
                push(&format!("{layer}self_attn.{which}_proj.weight"), &value.narrow(0, start, rows)?)?;
            }
        } else if let Some(layer) = name.strip_suffix("mlp.gate_up_proj.weight") {
            let half = value.dim(0)? / 2;
            push(&format!("{layer}mlp.gate_proj.weight"), &value.narrow(0, 0, half)?)?;
            push(&format!("{layer}mlp.up_proj.weight"), &value.narrow(0, half, half)?)?;
        } else {
            push(name, value)?;
        }
    }
    Ok(tensors)
}

/// Writes `config.json` and `model.safetensors` in half precision to `out`.
pub fn write(params: &Params, out: &Path) -> Result<()> {
    atomic::write_file(&out.join("config.json"), CONFIG.as_bytes())?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    safetensors::write(&out.join("model.safetensors"), &tensors(params)?, NumberFormat::F16, &metadata)
}
