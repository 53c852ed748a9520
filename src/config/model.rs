//! Which model, on which device, and what is trained.

use super::{require, within};
use serde::{Deserialize, Serialize};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A mixture of adapters and the head; the base model stays frozen.
    #[default]
    Adamix,
    /// The head alone: the baseline that shows what the adapters add.
    HeadOnly,
    /// Every weight: the expensive baseline.
    Full,
}

/// Where the numbers are computed: `auto`, `cpu`, `cuda`, `cuda:1`, `gpu`, `gpu:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that can be used, else the CPU; never a software driver.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number, through CUDA; the CPU, with a warning, where it cannot be used.
    Cuda(usize),
    /// The GPU of this number, of any vendor; the CPU, with a warning, where it cannot be used.
    Gpu(usize),
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Gpu(0) => f.write_str("gpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Gpu(index) => write!(f, "gpu:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let refused = || {
            let apple = if lower.starts_with("metal") { "; Apple GPUs are reached by device gpu" } else { "" };
            format!("device {text:?} is unknown{apple}; choose auto, cpu, cuda, gpu, or a GPU by number as in cuda:1")
        };
        let (name, index) = match lower.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<u16>().map_err(|_| refused())?.into())),
            None => (lower.as_str(), None),
        };
        match (name, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("gpu", index) => Ok(Self::Gpu(index.unwrap_or(0))),
            _ => Err(refused()),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Written by programs that reached Apple's GPUs that way.
        let text = text.strip_prefix("metal").map_or(text.clone(), |number| format!("gpu{number}"));
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The number format of the frozen base model and its activations. Experts, head and optimizer are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DtypeChoice {
    /// bf16 through CUDA, f16 on other GPUs that have it, f32 elsewhere, when all weights are trained, and when a weight is too
    /// large for f16.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// 8 bits of precision, the range of f32.
    Bf16,
    /// 11 bits of precision, up to 65504.
    F16,
}

impl DtypeChoice {
    /// The choice that settings write so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "f16" => Some(Self::F16),
            _ => None,
        }
    }
}

/// Which model, on which device, and what is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A directory in Hugging Face layout, the name of a model in the Hugging Face cache (`org/name@commit` in a run's
    /// own record), `lab` for the bundled encoder, or `writer-lab` for the bundled language model.
    pub path: String,
    /// What is trained.
    pub method: Method,
    /// Whether the base model's own dropout (the model's `config.json`) is on in training, as in the reference.
    pub trunk_dropout: bool,
    /// Where the numbers are computed.
    pub device: DeviceChoice,
    /// Number format of the frozen base model.
    pub dtype: DtypeChoice,
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
            dtype: DtypeChoice::Auto,
            threads: 0,
        }
    }
}

impl ModelConfig {
    pub(super) fn problems(&self, found: &mut Vec<String>) {
        require(found, !self.path.trim().is_empty(), || {
            "no model chosen; give a directory in Hugging Face layout, a model's name, or \"lab\" for the bundled one"
                .to_owned()
        });
        let narrow = matches!(self.dtype, DtypeChoice::Bf16 | DtypeChoice::F16);
        require(found, !narrow || self.method != Method::Full, || {
            "training all weights needs them in f32; choose model.dtype auto or f32, or model.method adamix".to_owned()
        });
        within(found, "model.threads", self.threads, ..=1024, "use 0 (automatic) to 1024");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_by_name_and_number() {
        for (text, choice, written) in [
            ("auto", DeviceChoice::Auto, "auto"),
            (" CPU ", DeviceChoice::Cpu, "cpu"),
            ("cuda", DeviceChoice::Cuda(0), "cuda"),
            ("cuda:0", DeviceChoice::Cuda(0), "cuda"),
            ("cuda:11", DeviceChoice::Cuda(11), "cuda:11"),
            ("gpu:0", DeviceChoice::Gpu(0), "gpu"),
            ("GPU:1", DeviceChoice::Gpu(1), "gpu:1"),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), written);
        }
        for text in ["npu", "cuda:", "cuda:-1", "gpu:x", "cpu:1", "auto:0", "", "cuda:1:2", "metal", "Metal:0"] {
            let err = text.parse::<DeviceChoice>().unwrap_err();
            assert!(err.contains("cuda:1") && err.contains(&format!("{text:?}")), "{err}");
            let apple = text.to_ascii_lowercase().starts_with("metal");
            assert_eq!(err.contains("Apple GPUs are reached by device gpu"), apple, "{err}");
        }
    }

    #[test]
    fn files_that_name_metal_mean_that_gpu() {
        let read =
            |device: &str| toml::from_str::<ModelConfig>(&format!("device = {device:?}")).map(|read| read.device);
        assert_eq!(read("metal").unwrap(), DeviceChoice::Gpu(0));
        assert_eq!(read("metal:1").unwrap(), DeviceChoice::Gpu(1));
        assert!(read("metallic").unwrap_err().to_string().contains("unknown"));
    }

    #[test]
    fn formats_are_found_by_their_names() {
        for choice in [DtypeChoice::Auto, DtypeChoice::F32, DtypeChoice::Bf16, DtypeChoice::F16] {
            let name = serde_json::to_value(choice).unwrap();
            assert_eq!(DtypeChoice::named(name.as_str().unwrap()), Some(choice));
        }
        assert_eq!(DtypeChoice::named("f64"), None);
    }

    #[test]
    fn training_all_weights_refuses_a_narrow_format() {
        let problems = |dtype, method| {
            let mut found = Vec::new();
            ModelConfig { dtype, method, ..ModelConfig::default() }.problems(&mut found);
            found
        };
        for dtype in [DtypeChoice::Bf16, DtypeChoice::F16] {
            assert!(problems(dtype, Method::Full)[0].contains("f32"));
            assert!(problems(dtype, Method::Adamix).is_empty() && problems(dtype, Method::HeadOnly).is_empty());
        }
        assert!(problems(DtypeChoice::Auto, Method::Full).is_empty());
    }
}
