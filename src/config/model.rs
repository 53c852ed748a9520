//! Which model, on which device, and what is trained.

use super::require;
use serde::{Deserialize, Serialize};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A mixture of adapters and the head; the trunk stays frozen.
    #[default]
    Adamix,
    /// The head alone: the baseline that shows what the adapters add.
    HeadOnly,
    /// Every weight: the expensive baseline.
    Full,
}

/// Where the numbers are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// The first GPU this build can use, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU; an error where there is none.
    Cuda,
    /// The Apple GPU; an error where there is none.
    Metal,
}

/// Which model, on which device, and what is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A directory in Hugging Face layout, or `lab` for the bundled encoder.
    pub path: String,
    /// What is trained.
    pub method: Method,
    /// Whether the trunk's own dropout (the model's `config.json`) is on in training, as in the reference.
    pub trunk_dropout: bool,
    /// Where the numbers are computed.
    pub device: DeviceChoice,
    /// CPU threads of the engine; 0: all cores, less one for the window when there is one.
    pub threads: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            path: "lab".to_owned(),
            method: Method::Adamix,
            trunk_dropout: true,
            device: DeviceChoice::Auto,
            threads: 0,
        }
    }
}

impl ModelConfig {
    pub(super) fn problems(&self, found: &mut Vec<String>) {
        require(found, !self.path.trim().is_empty(), || {
            "no model chosen; give a directory in Hugging Face layout, or \"lab\" for the bundled one".to_owned()
        });
        require(found, self.threads <= 1024, || format!("threads is {}; use 0 (automatic) to 1024", self.threads));
    }
}
