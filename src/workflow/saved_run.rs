//! From a run directory back to a model: measure it, merge it, export it with proof.
//!
//! ```
//! use adamix::artifact::RunDir;
//! use adamix::protocol::{Checkpoint, ExportPlan, ExportTarget, MergePlan, NumberFormat};
//! use adamix::workflow::saved_run::Opened;
//! # use adamix::{config::{RunConfig, presets}, train::{Control, NullObserver}, workflow::run::{Run, prepare}};
//! # let runs = std::env::temp_dir().join(format!("adamix-doc-saved-{}", std::process::id()));
//! # let mut config = RunConfig::default();
//! # presets::lab().apply(&mut config);
//! # (config.data.max_train_rows, config.data.max_eval_rows, config.train.max_steps) = (64, 20, 2);
//! # config.runs_dir = runs.to_string_lossy().into_owned();
//! # let mut run = Run::start(prepare(&config)?)?;
//! # run.go(&mut NullObserver, &Control::default())?;
//! # let path = run.dir().path().to_owned();
//! # drop(run);
//! let saved = Opened::open(&RunDir::open(&path)?, Checkpoint::Last)?;
//! let merged = saved.merge(&MergePlan::Uniform)?;
//! assert!(merged.scores.primary.is_finite());
//! let plan = ExportPlan {
//!     targets: vec![ExportTarget::Merged],
//!     dtype: NumberFormat::F32,
//!     merge: MergePlan::Uniform,
//!     dir: None,
//! };
//! let exports = saved.export(&plan)?;
//! assert!(exports[0].certificate.passed && exports[0].dir.join("certificate.json").exists());
//! # std::fs::remove_dir_all(runs).ok();
//! # Ok::<(), adamix::error::Error>(())
//! ```

use crate::artifact::{RunDir, checkpoint, checkpoint_choice};
use crate::config::{RunConfig, Task};
use crate::data::{self, text};
use crate::error::{Context as _, Error, Result};
use crate::eval::EvalReport;
use crate::model::ModelSource;
use crate::protocol::studies::{AveragesReport, RoundingPlan, RoundingReport};
use crate::protocol::{Checkpoint, ExportPlan, ExportReport, MergePlan, MergeReport, WeightsOf};
use crate::train::ModelAndData;
use crate::train::checkpoint::set_tensors;
use crate::workflow::export::{ExportedRun, export_subject};
use crate::workflow::merging::{compare_subject, merge_subject};
use crate::workflow::run::{self, Prepared};
use crate::workflow::studies::averages::averages_subject;
use crate::workflow::studies::rounding::rounding_of_run;
use std::path::Path;

/// A trained model with its rows.
pub struct Opened {
    /// The run directory.
    pub dir: RunDir,
    /// Which checkpoint, and the steps done there.
    pub weights: WeightsOf,
    /// The settings.
    pub config: RunConfig,
    /// The model with the checkpoint's weights, and the rows or texts, encoded.
    pub subject: ModelAndData,
}

impl Opened {
    /// Reads model, data and the checkpoint's weights.
    pub fn open(dir: &RunDir, which: Checkpoint) -> Result<Self> {
        let weights = checkpoint_choice::resolve(dir, which)?;
        let step = weights.step;
        let Prepared { config, subject, warnings } = run::prepare(dir.config())?;
        for warning in warnings {
            log::warn!("{warning}");
        }
        let data = checkpoint::read(dir, step)?;
        set_tensors(subject.model(), &data.tensors).with_context(|| format!("reading checkpoint-{step}"))?;
        Ok(Self { dir: dir.clone(), weights, config, subject })
    }

    /// Measures on the rows of another file from now on, laid out as the run's data.
    pub fn measure_on(&mut self, file: &Path) -> Result<()> {
        if self.config.data.task == Task::Lab {
            return Err(Error::config("the lab brings its own rows; other rows need a run of task custom"));
        }
        let mut config = self.config.data.clone();
        config.dev_file = file.display().to_string();
        match &mut self.subject {
            ModelAndData::Classifier(_, task) => {
                // The classes and their order are those the head was trained for.
                if config.task == Task::Custom {
                    config.labels.clone_from(&task.labels);
                }
                let tokenizer = run::tokenizer(&ModelSource::open(&self.config.model.path)?)?;
                task.dev = data::load(&config, &tokenizer)?.dev;
            }
            ModelAndData::Lm(_, texts) => {
                let loaded = text::load(&config, &self.config.text, &texts.encoder.codec)?;
                (texts.dev, texts.inputs) = (loaded.dev, loaded.inputs);
            }
        }
        Ok(())
    }

    /// Merged against `random_routes` random routes, fixed experts and their ensemble, on the evaluation rows.
    pub fn compare(&self, random_routes: usize) -> Result<EvalReport> {
        compare_subject(&self.subject, &self.config, random_routes, &|_| true)
    }

    /// The model merged in this way, measured on the evaluation rows.
    pub fn merge(&self, plan: &MergePlan) -> Result<MergeReport> {
        merge_subject(&self.subject, (&self.config, Some(&self.dir)), plan, &|_| true)
    }

    /// Three averages of the experts, on the evaluation rows.
    pub fn averages(&self) -> Result<AveragesReport> {
        averages_subject(&self.subject, &self.config, &|_| true)
    }

    /// What number formats of these exports cost.
    pub fn rounding(&self, plan: &RoundingPlan) -> Result<RoundingReport> {
        rounding_of_run(&self.subject, (&self.config, Some(&self.dir)), plan, &|_| true)
    }

    /// Writes the exports into the run directory, or where the plan says, and proves them.
    pub fn export(&self, plan: &ExportPlan) -> Result<Vec<ExportReport>> {
        let run = ExportedRun { config: &self.config, dir: &self.dir, weights: self.weights };
        export_subject(&self.subject, run, plan)
    }
}
