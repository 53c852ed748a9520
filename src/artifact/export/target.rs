//! The targets of an export and the one table that lists them.

use super::adapterhub::AdapterHub;
use super::gguf_adapter::GgufAdapter;
use super::gguf_model::Gguf;
use super::hf::Hf;
use super::native::Native;
use super::peft::{Peft, PeftExperts};
use super::source::ExportSource;
use super::{Loaded, new_dir};
use crate::artifact::certificate::Certificate;
use crate::config::{MixtureKind, Task};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What an export writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportTarget {
    /// Merged modules and head as safetensors with metadata.
    Merged,
    /// All experts and the head as safetensors with metadata.
    Experts,
    /// The merged adapter as a directory that the AdapterHub library loads.
    AdapterHub,
    /// The merged LoRA and the head as a directory that PEFT loads.
    Peft,
    /// Each expert, a LoRA, as a directory that PEFT loads.
    PeftExperts,
    /// The whole model with the merged LoRA added to its weights, as a directory that transformers loads.
    Hf,
    /// The merged LoRA of a language model as a GGUF adapter that llama.cpp loads beside its base model.
    GgufAdapter,
    /// The whole language model with the merged LoRA added to its weights, as a GGUF file.
    Gguf,
}

/// All targets in the order in which they are offered, that of the variants of [`ExportTarget`].
static TARGETS: [TargetInfo; 8] = [
    TargetInfo {
        target: ExportTarget::Merged,
        format: &Native::Merged,
        name: "merged",
        title: "Merged adapter",
        description: "The merged modules, and a classifier's head, as safetensors",
        contents: Contents::Modules,
    },
    TargetInfo {
        target: ExportTarget::Experts,
        format: &Native::Experts,
        name: "experts",
        title: "All experts",
        description: "Every expert, and a classifier's head, as safetensors, to merge or to analyse them elsewhere",
        contents: Contents::Modules,
    },
    TargetInfo {
        target: ExportTarget::AdapterHub,
        format: &AdapterHub,
        name: "adapterhub",
        title: "AdapterHub directory",
        description: "The merged adapter as a directory for the AdapterHub library",
        contents: Contents::ClassifierAdapters,
    },
    TargetInfo {
        target: ExportTarget::Peft,
        format: &Peft,
        name: "peft",
        title: "PEFT directory",
        description: "The merged LoRA, and a classifier's head, for Hugging Face's PEFT",
        contents: Contents::Lora,
    },
    TargetInfo {
        target: ExportTarget::PeftExperts,
        format: &PeftExperts,
        name: "peft-experts",
        title: "PEFT, each expert",
        description: "Every expert, a LoRA, as its own PEFT directory",
        contents: Contents::Lora,
    },
    TargetInfo {
        target: ExportTarget::Hf,
        format: &Hf,
        name: "hf",
        title: "Whole model",
        description: "All weights with the merged LoRA added, as a directory for transformers",
        contents: Contents::WholeModel,
    },
    TargetInfo {
        target: ExportTarget::GgufAdapter,
        format: &GgufAdapter,
        name: "gguf-adapter",
        title: "GGUF adapter",
        description: "The merged LoRA as a GGUF adapter for llama.cpp",
        contents: Contents::LanguageModelLora,
    },
    TargetInfo {
        target: ExportTarget::Gguf,
        format: &Gguf,
        name: "gguf",
        title: "Whole model, GGUF",
        description: "All weights with the merged LoRA added, as one GGUF file",
        contents: Contents::WholeLanguageModel,
    },
];

/// A target: its format, its names, and what it is made of.
pub struct TargetInfo {
    target: ExportTarget,
    format: &'static dyn ExportFormat,
    /// On the command line; also the name of its directory.
    pub name: &'static str,
    /// In the window.
    pub title: &'static str,
    /// What it is, in one sentence.
    pub description: &'static str,
    /// What its files hold.
    pub(super) contents: Contents,
}

/// What the files of a target hold, which decides the runs that it fits and how its numbers are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// The modules of any run.
    Modules,
    /// Adapters of a classifier.
    ClassifierAdapters,
    /// LoRA.
    Lora,
    /// LoRA of a language model.
    LanguageModelLora,
    /// A whole model made of LoRA and base model.
    WholeModel,
    /// A whole language model made of LoRA and base model.
    WholeLanguageModel,
}

/// Why a run cannot be exported to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    why: &'static str,
    /// Targets that fit the run instead.
    instead: &'static [ExportTarget],
}

impl Refusal {
    /// In the words of the command line.
    pub fn in_commands(&self) -> String {
        self.words(|target| target.as_str().to_owned())
    }

    /// In the words of the window.
    pub fn in_window(&self) -> String {
        self.words(|target| format!("\u{201c}{}\u{201d}", target.info().title))
    }

    fn words(&self, name: impl Fn(&ExportTarget) -> String) -> String {
        format!("{}; choose {}", self.why, self.instead.iter().map(name).collect::<Vec<_>>().join(" or "))
    }
}

/// One kind of export: how its files are written, recognised and loaded again.
pub(super) trait ExportFormat: Sync {
    /// Its file, or the one by which it is recognised.
    fn file(&self) -> &'static str;
    /// Whether a directory holds such an export.
    fn is_in(&self, dir: &Path) -> bool {
        dir.join(self.file()).is_file()
    }
    /// The files in such a directory, without the certificate.
    fn file_names(&self, _dir: &Path) -> Result<Vec<String>> {
        Ok(vec![self.file().to_owned()])
    }
    /// Loads all tensors under our names. Whole models are read tensor by tensor instead.
    fn read(&self, dir: &Path) -> Result<Loaded> {
        Err(Error::config(format!(
            "whole models and GGUF adapters are not loaded as a list of tensors: {}",
            dir.display()
        )))
    }
    /// An error where something that shows before anything is written is in the way.
    fn check(&self, _source: &dyn ExportSource) -> Result<()> {
        Ok(())
    }
    /// Writes the files into the empty directory `dir`, loads them again, and certifies them there.
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate>;
}

impl ExportTarget {
    /// All, in the order in which they are offered.
    pub fn all() -> impl Iterator<Item = Self> {
        TARGETS.iter().map(|info| info.target)
    }

    /// Its row of the table.
    pub fn info(self) -> &'static TargetInfo {
        &TARGETS[self as usize]
    }

    /// As the command line calls it; its directory too.
    pub fn as_str(self) -> &'static str {
        self.info().name
    }

    /// The target of the export in a directory.
    pub fn of(dir: &Path) -> Result<Self> {
        TARGETS.iter().find(|info| info.format.is_in(dir)).map(|info| info.target).ok_or_else(|| {
            Error::format(format!("no file of an export is there, so this is no export: {}", dir.display()))
        })
    }

    /// The files of such an export in a directory, without its certificate.
    pub fn file_names(self, dir: &Path) -> Result<Vec<String>> {
        self.info().format.file_names(dir)
    }

    /// Loads such an export under our names.
    pub(super) fn read(self, dir: &Path) -> Result<Loaded> {
        self.info().format.read(dir)
    }

    /// An error where something that shows before anything is written is in the way.
    pub fn check(self, source: &dyn ExportSource) -> Result<()> {
        self.info().format.check(source)
    }

    /// Writes the directory `place`, which may not exist yet or must be empty, loads it again and certifies it. The
    /// directory appears together with its certificate, passed or failed, or not at all.
    pub fn export(self, place: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        new_dir(place, |dir| {
            let (certificate, meta) = (self.info().format.export(dir, source)?, source.meta());
            let merges = !matches!(self, Self::Experts | Self::PeftExperts);
            certificate.of_weights(dir, meta.weights, merges.then_some(&meta.recipe))
        })
    }

    /// Why a run of this task with experts of this kind cannot be exported so; nothing where it can.
    pub fn refusal(self, task: Task, kind: MixtureKind) -> Option<Refusal> {
        let (text, lora) = (task == Task::Text, kind == MixtureKind::Lora);
        let why = match self.info().contents {
            Contents::Modules => return None,
            Contents::ClassifierAdapters if text => "it is for classifiers",
            Contents::ClassifierAdapters if lora => "it has no place for LoRA",
            Contents::ClassifierAdapters => return None,
            Contents::LanguageModelLora | Contents::WholeLanguageModel if !text => "it is for language models",
            _ if !lora => "it holds LoRA, and this run has adapters",
            _ => return None,
        };
        let instead: &[Self] = match (text, lora) {
            (true, true) => &[Self::Peft, Self::GgufAdapter],
            (true, false) => &[Self::Merged, Self::Experts],
            (false, true) => &[Self::Peft, Self::Hf],
            (false, false) => &[Self::AdapterHub, Self::Merged],
        };
        Some(Refusal { why, instead })
    }

    /// The target whose files are rounded in the same way: a whole model in either layout, or else the merged module.
    pub fn rounds_as(self) -> Self {
        match self.info().contents {
            Contents::WholeModel | Contents::WholeLanguageModel => self,
            _ => Self::Merged,
        }
    }

    /// Whether its files hold the base model too.
    pub fn is_whole(self) -> bool {
        self.rounds_as() == self && self != Self::Merged
    }
}

/// The name of a target in `certificate.json`, for serde.
pub(in crate::artifact) mod certificate_name {
    use super::ExportTarget;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    /// As on the command line, but for the merged adapter.
    fn of(target: ExportTarget) -> &'static str {
        if target == ExportTarget::Merged { "adapter" } else { target.as_str() }
    }

    pub fn serialize<S: Serializer>(target: &Option<ExportTarget>, out: S) -> Result<S::Ok, S::Error> {
        target.map(of).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExportTarget>, D::Error> {
        let Some(name) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let found = ExportTarget::all().find(|&target| of(target) == name);
        found.map(Some).ok_or_else(|| D::Error::custom(format!("unknown target {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_in_the_order_of_the_variants_and_names_are_unique() {
        let names = |pick: fn(&TargetInfo) -> &'static str| {
            ExportTarget::all().map(|target| pick(target.info())).collect::<BTreeSet<_>>().len()
        };
        for (row, info) in TARGETS.iter().enumerate() {
            assert_eq!(info.target as usize, row, "{:?}", info.target);
        }
        assert_eq!((names(|info| info.name), names(|info| info.title)), (TARGETS.len(), TARGETS.len()));
        assert!(ExportTarget::all().all(|target| target.as_str() != "adapter"), "the merged one's in certificates");
    }

    #[test]
    fn a_refusal_names_targets_that_fit_the_run() {
        let mut refused = 0;
        for (task, kind) in [
            (Task::Text, MixtureKind::Lora),
            (Task::Text, MixtureKind::Adapter),
            (Task::Lab, MixtureKind::Lora),
            (Task::Lab, MixtureKind::Adapter),
        ] {
            for refusal in ExportTarget::all().filter_map(|target| target.refusal(task, kind)) {
                refused += 1;
                for fits in refusal.instead {
                    assert_eq!(fits.refusal(task, kind), None, "{task:?} {kind:?}: {}", refusal.in_commands());
                    assert!(refusal.in_commands().contains(fits.as_str()));
                    assert!(refusal.in_window().contains(fits.info().title));
                }
            }
        }
        // AdapterHub alone with a language model's LoRA; of adapters in it all but our own files; and so on.
        assert_eq!(refused, 1 + 6 + 3 + 5);
    }
}
