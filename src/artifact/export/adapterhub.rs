//! The merged adapter and head as a directory of the `adapters` library (AdapterHub).
//!
//! | file | what |
//! |---|---|
//! | `adapter_config.json` | where the adapter sits and how it computes |
//! | `adapter.safetensors` | `<type>.encoder.layer.I.output.adapters.<name>.adapter_{down.0,up}.{weight,bias}` |
//! | `head_config.json` | model class, labels |
//! | `model_head.safetensors` | the head, under the names of its model class |
//!
//! AdaMix puts its adapter where that library's sequential adapter goes with `output_adapter`, without its own
//! LayerNorms: `h = dense(x); h = up(f(down(h))) + h; LayerNorm(h + input)`. So nothing is lost. Load it with
//! `model.load_adapter(dir, use_safetensors=True)`.

use super::hub_head::{self, Head};
use super::native::{ADAPTER_FILE, plain};
use super::source::{Expected, ExportSource, LoadedModel, certify};
use super::target::ExportFormat;
use super::{ExportMeta, Loaded, read_files};
use crate::artifact::certificate::Certificate;
use crate::artifact::import::peft::CONFIG_FILE;
use crate::artifact::json::{read_config, write_json};
use crate::config::Activation;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::tensor::safetensors::{self, Metadata};
use serde_json::{Value, json};
use std::path::Path;

const HEAD_CONFIG_FILE: &str = "head_config.json";
const HEAD_FILE: &str = "model_head.safetensors";
const FILES: [&str; 4] = [CONFIG_FILE, ADAPTER_FILE, HEAD_CONFIG_FILE, HEAD_FILE];
/// The version of the library whose schema is written. Later ones read it.
const VERSION: &str = "adapters.1.2.0";

/// Our end of a tensor's name, and theirs.
const PARTS: [(&str, &str); 4] = [
    ("down.weight", "adapter_down.0.weight"),
    ("down.bias", "adapter_down.0.bias"),
    ("up.weight", "adapter_up.weight"),
    ("up.bias", "adapter_up.bias"),
];

/// The target.
pub(super) struct AdapterHub;

impl ExportFormat for AdapterHub {
    fn file(&self) -> &'static str {
        CONFIG_FILE
    }
    fn is_in(&self, dir: &Path) -> bool {
        dir.join(CONFIG_FILE).is_file() && !super::peft::is_in(dir)
    }
    fn file_names(&self, _: &Path) -> Result<Vec<String>> {
        Ok(FILES.map(str::to_owned).to_vec())
    }
    fn read(&self, dir: &Path) -> Result<Loaded> {
        let path = dir.join(CONFIG_FILE);
        let config = read_config(&path)?;
        let name = config["name"].as_str();
        let unnamed = || Error::format(format!("the configuration names no adapter: {}", path.display()));
        let name = name.ok_or_else(unnamed)?;
        read_files(&[
            (dir.join(ADAPTER_FILE), &|theirs| our_name(theirs, name)),
            (dir.join(HEAD_FILE), &|theirs| hub_head::our_name(theirs, name)),
        ])
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let tensors = source.tensors(false)?;
        adapterhub(dir, &tensors, source.meta(), "adamix")?;
        let run = |loaded: &[HostTensor]| source.logits(LoadedModel::Merged(loaded));
        certify(dir, source, &tensors, Expected::Merged, run)
    }
}

/// Writes the files into `dir`. `name` is the adapter's name in the library; letters, digits, `_` and `-`.
/// Tensors are the merged ones: `layers.I.ffn...`, and the head's `classifier...` and, where it was trained, `pooler.dense...`.
pub fn adapterhub(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta, name: &str) -> Result<()> {
    let kind = Head::of(&meta.model_type, tensors)?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(Error::config(format!("adapter name {name:?} may have letters, digits, _ and - only")));
    }
    let (mut adapter, mut head) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let mut tensor = plain(tensor)?;
        if let Some(theirs) = kind.their_name(&tensor.name, name) {
            tensor.name = theirs;
            head.push(tensor);
        } else {
            tensor.name = their_name(&tensor.name, &meta.model_type, name)?;
            adapter.push(tensor);
        }
    }
    if adapter.is_empty() {
        // The library would load the directory and start from a random adapter, without a word.
        return Err(Error::config("there are no adapters in this model, so there is nothing for AdapterHub to load"));
    }
    let format = Metadata::from([("format".to_owned(), "pt".to_owned())]);
    write_json(&dir.join(CONFIG_FILE), &adapter_config(meta, kind.model_class(), name))?;
    safetensors::write(&dir.join(ADAPTER_FILE), &adapter, meta.dtype, &format)?;
    write_json(&dir.join(HEAD_CONFIG_FILE), &kind.config(meta, name, VERSION))?;
    safetensors::write(&dir.join(HEAD_FILE), &head, meta.dtype, &format)
}

fn their_name(ours: &str, model_type: &str, adapter: &str) -> Result<String> {
    let site = ours.strip_prefix("layers.").and_then(|rest| rest.split_once(".ffn."));
    let part = site.and_then(|(_, end)| PARTS.iter().find(|(our_end, _)| *our_end == end));
    match (site, part) {
        (Some((layer, _)), Some((_, end))) => {
            Ok(format!("{model_type}.encoder.layer.{layer}.output.adapters.{adapter}.{end}"))
        }
        _ => Err(Error::config(format!("tensor {ours} has no place in an AdapterHub directory; export it otherwise"))),
    }
}

fn our_name(theirs: &str, adapter: &str) -> Result<String> {
    let layer = theirs.split_once("encoder.layer.").and_then(|(_, rest)| rest.split_once(".output.adapters."));
    let part = layer.and_then(|(layer, rest)| {
        let end = rest.strip_prefix(adapter)?.strip_prefix('.')?;
        Some((layer, PARTS.iter().find(|(_, their_end)| *their_end == end)?.0))
    });
    match part {
        Some((layer, end)) => Ok(format!("layers.{layer}.ffn.{end}")),
        None => Err(Error::format(format!("tensor {theirs} is not part of an output adapter {adapter:?}"))),
    }
}

/// Keys in the library's order, which is the alphabet's.
fn adapter_config(meta: &ExportMeta, class: &str, name: &str) -> Value {
    json!({
        "config": {
            "adapter_residual_before_ln": false,
            "cross_adapter": false,
            "dropout": 0.0,
            "factorized_phm_W": true,
            "factorized_phm_rule": false,
            "hypercomplex_nonlinearity": "glorot-uniform",
            "init_weights": "bert",
            "init_weights_seed": null,
            "inv_adapter": null,
            "inv_adapter_reduction_factor": null,
            "is_parallel": false,
            "learn_phm": true,
            "leave_out": [],
            "ln_after": false,
            "ln_before": false,
            "mh_adapter": false,
            "non_linearity": non_linearity(meta.mixture.activation),
            "original_ln_after": true,
            "original_ln_before": false,
            "output_adapter": true,
            "phm_bias": true,
            "phm_c_init": "normal",
            "phm_dim": 4,
            "phm_init_range": 0.0001,
            "phm_layer": false,
            "phm_rank": 1,
            "reduction_factor": reduction_factor(meta.hidden_size, meta.merged_width()),
            "residual_before_ln": true,
            "scaling": 1.0, // must be a float there
            "shared_W_phm": false,
            "shared_phm_rule": true,
            "stochastic_depth": 0.0,
            "use_gating": false
        },
        "hidden_size": meta.hidden_size,
        "model_class": class,
        "model_name": meta.base_model,
        "model_type": meta.model_type,
        "name": name,
        "version": VERSION
    })
}

/// Names in transformers' table of activations.
fn non_linearity(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu => "relu",
        Activation::Swish => "swish",
    }
}

/// d / r: a whole number where it is one. The library gets r back as the floor of d over this number, so a
/// quotient that was rounded up is taken one step down.
fn reduction_factor(hidden_size: usize, adapter_size: usize) -> Value {
    if hidden_size.is_multiple_of(adapter_size) {
        return json!(hidden_size / adapter_size);
    }
    let (d, r) = (hidden_size as f64, adapter_size as f64);
    let quotient = d / r;
    // The sign of the exact product's error, without rounding in between.
    json!(if quotient.mul_add(r, -d) > 0.0 { quotient.next_down() } else { quotient })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for end in ["down.weight", "down.bias", "up.weight", "up.bias"] {
            let ours = format!("layers.11.ffn.{end}");
            let theirs = their_name(&ours, "roberta", "my_task").unwrap();
            assert_eq!(our_name(&theirs, "my_task").unwrap(), ours);
            assert!(our_name(&theirs, "my").is_err(), "another adapter's name");
        }
        let name = their_name("layers.3.ffn.down.weight", "bert", "a").unwrap();
        assert_eq!(name, "bert.encoder.layer.3.output.adapters.a.adapter_down.0.weight");
        assert!(their_name("attention.dense.weight", "bert", "a").is_err());
        assert!(their_name("layers.3.attention.down.weight", "bert", "a").is_err());
    }

    #[test]
    fn the_library_gets_the_bottleneck_back() {
        for d in 1..=1024usize {
            // A bottleneck of experts side by side may be wider than the hidden state.
            for r in (1..=d).chain([d + 1, 2 * d - 1, 2 * d, 4 * d, 4 * d + 3]) {
                let factor = reduction_factor(d, r).as_f64().unwrap();
                // Python's `d // factor` is the floor of the exact quotient: the largest n with n * factor <= d.
                let fits = |n: usize| factor.mul_add(n as f64, -(d as f64)) <= 0.0;
                assert!(fits(r) && !fits(r + 1), "hidden size {d}, adapter size {r}, factor {factor}");
            }
        }
    }
}
