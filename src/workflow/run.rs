//! From settings to a finished run: what the window's training thread and the command line share.
//!
//! [`prepare`] reads model and data, [`Run::start`] or [`Run::resume`] opens the run directory, [`Run::go`]
//! trains to the end and writes everything down. No threads here: the caller decides where this runs.
//!
//! ```
//! use adamix::config::{RunConfig, presets};
//! use adamix::records::EndReason;
//! use adamix::train::{Control, NullObserver};
//! use adamix::workflow::run::{Run, prepare};
//!
//! # let runs = std::env::temp_dir().join(format!("adamix-doc-run-{}", std::process::id()));
//! let mut config = RunConfig::default();
//! presets::lab().apply(&mut config);
//! (config.data.max_train_rows, config.data.max_eval_rows, config.train.max_steps) = (64, 20, 2);
//! config.runs_dir = runs.to_string_lossy().into_owned();
//! let mut run = Run::start(prepare(&config)?)?;
//! let end = run.go(&mut NullObserver, &Control::default())?;
//! assert_eq!((end.step, end.reason), (2, EndReason::Finished));
//! assert!(run.dir().metrics().exists());
//! # drop(run);
//! # std::fs::remove_dir_all(runs).ok();
//! # Ok::<(), adamix::error::Error>(())
//! ```

use crate::artifact::recorded::RecordedMetrics;
use crate::artifact::recorder::Recorder;
use crate::artifact::run_lock::RunLock;
use crate::artifact::{RunDir, checkpoint};
use crate::config::{DeviceChoice, DtypeChoice, LawChange, RunConfig};
use crate::error::{Context as _, Result};
use crate::format;
use crate::machine::estimate::{self, Settled};
use crate::machine::facts;
use crate::nn::profile::Profile;
use crate::records::{CheckpointData, EndRecord, EvalRecord, SampleRecord, StartRecord, StepRecord, TensorHealth};
use crate::tensor::HostTensor;
use crate::train::ModelAndData;
use crate::train::checkpoint::Place;
use crate::train::control::Control;
use crate::train::observer::{Evaluating, Observer};
use crate::train::trainer::Trainer;
use crate::workflow::{advice, runs};
use std::path::Path;

pub use crate::workflow::prepare::{
    Prepared, language_model, model, prepare, preview, text_codec, text_preview, tokenizer,
};

/// A training run with its directory, ready to go.
pub struct Run {
    dir: RunDir,
    /// Held as long as this process writes.
    _lock: RunLock,
    trainer: Trainer,
    recorder: Recorder,
    best: Option<u64>,
    warnings: Vec<String>,
}

impl Run {
    /// A new run in a new directory.
    pub fn start(prepared: Prepared) -> Result<Self> {
        let Prepared { config, subject, mut warnings } = prepared;
        let (own, note) = settled(&config, &subject);
        let n = subject.skipped().len();
        if n > 0 {
            warnings.push(format!("{} left out as unusable; adamix data lists them", format::counted(n, "row")));
        }
        warnings.extend(note);
        // Anything wrong with the settings shows before there is a directory.
        let trainer = Trainer::new(own, subject)?;
        warnings.extend(advice::warnings(&trainer));
        let (dir, lock) = RunDir::create(&config)?;
        let mut recorder = Recorder::create(&dir)?;
        for warning in &warnings {
            recorder.note(warning);
        }
        Ok(Self { dir, _lock: lock, trainer, recorder, best: None, warnings })
    }

    /// Goes on with a run from its last whole checkpoint; from the start where there is none yet. Where it was computed so far,
    /// unless its settings or `device` say otherwise.
    pub fn resume(path: &Path, device: Option<DeviceChoice>) -> Result<Self> {
        let dir = RunDir::open(path)?;
        let (lock, mut warnings) = dir.lock()?;
        let found = checkpoint::latest_valid(&dir)?;
        let before = found.as_ref().and_then(|found| Place::of_checkpoint(&found.data));
        let Prepared { config, subject, warnings: more } = prepare(&placed(dir.config(), before.as_ref(), device))?;
        let (own, note) = settled(&config, &subject);
        warnings.extend(more.into_iter().chain(note));
        warnings.extend(before.and_then(|before| moved(&before, &Place::of(subject.model()))));
        let mut trainer = Trainer::new(own, subject)?;
        let (mut step, mut best) = (0, None);
        if let Some(found) = found {
            warnings.extend(found.warnings);
            step = found.step;
            best = found.data.best_step();
            let tensors = best_tensors(&dir, step, best, &mut warnings);
            trainer.restore(&found.data, tensors).with_context(|| format!("going on from checkpoint-{step}"))?;
        }
        // Changes of the law after the checkpoint are made again: the steps that are repeated are the same.
        trainer.follow_laws(&RecordedMetrics::read(&dir.metrics())?.laws);
        let mut recorder = Recorder::resume(&dir, step)?;
        for warning in &warnings {
            recorder.note(warning);
        }
        Ok(Self { dir, _lock: lock, trainer, recorder, best, warnings })
    }

    /// The run directory.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }
    /// The training in memory.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }
    /// What the user should know before it starts, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Trains to the end, or until `control` says stop. Everything is written to the run directory first and told to `extra` then.
    pub fn go(&mut self, extra: &mut dyn Observer, control: &Control) -> Result<EndRecord> {
        let Self { dir, trainer, recorder, best, .. } = self;
        let mut recording = Recording { dir, recorder, best, extra: &mut *extra };
        let ended = trainer.run(&mut recording, control);
        if let Err(err) = &ended {
            recorder.note(&format!("failed: {err}"));
        }
        recorder.sync();
        runs::index(dir);
        tell(recorder, extra);
        ended
    }

    /// The training, after it ended: its model holds the best weights when the run came to its end.
    pub fn into_trainer(self) -> Trainer {
        self.trainer
    }
}

/// The settings with what `auto` means on this machine, now; and what the user should know about it. The run
/// directory keeps what was asked for.
pub(super) fn settled(config: &RunConfig, subject: &ModelAndData) -> (RunConfig, Option<String>) {
    let Settled { recompute, note } = estimate::settle(config, subject, facts::machine().memory_free);
    let mut config = config.clone();
    config.train.recompute = recompute;
    (config, note)
}

/// The settings of a run that goes on: what it chose by itself stays as it was chosen.
pub(super) fn placed(config: &RunConfig, before: Option<&Place>, device: Option<DeviceChoice>) -> RunConfig {
    let mut config = config.clone();
    let model = &mut config.model;
    let same = before.and_then(|before| before.device.parse().ok());
    if model.device == DeviceChoice::Auto {
        model.device = same.unwrap_or(DeviceChoice::Auto);
    }
    model.device = device.unwrap_or(model.device);
    if model.dtype == DtypeChoice::Auto
        && same == Some(model.device)
        && let Some(dtype) = before.and_then(|before| DtypeChoice::named(&before.dtype))
    {
        model.dtype = dtype;
    }
    config
}

/// What is to be known where a run goes on elsewhere than before.
fn moved(before: &Place, now: &Place) -> Option<String> {
    (before != now).then(|| {
        format!(
            "the run was computed on {} in {} and goes on on {} in {}: results are close to those it would have made there, not the same bits",
            before.name, before.dtype, now.name, now.dtype
        )
    })
}

/// The tensors of the best checkpoint when that is not the newest.
fn best_tensors(dir: &RunDir, step: u64, best: Option<u64>, warnings: &mut Vec<String>) -> Option<Vec<HostTensor>> {
    let best = best.filter(|&best| best != step)?;
    match checkpoint::read(dir, best) {
        Ok(data) => Some(data.tensors),
        Err(err) => {
            warnings.push(format!("the best weights so far are lost: {err}"));
            None
        }
    }
}

/// Problems with writing the record go to the log and to whoever watches; training goes on.
fn tell(recorder: &mut Recorder, extra: &mut dyn Observer) {
    for problem in recorder.take_problems() {
        log::warn!("{problem}");
        extra.on_problem(&problem);
    }
}

/// Writes everything to the run directory, then tells somebody else.
struct Recording<'a> {
    dir: &'a RunDir,
    recorder: &'a mut Recorder,
    best: &'a mut Option<u64>,
    extra: &'a mut dyn Observer,
}

impl Recording<'_> {
    fn problem(&mut self, step: u64, text: &str) {
        self.recorder.note(&format!("step {step}: {text}"));
        log::error!("{text}");
        self.extra.on_problem(text);
    }
}

impl Observer for Recording<'_> {
    fn on_start(&mut self, record: &StartRecord) {
        self.recorder.start(record);
        self.extra.on_start(record);
    }

    fn on_law(&mut self, change: &LawChange) {
        self.recorder.law(change);
        self.extra.on_law(change);
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.recorder.step(record);
        tell(self.recorder, self.extra);
        self.extra.on_step(record);
    }

    fn profiles(&self) -> bool {
        self.extra.profiles()
    }

    fn on_profile(&mut self, step: u64, profile: &Profile) {
        self.extra.on_profile(step, profile);
    }

    fn on_evaluating(&mut self, trainer: &Trainer, progress: Evaluating) {
        self.extra.on_evaluating(trainer, progress);
    }

    fn on_eval(&mut self, record: &EvalRecord) {
        self.recorder.eval(record);
        self.extra.on_eval(record);
    }

    fn on_writing(&mut self, trainer: &Trainer, paused: bool) {
        self.extra.on_writing(trainer, paused);
    }

    fn on_samples(&mut self, record: &SampleRecord) {
        self.recorder.samples(record);
        self.extra.on_samples(record);
    }

    fn on_gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        self.recorder.gradient_health(gradient_health);
        self.extra.on_gradient_health(gradient_health);
    }

    fn on_checkpoint(&mut self, data: &CheckpointData, step: u64, best: bool) -> bool {
        // The record is on disk before the checkpoint is: going on from it never finds lines missing.
        self.recorder.checkpoint(step, best);
        if best {
            *self.best = Some(step);
        }
        if let Err(err) = checkpoint::write(self.dir, step, data) {
            self.problem(step, &format!("{err}; training goes on, but cannot be resumed from here"));
            return false;
        }
        let keep = self.dir.config().eval.save_total_limit + 1;
        if let Err(err) = checkpoint::prune(self.dir, keep, *self.best) {
            self.problem(step, &format!("an old checkpoint stays: {err}"));
        }
        runs::index(self.dir);
        self.extra.on_checkpoint(data, step, best)
    }

    fn on_boundary(&mut self, trainer: &Trainer, paused: bool) {
        self.extra.on_boundary(trainer, paused);
    }

    fn on_problem(&mut self, text: &str) {
        self.recorder.note(text);
        log::warn!("{text}");
        self.extra.on_problem(text);
    }

    fn on_end(&mut self, record: &EndRecord) {
        self.recorder.end(record);
        self.extra.on_end(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn what_a_run_chose_by_itself_stays() {
        let gpu = Place { device: "gpu:1".to_owned(), name: "a GPU".to_owned(), dtype: "f16".to_owned() };
        let auto = RunConfig::default();
        let choice = |config: &RunConfig, before: Option<&Place>, device| {
            let model = placed(config, before, device).model;
            (model.device, model.dtype)
        };
        let (on_auto, on_gpu, on_cpu) = (DeviceChoice::Auto, DeviceChoice::Gpu(1), DeviceChoice::Cpu);
        assert_eq!(choice(&auto, None, None), (on_auto, DtypeChoice::Auto));
        assert_eq!(choice(&auto, Some(&gpu), None), (on_gpu, DtypeChoice::F16));
        // Elsewhere the format is that of the other device.
        assert_eq!(choice(&auto, Some(&gpu), Some(on_cpu)), (on_cpu, DtypeChoice::Auto));
        let mut asked = auto.clone();
        asked.model.device = on_cpu;
        assert_eq!(choice(&asked, Some(&gpu), None), (on_cpu, DtypeChoice::Auto));
        asked.model = ModelConfig { device: on_gpu, dtype: DtypeChoice::F32, ..asked.model };
        assert_eq!(choice(&asked, Some(&gpu), None), (on_gpu, DtypeChoice::F32));

        let cpu = Place { device: "cpu".to_owned(), name: "CPU".to_owned(), dtype: "f32".to_owned() };
        assert_eq!(moved(&gpu, &gpu), None);
        let text = moved(&gpu, &cpu).unwrap();
        assert!(text.contains("on a GPU in f16 and goes on on CPU in f32"), "{text}");
    }
}
