//! Exports and their readers.

use super::{merged, tensor};
use crate::support::exported;
use adamix::artifact::export::{self, ExportMeta, ExportTarget, Recipe};
use adamix::config::{Activation, MixtureConfig};
use adamix::tensor::{HostTensor, NumberFormat, safetensors};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub(crate) fn meta(model_type: &str, hidden_size: usize, adapter_size: usize) -> ExportMeta {
    ExportMeta {
        base_model: "models/tiny".to_owned(),
        model_type: model_type.to_owned(),
        hidden_size,
        mixture: MixtureConfig { adapter_size, ..MixtureConfig::default() },
        labels: vec!["negative".to_owned(), "positive".to_owned()],
        weights: None,
        recipe: Recipe::uniform(4),
        chat: None,
        dtype: NumberFormat::F32,
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn squeezed(tensors: &[HostTensor]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut all: Vec<_> =
        tensors.iter().map(|t| (t.name.clone(), t.squeezed_shape().to_vec(), t.data.clone())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_merged_adapter_tells_its_story() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("exports/adapter");
    let tensors = merged("roberta", 2, 8, 3, 2);
    exported::merged_adapter(&out, &tensors, &meta("roberta", 8, 3)).unwrap();
    let loaded = export::read(&out).unwrap();
    let (_, metadata) = safetensors::read(&out.join("adapter.safetensors")).unwrap();
    assert_eq!((ExportTarget::of(&out).unwrap(), loaded.dtype), (ExportTarget::Merged, NumberFormat::F32));
    assert_eq!(squeezed(&loaded.tensors), squeezed(&tensors));
    let down = loaded.tensors.iter().find(|t| t.name == "layers.1.ffn.down.weight").unwrap();
    assert_eq!(down.shape, [3, 8], "one adapter, not a bank of one");
    for (key, value) in [
        ("format", "adamix-adapter"),
        ("base_model", "models/tiny"),
        ("num_experts", "4"),
        ("adapter_size", "3"),
        ("activation", "gelu"),
        ("dtype", "F32"),
        ("labels", "[\"negative\",\"positive\"]"),
    ] {
        assert_eq!(metadata[key], value, "{key}");
    }
    assert!(metadata["tool"].starts_with("adamix "));
    assert!(metadata["recipe"].contains("1/4"));
    assert_eq!(toml::from_str::<Recipe>(&metadata["recipe_toml"]).unwrap(), Recipe::uniform(4));
    // The same export again: the same bytes.
    let again = dir.path().join("again");
    exported::merged_adapter(&again, &tensors, &meta("roberta", 8, 3)).unwrap();
    let bytes = |dir: &Path| fs::read(dir.join("adapter.safetensors")).unwrap();
    assert_eq!(bytes(&out), bytes(&again));
}

#[test]
fn what_is_not_merged_is_not_exported_as_merged() {
    let dir = tempfile::tempdir().unwrap();
    let banks = [tensor("layers.0.ffn.down.weight", &[4, 3, 8])];
    let text = exported::merged_adapter(&dir.path().join("a"), &banks, &meta("bert", 8, 3)).unwrap_err().to_string();
    assert!(text.contains("layers.0.ffn.down.weight") && text.contains("not merged"), "{text}");
    assert!(!dir.path().join("a").exists());
}

#[test]
fn experts_keep_their_banks_and_half_precision_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let banks = [
        tensor("layers.0.ffn.down.weight", &[4, 3, 8]),
        tensor("layers.0.ffn.up.weight", &[1, 8, 3]),
        tensor("classifier.weight", &[2, 8]),
    ];
    for dtype in [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16] {
        let out = dir.path().join(dtype.name());
        exported::experts(&out, &banks, &ExportMeta { dtype, ..meta("bert", 8, 3) }).unwrap();
        let loaded = export::read(&out).unwrap();
        assert_eq!((ExportTarget::of(&out).unwrap(), loaded.dtype), (ExportTarget::Experts, dtype));
        for (stored, original) in loaded.tensors.iter().zip(&banks) {
            assert_eq!(stored.shape, original.shape);
            let rounded: Vec<f32> = original.data.iter().map(|value| dtype.round(*value)).collect();
            assert_eq!(stored.data, rounded);
        }
        assert!(
            !safetensors::read(&out.join("experts.safetensors")).unwrap().1.contains_key("recipe"),
            "nothing was merged"
        );
    }
}

#[test]
fn a_directory_with_contents_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    let tensors = merged("bert", 1, 4, 2, 2);
    let err = exported::merged_adapter(dir.path(), &tensors, &meta("bert", 4, 2)).unwrap_err();
    assert!(err.to_string().contains("not empty"), "{err}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    exported::merged_adapter(&empty, &tensors, &meta("bert", 4, 2)).unwrap();
    assert!(export::read(dir.path()).unwrap_err().to_string().contains("no export"));
}

#[test]
fn an_adapterhub_directory_has_the_library_s_names() {
    for (model_type, class, head) in [
        ("roberta", "RobertaForSequenceClassification", "classifier.out_proj.weight"),
        ("bert", "BertForSequenceClassification", "classifier.weight"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("hub");
        let tensors = merged(model_type, 2, 8, 3, 2);
        exported::adapterhub(&out, &tensors, &meta(model_type, 8, 3), "reviews").unwrap();

        let config = json(&out.join("adapter_config.json"));
        assert_eq!(config["version"], "adapters.1.2.0");
        assert_eq!((&config["name"], &config["model_class"]), (&"reviews".into(), &class.into()));
        let bottleneck = &config["config"];
        for (key, value) in [
            ("mh_adapter", Value::Bool(false)),
            ("output_adapter", Value::Bool(true)),
            ("original_ln_before", Value::Bool(false)),
            ("original_ln_after", Value::Bool(true)),
            ("residual_before_ln", Value::Bool(true)),
            ("adapter_residual_before_ln", Value::Bool(false)),
            ("ln_before", Value::Bool(false)),
            ("ln_after", Value::Bool(false)),
            ("non_linearity", "gelu".into()),
        ] {
            assert_eq!(bottleneck[key], value, "{key}");
        }
        assert!(bottleneck["scaling"].is_f64(), "the library takes an integer for a word");
        assert!((bottleneck["reduction_factor"].as_f64().unwrap() - 8.0 / 3.0).abs() < 1e-12);
        let head_config = json(&out.join("head_config.json"));
        assert_eq!(head_config["label2id"], serde_json::json!({ "negative": 0, "positive": 1 }));
        assert_eq!(head_config["num_labels"], 2);

        let (adapter, _) = safetensors::read(&out.join("adapter.safetensors")).unwrap();
        let name = format!("{model_type}.encoder.layer.1.output.adapters.reviews.adapter_down.0.weight");
        let down = adapter.iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!(down.shape, [3, 8]);
        assert_eq!(adapter.len(), 8);
        let (heads, _) = safetensors::read(&out.join("model_head.safetensors")).unwrap();
        assert!(heads.iter().any(|tensor| tensor.name == head));

        let loaded = export::read(&out).unwrap();
        assert_eq!(ExportTarget::of(&out).unwrap(), ExportTarget::AdapterHub);
        assert_eq!(squeezed(&loaded.tensors), squeezed(&tensors));
    }
}

#[test]
fn a_trained_pooler_becomes_a_flexible_head() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hub");
    let mut tensors = merged("bert", 2, 8, 2, 2);
    tensors.push(tensor("pooler.dense.weight", &[8, 8]));
    tensors.push(tensor("pooler.dense.bias", &[8]));
    exported::adapterhub(&out, &tensors, &meta("bert", 8, 2), "a").unwrap();
    let config = json(&out.join("head_config.json"));
    assert_eq!((&config["model_class"], &config["name"]), (&"BertAdapterModel".into(), &"a".into()));
    let names: Vec<String> =
        safetensors::read(&out.join("model_head.safetensors")).unwrap().0.into_iter().map(|t| t.name).collect();
    for name in ["heads.a.1.weight", "heads.a.1.bias", "heads.a.4.weight", "heads.a.4.bias"] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    assert_eq!(squeezed(&export::read(&out).unwrap().tensors), squeezed(&tensors));
    assert!(exported::adapterhub(&dir.path().join("r"), &tensors, &meta("roberta", 8, 2), "a").is_err());
}

#[test]
fn activations_are_called_what_the_library_calls_them() {
    for (activation, name) in [
        (Activation::Gelu, "gelu"),
        (Activation::GeluTanh, "gelu_new"),
        (Activation::Relu, "relu"),
        (Activation::Swish, "swish"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("hub");
        let mut meta = meta("bert", 8, 2);
        meta.mixture.activation = activation;
        meta.labels.clear();
        exported::adapterhub(&out, &merged("bert", 1, 8, 2, 1), &meta, "a").unwrap();
        let config = json(&out.join("adapter_config.json"));
        assert_eq!(config["config"]["non_linearity"], name);
        assert_eq!(config["config"]["reduction_factor"], 4, "a whole number stays one");
        assert_eq!(json(&out.join("head_config.json"))["num_labels"], 1, "regression");
    }
}

#[test]
fn what_adapterhub_cannot_express_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hub");
    let tensors = merged("bert", 1, 8, 2, 2);
    assert!(exported::adapterhub(&out, &tensors, &meta("deberta", 8, 2), "a").is_err());
    assert!(exported::adapterhub(&out, &tensors, &meta("bert", 8, 2), "a.b").is_err());
    let mut more = tensors;
    more.push(tensor("bert.embeddings.word_embeddings.weight", &[8, 8]));
    let text = exported::adapterhub(&out, &more, &meta("bert", 8, 2), "a").unwrap_err().to_string();
    assert!(text.contains("bert.embeddings.word_embeddings.weight"), "{text}");
    let head_only = [tensor("classifier.weight", &[2, 8])];
    let text = exported::adapterhub(&out, &head_only, &meta("bert", 8, 2), "a").unwrap_err().to_string();
    assert!(text.contains("no adapters"), "{text}");
    assert!(!out.exists());
}

/// What `adapterhub_check.py` had the library itself save: the adapters `experts/single` of the tiny golden models.
#[test]
fn an_adapterhub_directory_equals_the_library_s_own() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for family in ["bert", "roberta"] {
        let model = golden.join(format!("{family}-tiny"));
        let mut tensors = Vec::new();
        for (file, prefix, rest) in
            [("adamix.safetensors", "experts/single/", "layers."), ("model.safetensors", "", "classifier.")]
        {
            for mut tensor in safetensors::read(&model.join(file)).unwrap().0 {
                if let Some(name) = tensor.name.strip_prefix(prefix).filter(|name| name.starts_with(rest)) {
                    tensor.name = name.to_owned();
                    tensors.push(tensor);
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("hub");
        let meta = ExportMeta {
            base_model: format!("{family}-tiny"),
            labels: (0..3).map(|n| format!("LABEL_{n}")).collect(),
            ..meta(family, 20, 5)
        };
        exported::adapterhub(&out, &tensors, &meta, "adamix").unwrap();

        let theirs = golden.join("adapterhub").join(family);
        for file in ["adapter_config.json", "head_config.json"] {
            let (mut ours, mut theirs) = (json(&out.join(file)), json(&theirs.join(file)));
            assert!(theirs["version"].as_str().unwrap().starts_with("adapters.1."));
            ours["version"] = Value::Null;
            theirs["version"] = Value::Null;
            assert_eq!(ours, theirs, "{family} {file}");
        }
        for file in ["adapter.safetensors", "model_head.safetensors"] {
            let read = |dir: &Path| {
                let mut tensors = safetensors::read(&dir.join(file)).unwrap().0;
                tensors.sort_by(|a, b| a.name.cmp(&b.name));
                tensors
            };
            assert_eq!(read(&out), read(&theirs), "{family} {file}");
        }
        // And the library's directory is one we can read.
        assert_eq!(squeezed(&export::read(&theirs).unwrap().tensors), squeezed(&tensors), "{family}");
    }
}
