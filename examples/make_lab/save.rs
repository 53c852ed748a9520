//! The encoder as files in Hugging Face layout.

use adamix::error::{Error, Result};
use adamix::nn::{Linear, Params};
use adamix::tensor::{DType, Tensor};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Shape and constants of the lab encoder.
pub const CONFIG: &str = r#"{
  "architectures": ["BertForMaskedLM"],
  "attention_probs_dropout_prob": 0.0,
  "classifier_dropout": 0.1,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.0,
  "hidden_size": 128,
  "initializer_range": 0.02,
  "intermediate_size": 512,
  "layer_norm_eps": 1e-12,
  "max_position_embeddings": 128,
  "model_type": "bert",
  "num_attention_heads": 4,
  "num_hidden_layers": 4,
  "pad_token_id": 0,
  "type_vocab_size": 2,
  "vocab_size": 8192
}
"#;

/// Names in the file and values: `bert.` before the trunk, q, k and v apart.
fn tensors(params: &Params, pooler: &Linear) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for param in params.iter() {
        if let Some((before, after)) = param.name.split_once("self.qkv.") {
            let d = param.value.dim(0)? / 3;
            for (i, part) in ["query", "key", "value"].into_iter().enumerate() {
                tensors.insert(format!("bert.{before}self.{part}.{after}"), param.value.narrow(0, i * d, d)?);
            }
        } else if param.name.starts_with("cls.") {
            tensors.insert(param.name.clone(), param.value.clone());
        } else {
            tensors.insert(format!("bert.{}", param.name), param.value.clone());
        }
    }
    let bias = pooler.bias().ok_or_else(|| Error::internal("the pooler has no bias"))?;
    tensors.insert("bert.pooler.dense.weight".to_owned(), pooler.weight().tensor()?.clone());
    tensors.insert("bert.pooler.dense.bias".to_owned(), bias.clone());
    Ok(tensors)
}

/// Writes `config.json` and `model.safetensors` in half precision to `out`; the weights' bytes are returned.
pub fn write(params: &Params, pooler: &Linear, out: &Path) -> Result<Vec<u8>> {
    let mut buffers = Vec::new();
    for (name, tensor) in tensors(params, pooler)? {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        buffers.push((name, tensor.dims().to_vec(), bytes));
    }
    let broken = |err: safetensors::SafeTensorError| Error::internal(format!("the weights cannot be written: {err}"));
    let views = buffers
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes).map_err(broken)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    put(&out.join("config.json"), CONFIG.as_bytes())?;
    put(&out.join("model.safetensors"), &bytes)?;
    Ok(bytes)
}

/// Writes a file whole: under another name first.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).map_err(|err| Error::io("writing", &partial, err))?;
    std::fs::rename(&partial, path).map_err(|err| Error::io("renaming", path, err))
}
