//! The head in an AdapterHub directory.
//!
//! A head that is that of the model class (`BertForSequenceClassification`, `RobertaForSequenceClassification`) keeps its
//! names and loads into that class and, converted by the library, into the one with flexible heads. A BERT whose pooler
//! was trained too, because its files had none, has no such class: pooler and classifier together are the library's
//! flexible head of two layers with tanh, and load into `BertAdapterModel` (`AutoAdapterModel`) only.

use super::ExportMeta;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use serde_json::{Map, Value, json};

/// Which of the library's heads ours becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The head of this model class.
    Fixed(&'static str),
    /// A flexible head of two layers.
    Flexible,
}

/// Our modules, and their places in a flexible head: dropout, linear, tanh, dropout, linear.
const FLEXIBLE: [(&str, &str); 2] = [("pooler.dense", "1"), ("classifier", "4")];

impl Head {
    /// The head for a model of this type with these tensors.
    pub(super) fn of(model_type: &str, tensors: &[HostTensor]) -> Result<Self> {
        let pooler = tensors.iter().any(|tensor| tensor.name.starts_with("pooler.dense."));
        match model_type {
            "bert" if pooler => Ok(Self::Flexible),
            "bert" => Ok(Self::Fixed("BertForSequenceClassification")),
            "roberta" => Ok(Self::Fixed("RobertaForSequenceClassification")),
            other => Err(Error::config(format!("AdapterHub exports are made for bert and roberta, not for {other:?}"))),
        }
    }

    /// The model class it loads into.
    pub(super) fn model_class(self) -> &'static str {
        match self {
            Self::Fixed(class) => class,
            Self::Flexible => "BertAdapterModel",
        }
    }

    /// Their name of one of our head's tensors; nothing for a tensor of something else.
    pub(super) fn their_name(self, ours: &str, name: &str) -> Option<String> {
        match self {
            Self::Fixed(_) => ours.starts_with("classifier.").then(|| ours.to_owned()),
            Self::Flexible => FLEXIBLE.iter().find_map(|(module, place)| {
                let end = ours.strip_prefix(module)?.strip_prefix('.')?;
                Some(format!("heads.{name}.{place}.{end}"))
            }),
        }
    }

    /// `head_config.json`, with its keys in the library's order.
    pub(super) fn config(self, meta: &ExportMeta, name: &str, version: &str) -> Value {
        let label2id: Map<String, Value> = match meta.labels.as_slice() {
            [] => Map::from_iter([("LABEL_0".to_owned(), json!(0))]),
            labels => labels.iter().enumerate().map(|(id, label)| (label.clone(), json!(id))).collect(),
        };
        let num_labels = meta.labels.len().max(1);
        match self {
            Self::Fixed(class) => json!({
                "config": null,
                "hidden_size": meta.hidden_size,
                "label2id": label2id,
                "model_class": class,
                "model_name": meta.base_model,
                "model_type": meta.model_type,
                "name": null,
                "num_labels": num_labels,
                "version": version
            }),
            Self::Flexible => json!({
                "config": {
                    "activation_function": "tanh",
                    "bias": true,
                    "dropout_prob": null,
                    "head_type": "classification",
                    "label2id": label2id,
                    "layers": 2,
                    "num_labels": num_labels,
                    "use_pooler": false
                },
                "hidden_size": meta.hidden_size,
                "model_class": self.model_class(),
                "model_name": meta.base_model,
                "model_type": meta.model_type,
                "name": name,
                "version": version
            }),
        }
    }
}

/// Our name of a tensor of a head file.
pub(super) fn our_name(theirs: &str, name: &str) -> Result<String> {
    let Some(rest) = theirs.strip_prefix("heads.") else { return Ok(theirs.to_owned()) };
    let place = rest.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'));
    let module = place.and_then(|(place, end)| Some((FLEXIBLE.iter().find(|(_, their)| *their == place)?.0, end)));
    match module {
        Some((module, end)) => Ok(format!("{module}.{end}")),
        None => Err(Error::format(format!("tensor {theirs} is not part of the head {name:?}"))),
    }
}
