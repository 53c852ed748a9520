//! From settings to a finished run: what the window's training thread and the command line share.
//!
//! [`prepare`] reads model and data, [`Run::start`] or [`Run::resume`] opens the run directory, [`Run::go`]
//! trains to the end and writes everything down. No threads here: the caller decides where this runs.

use super::device::{self, Chosen};
use super::estimate::{self, Settled};
use super::machine;
use crate::artifact::checkpoint::{self, CheckpointData};
use crate::artifact::recorder::Recorder;
use crate::artifact::run_lock::RunLock;
use crate::artifact::{HostTensor, RunDir};
use crate::config::{Problem, RunConfig};
use crate::data::preview::{self, Preview};
use crate::data::text::{self, TextCodec, TextPreview};
use crate::data::{self, TaskData, TextTokenizer, lab};
use crate::error::{Context as _, Error, Result};
use crate::model::dir::LAB;
use crate::model::{Classifier, ModelSource, Setup};
use crate::nn::profile::Profile;
use crate::rng::SeedStream;
use crate::train::control::Control;
use crate::train::observer::{EndRecord, EvalRecord, Lamp, Observer, StartRecord, StepRecord};
use crate::train::trainer::Trainer;
use std::path::Path;

/// Everything a training starts from, read and checked.
pub struct Prepared {
    /// The settings.
    pub config: RunConfig,
    /// The rows, encoded.
    pub task: TaskData,
    /// Trunk, mixture and head, at step 0.
    pub model: Classifier,
    /// What the user should know before it starts, in words.
    pub warnings: Vec<String>,
}

/// Reads the model and the data these settings name.
pub fn prepare(config: &RunConfig) -> Result<Prepared> {
    config.validate()?;
    let source = ModelSource::open(&config.model.path)?;
    let tokenizer = tokenizer(&source)?;
    check_lengths(config, &source, &tokenizer)?;
    let task = data::load(&config.data, &tokenizer)?;
    let chosen = device::choose(&config.model);
    let model = model_on(config, source, &task, &chosen)?;
    Ok(Prepared { config: config.clone(), task, model, warnings: chosen.warning.into_iter().collect() })
}

/// What is in the data these settings name, counted with the tokenizer of their model.
pub fn preview(config: &RunConfig) -> Result<Preview> {
    let tokenizer = tokenizer(&ModelSource::open(&config.model.path)?)?;
    preview::preview(&config.data, Some(&tokenizer))
}

/// What is in the texts these settings name, token by token for some `examples` of each split.
pub fn text_preview(config: &RunConfig, examples: usize) -> Result<TextPreview> {
    text::preview(&config.data, &config.text, &text_codec(&config.model.path)?, examples)
}

/// The tokenizer of a model that writes: a directory in Hugging Face layout or a GGUF file.
pub fn text_codec(path: &str) -> Result<TextCodec> {
    if path == LAB {
        return Err(Error::config("the lab's encoder does not write; choose a language model with --model"));
    }
    TextCodec::open(Path::new(path))
}

/// The tokenizer that belongs to a model.
pub fn tokenizer(source: &ModelSource) -> Result<TextTokenizer> {
    match source.tokenizer_dir() {
        Some(dir) => TextTokenizer::from_file(dir),
        None => lab::tokenizer(),
    }
}

fn check_lengths(config: &RunConfig, source: &ModelSource, tokenizer: &TextTokenizer) -> Result<()> {
    let (length, most) = (config.data.max_length, source.spec.max_length());
    if length > most {
        return Err(Error::config(format!(
            "max_length is {length}, but this model reads at most {most} tokens; choose {most} or less"
        )));
    }
    let (highest, rows) = (tokenizer.max_id() as usize, source.spec.vocab_size);
    if highest >= rows {
        return Err(Error::format(format!(
            "the tokenizer makes token {highest}, but the model knows only {rows}; they do not belong together"
        )));
    }
    Ok(())
}

/// Trunk, mixture and head for a task, at step 0.
pub fn model(config: &RunConfig, source: ModelSource, task: &TaskData) -> Result<Classifier> {
    model_on(config, source, task, &device::choose(&config.model))
}

fn model_on(config: &RunConfig, source: ModelSource, task: &TaskData, chosen: &Chosen) -> Result<Classifier> {
    let outputs = match task.problem {
        Problem::Classification => task.labels.len(),
        Problem::Regression => 1,
    };
    let seed = SeedStream::new(config.train.seed);
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs, seed };
    let name = source.name();
    Classifier::load(source.spec, &source.weights, &setup, chosen.dtype, &chosen.device)
        .with_context(|| format!("loading the model {name}"))
}

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
        let Prepared { config, task, model, mut warnings } = prepared;
        let (own, note) = settled(&config, &model, &task);
        if !task.skipped.is_empty() {
            let n = task.skipped.len();
            warnings.push(format!("{n} rows cannot be used and are left out; adamix data lists them"));
        }
        warnings.extend(note);
        // Anything wrong with the settings shows before there is a directory.
        let trainer = Trainer::new(own, model, task)?;
        let (dir, lock) = RunDir::create(&config)?;
        let mut recorder = Recorder::create(&dir)?;
        for warning in &warnings {
            recorder.note(warning);
        }
        Ok(Self { dir, _lock: lock, trainer, recorder, best: None, warnings })
    }

    /// Goes on with a run from its last whole checkpoint; from the start where there is none yet.
    pub fn resume(path: &Path) -> Result<Self> {
        let dir = RunDir::open(path)?;
        let (lock, mut warnings) = dir.lock()?;
        let Prepared { config, task, model, warnings: more } = prepare(dir.config())?;
        let (own, note) = settled(&config, &model, &task);
        warnings.extend(more.into_iter().chain(note));
        let mut trainer = Trainer::new(own, model, task)?;
        let (mut step, mut best) = (0, None);
        if let Some(found) = checkpoint::latest_valid(&dir)? {
            warnings.extend(found.warnings);
            step = found.step;
            best = best_step(&found.data);
            let tensors = best_tensors(&dir, step, best, &mut warnings);
            trainer.restore(&found.data, tensors).with_context(|| format!("going on from checkpoint-{step}"))?;
        }
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
fn settled(config: &RunConfig, model: &Classifier, task: &TaskData) -> (RunConfig, Option<String>) {
    let Settled { recompute, note } = estimate::settle(config, model, task, machine::machine().memory_free);
    let mut config = config.clone();
    config.train.recompute = recompute;
    (config, note)
}

/// The step with the best metric so far, as a checkpoint's state has it.
pub(super) fn best_step(data: &CheckpointData) -> Option<u64> {
    data.state.get("best")?.get(0)?.as_u64()
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

    fn on_eval(&mut self, record: &EvalRecord) {
        self.recorder.eval(record);
        self.extra.on_eval(record);
    }

    fn on_lamps(&mut self, lamps: &[Lamp]) {
        self.recorder.lamps(lamps);
        self.extra.on_lamps(lamps);
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
        self.extra.on_checkpoint(data, step, best)
    }

    fn on_boundary(&mut self, trainer: &Trainer) {
        self.extra.on_boundary(trainer);
    }

    fn on_end(&mut self, record: &EndRecord) {
        self.recorder.end(record);
        self.extra.on_end(record);
    }
}
