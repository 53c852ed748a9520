//! Settings: plain data with defaults and validation. No tensors, no window, no files but TOML text.
//!
//! A [`RunConfig`] is everything a training run depends on; it is written, resolved, to `run.toml` in the run directory.
//! [`keys`] names every setting with its help text, [`presets`] holds the paper's runs.

pub mod advice;
pub mod belonging;
pub mod branching;
pub mod command_line;
pub mod data;
pub mod fitting;
pub mod keys;
pub mod law;
pub mod merge_plan;
pub mod mixture;
pub mod model;
pub mod model_id;
pub mod presets;
pub mod text;
pub mod train;
pub mod window;

pub use data::{BadRows, DataConfig, FileFormat, Metric, Problem, Task};
pub use law::{LawChange, RoutingLaw, RoutingPolicy};
pub use merge_plan::{MergeCost, MergePlan, Pairs};
pub use mixture::{Activation, AdapterInit, LoraInit, MixtureConfig, MixtureKind, lora_scaling};
pub use model::{DeviceChoice, DtypeChoice, Method, ModelConfig};
pub use text::{LAB, TextConfig, TextFormat, Truncate, WRITER_LAB};
pub use train::{EvalConfig, LONGEST_SAMPLE, MOST_SAMPLES, Recompute, Schedule, TrainConfig};
pub use window::WindowOptions;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A choice as settings files spell it, such as `per-batch`; empty for a value that is not one of a list of choices.
pub fn choice_name(choice: impl Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Everything a training run depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run's directory under `runs_dir`; empty: made from task, model and time.
    pub name: String,
    /// Directory that holds the runs; empty: `runs` under the user's data directory.
    pub runs_dir: String,
    /// Which model, on which device, and what is trained.
    pub model: ModelConfig,
    /// Which rows, which columns, how they become tokens.
    pub data: DataConfig,
    /// What a language model learns from a text file, and how the text becomes tokens.
    pub text: TextConfig,
    /// The mixture of adaptation modules.
    pub mixture: MixtureConfig,
    /// Optimisation.
    pub train: TrainConfig,
    /// What is measured, and how often.
    pub eval: EvalConfig,
}

impl RunConfig {
    /// Reads a run file. Unknown keys are refused with their name.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|err| Error::config(format!("the run file cannot be read: {err}")))
    }

    /// The run file with every key resolved.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|err| Error::internal(format!("settings cannot be written: {err}")))
    }

    /// Every setting in range and none in contradiction with another; the first problem found, in words.
    pub fn validate(&self) -> Result<()> {
        match self.problems().into_iter().next() {
            None => Ok(()),
            Some(problem) => Err(Error::config(problem)),
        }
    }

    /// Every problem with these settings, each saying what to do. Needs no file and no model.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.model.problems(&mut found);
        self.data.problems(&mut found);
        if self.data.task == Task::Text {
            let instead = match self.model.method {
                Method::Adamix => None,
                Method::HeadOnly => {
                    Some("model.method head-only trains a head, and a language model has none of its own")
                }
                Method::Full => Some("model.method full trains every weight, which is not done for language models"),
            };
            found.extend(
                instead.map(|why| format!("{why}; choose adamix, with one expert for a single LoRA or adapter")),
            );
        }
        self.text.problems(self.data.task, self.data.max_length, &mut found);
        self.mixture.problems(&mut found);
        self.train.problems(&mut found);
        self.eval.problems(&mut found);
        if self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            found.push(format!(
                "run name {:?} cannot be a directory name; leave out slashes and leading dots",
                self.name
            ));
        }
        found
    }
}

/// Adds "`name` is `value`; `advice`" to `found` unless the value is in range.
pub(crate) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    found: &mut Vec<String>,
    name: &str,
    value: T,
    range: impl std::ops::RangeBounds<T>,
    advice: &str,
) {
    require(found, range.contains(&value), || format!("{name} is {value}; {advice}"));
}

/// Adds `message` to `found` unless `ok`.
pub(crate) fn require(found: &mut Vec<String>, ok: bool, message: impl FnOnce() -> String) {
    if !ok {
        found.push(message());
    }
}
