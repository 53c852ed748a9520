//! The loop: steps, evaluations, checkpoints, early stopping, and a clean end for every reason.
//!
//! It talks to an [`Observer`] and obeys a [`Control`]; it opens no file, prints nothing and never panics.
//! Everything random is a function of the seed and the step, so [`Trainer::restore`] needs no generator state
//! and a resumed run makes the same bits as one that was never interrupted.

use super::control::Control;
use super::observer::{EndReason, EndRecord, EvalRecord, Observer, StartRecord, StepRecord};
use super::optimizer::{AdamW, MomentState};
use super::samples;
use super::step::Stepped;
use super::subject::Subject;
use crate::artifact::checkpoint::CheckpointData;
use crate::config::RunConfig;
use crate::data::order::{BatchRule, Order};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{EvalReport, compare, metrics};
use crate::mixture::MergeWeights;
use crate::model::{Network, network};
use crate::nn::kernels::device;
use crate::nn::profile::Recording;
use crate::tensor::{HostTensor, to_f32};
use crate::train::gradient_health;
use crate::train::gradient_health::Lamps;
use candle_core::DType;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// A held run looks around so often.
const HOLD: Duration = Duration::from_millis(50);

/// A training run in memory.
pub struct Trainer {
    config: RunConfig,
    subject: Subject,
    optimizer: AdamW,
    lamps: Lamps,
    order: Order,
    progress: Progress,
    best_tensors: Option<Vec<HostTensor>>,
    total_steps: u64,
    /// Optimizer steps in one pass over the rows.
    steps_per_epoch: f64,
    last_checkpoint: Option<u64>,
    /// The step whose samples were written last. No part of a checkpoint, which is the same with samples and without: a run
    /// that goes on writes those of its first step again.
    sampled: Option<u64>,
    seconds: f64,
    tokens: u64,
}

/// What a checkpoint stores besides tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    step: u64,
    /// The step that was evaluated last.
    evaluated: Option<u64>,
    /// Step and deciding metric of the best evaluation.
    best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    without_better: usize,
    /// Largest gradients the lamps have seen.
    max_abs_grad: Vec<Vec<f64>>,
    /// Updates of each expert of each tensor.
    optimizer_steps: Vec<Vec<u64>>,
}

impl Trainer {
    /// Ready to make the first step.
    pub fn new(config: RunConfig, subject: impl Into<Subject>) -> Result<Self> {
        let subject = subject.into();
        config.validate()?;
        if subject.train().rows == 0 || subject.dev().rows == 0 {
            return Err(Error::data("training needs rows to learn from and rows to evaluate on; one of them is empty"));
        }
        let (order, params) = (subject.order(&config), subject.model().params());
        let (steps_per_epoch, total_steps) = extent(&config, &order);
        Ok(Self {
            optimizer: AdamW::new(params)?,
            lamps: Lamps::new(params)?,
            order,
            progress: Progress::default(),
            best_tensors: None,
            total_steps,
            steps_per_epoch,
            last_checkpoint: None,
            sampled: None,
            seconds: 0.0,
            tokens: 0,
            config,
            subject,
        })
    }

    /// The settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }
    /// The model as it is now, and the rows.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
    /// The model as it is now.
    pub fn model(&self) -> &dyn Network {
        self.subject.model()
    }
    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.progress.step
    }
    /// Steps in all.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }
    /// Step of the best evaluation so far and its deciding metric.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.progress.best
    }

    /// Optimizer steps in one pass over the rows; the mean over the passes where batches are filled by tokens.
    pub fn steps_per_epoch(&self) -> f64 {
        self.steps_per_epoch
    }

    /// Whether evaluations are due after `step` steps.
    pub fn evaluation_due(&self, step: u64) -> bool {
        let per_epoch = self.steps_per_epoch;
        let regular = match self.config.eval.eval_steps {
            0 => (step as f64 / per_epoch).floor() > (step.saturating_sub(1) as f64 / per_epoch).floor(),
            n => step.is_multiple_of(n),
        };
        step > 0 && (regular || step == self.total_steps)
    }

    /// Whether a language model answers its fixed inputs after `step` steps.
    pub fn samples_due(&self, step: u64) -> bool {
        let regular = match self.config.eval.sample_steps {
            0 => self.evaluation_due(step),
            n => step.is_multiple_of(n),
        };
        let wanted = self.config.eval.samples > 0 && self.subject.language_model().is_some();
        wanted && (step == 0 || regular || step == self.total_steps)
    }

    fn checkpoint_due(&self, step: u64) -> bool {
        let regular = match self.config.eval.save_steps {
            0 => self.evaluation_due(step),
            n => step.is_multiple_of(n),
        };
        step > 0 && (regular || step == self.total_steps)
    }

    /// What is known before the first step.
    pub fn start_record(&self) -> StartRecord {
        let (model, metric) = (self.model(), self.subject.metric());
        let (counts, mixture) = (model.counts(), model.mixture());
        let (device, dtype) = (model.device(), model.dtype());
        let format = if dtype == DType::F32 { String::new() } else { format!(", {}", dtype.as_str()) };
        StartRecord {
            total_steps: self.total_steps,
            first_step: self.progress.step,
            steps_per_epoch: self.steps_per_epoch,
            train_rows: self.subject.train().rows,
            eval_rows: self.subject.dev().rows,
            labels: self.subject.labels().to_vec(),
            trained_parameters: counts.trained,
            head_parameters: counts.head,
            merged_parameters: counts.merged,
            trunk_parameters: counts.trunk,
            sites: model.site_names(),
            experts: mixture.map_or([0, 0], |m| [m.down_experts(), m.up_experts()]),
            metric: metrics::metric_name(metric).to_owned(),
            higher_is_better: metrics::higher_is_better(metric),
            device: device::name(device) + &format,
            threads: rayon::current_num_threads(),
        }
    }

    /// Trains to the end, or until `control` says stop. Ends with a checkpoint in any case but a non-finite loss.
    pub fn run(&mut self, observer: &mut dyn Observer, control: &Control) -> Result<EndRecord> {
        observer.on_start(&self.start_record());
        let started = Instant::now();
        let recording = observer.profiles().then(Recording::start);
        // Whether the step before was asked for while the run was held: its samples belong to it.
        let mut stepped = false;
        let reason = loop {
            let step = self.progress.step;
            if self.evaluation_due(step) && self.progress.evaluated != Some(step) {
                match self.evaluate(observer, control) {
                    Err(err) if err.kind() == ErrorKind::Cancelled => break EndReason::Stopped(control.reason()),
                    other => other?,
                }
            }
            if self.samples_due(step) && self.sampled != Some(step) && !self.sample(observer, control, stepped) {
                break EndReason::Stopped(control.reason());
            }
            // The best weights are kept on disk too: a resumed run must find them.
            let best = self.progress.best.is_some_and(|(best, _)| best == step);
            if (best || self.checkpoint_due(step)) && self.last_checkpoint != Some(step) {
                self.checkpoint(observer)?;
            }
            observer.on_boundary(self);
            if step >= self.total_steps {
                break EndReason::Finished;
            }
            let patience = self.config.train.early_stopping_patience;
            if patience > 0 && self.progress.without_better >= patience {
                break EndReason::EarlyStopped;
            }
            stepped = false;
            while control.paused() && !control.stopped() && !stepped {
                stepped = control.take_step();
                if !stepped {
                    observer.on_boundary(self);
                    control.wait(HOLD);
                }
            }
            if control.stopped() {
                break EndReason::Stopped(control.reason());
            }
            match self.one_step(observer, recording.as_ref()) {
                Err(err) if err.kind() == ErrorKind::Numerics => break self.diverged(),
                other => other?,
            }
        };
        if !matches!(reason, EndReason::Diverged { .. }) && self.last_checkpoint != Some(self.progress.step) {
            self.checkpoint(observer)?;
        }
        let report = match reason {
            EndReason::Finished | EndReason::EarlyStopped => self.final_report(observer, control)?,
            _ => None,
        };
        let end = EndRecord {
            reason,
            step: self.progress.step,
            seconds: started.elapsed().as_secs_f64(),
            tokens_per_s: if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 },
            report,
            best: self.progress.best,
        };
        observer.on_end(&end);
        Ok(end)
    }

    fn diverged(&self) -> EndReason {
        let last_checkpoint = self.last_checkpoint.map(|step| format!("checkpoint-{step}"));
        EndReason::Diverged { step: self.progress.step + 1, last_checkpoint }
    }

    fn one_step(&mut self, observer: &mut dyn Observer, recording: Option<&Recording>) -> Result<()> {
        let clock = Instant::now();
        // What passed since the last step belongs to none.
        recording.map(Recording::take);
        let at = (self.progress.step, self.total_steps);
        let stepped = self.subject.step(&self.config, &mut self.optimizer, at, &mut self.order)?;
        self.progress.step += 1;
        let (profile, seconds) = (recording.map(Recording::take), clock.elapsed().as_secs_f64());
        self.seconds += seconds;
        self.tokens += stepped.tokens as u64;
        self.watch(&stepped, observer)?;
        observer.on_step(&StepRecord {
            step: self.progress.step,
            epoch: self.epoch(),
            loss: stepped.loss.total,
            task_loss: stepped.loss.task,
            consistency_loss: stepped.loss.consistency,
            learning_rate: stepped.learning_rate,
            grad_norm: stepped.grad_norm,
            tokens: stepped.tokens,
            seconds,
            routes: stepped.routes,
        });
        if let Some(profile) = profile {
            observer.on_profile(self.progress.step, &profile);
        }
        Ok(())
    }

    fn watch(&mut self, stepped: &Stepped, observer: &mut dyn Observer) -> Result<()> {
        let step = self.progress.step;
        if Lamps::watching(step) {
            self.lamps.see(&stepped.grads)?;
            if gradient_health::CHECKS.contains(&step) {
                let model = self.subject.model();
                observer.on_lamps(&self.lamps.read(step, model.params(), &self.optimizer, model.mixture())?);
            }
        }
        Ok(())
    }

    fn epoch(&self) -> f64 {
        self.progress.step as f64 / self.steps_per_epoch
    }

    fn evaluate(&mut self, observer: &mut dyn Observer, control: &Control) -> Result<()> {
        let clock = Instant::now();
        let go_on = |_: f64| !control.stopped();
        let own = MergeWeights::own(self.model().mixture())?;
        let merged = self.subject.evaluate(&own, &self.options(&go_on))?;
        let higher = metrics::higher_is_better(self.subject.metric());
        let better = |new: f64, old: f64| if higher { new > old } else { new < old };
        let best = self.progress.best.is_none_or(|(_, value)| better(merged.primary, value));
        if best {
            self.progress.best = Some((self.progress.step, merged.primary));
            self.progress.without_better = 0;
            self.best_tensors = Some(self.tensors()?);
        } else {
            self.progress.without_better += 1;
        }
        self.progress.evaluated = Some(self.progress.step);
        let seconds = clock.elapsed().as_secs_f64();
        observer.on_eval(&EvalRecord { step: self.progress.step, epoch: self.epoch(), merged, best, seconds });
        Ok(())
    }

    /// Lets the model answer its fixed inputs; false where somebody said stop meanwhile. A pause holds it between two
    /// tokens, unless it belongs to a single step (`stepped`). A model that cannot write is no reason to end a training.
    fn sample(&mut self, observer: &mut dyn Observer, control: &Control, stepped: bool) -> bool {
        let step = self.progress.step;
        let watching = RefCell::new(&mut *observer);
        let go_on = || {
            if control.stopped() {
                return false;
            }
            watching.borrow_mut().on_writing(self);
            // A single step that is asked for meanwhile comes after the samples.
            while control.paused() && !control.stopped() && !stepped && !control.step_asked() {
                control.wait(HOLD);
                watching.borrow_mut().on_writing(self);
            }
            !control.stopped()
        };
        if !go_on() {
            return false;
        }
        let written = samples::write(&self.subject, &self.config, (step, self.epoch()), &go_on);
        match written {
            Ok(Some(record)) => observer.on_samples(&record),
            Ok(None) => {}
            Err(err) if err.kind() == ErrorKind::Cancelled => return false,
            Err(err) => observer.on_problem(&format!("step {step}: no samples: {err}; training goes on")),
        }
        self.sampled = Some(step);
        true
    }

    fn options<'a>(&self, go_on: &'a dyn Fn(f64) -> bool) -> compare::Options<'a> {
        self.subject.options(&self.config, go_on)
    }

    /// The comparison of the best checkpoint's weights, which the model holds afterwards. Absent when stopped meanwhile.
    fn final_report(&self, observer: &mut dyn Observer, control: &Control) -> Result<Option<EvalReport>> {
        if let Some(best) = &self.best_tensors {
            set_tensors(self.model(), best)?;
        }
        observer.on_boundary(self);
        let go_on = |_: f64| !control.stopped();
        match self.subject.compare(&self.options(&go_on)) {
            Err(err) if err.kind() == ErrorKind::Cancelled => Ok(None),
            other => other.map(Some),
        }
    }

    fn tensors(&self) -> Result<Vec<HostTensor>> {
        host_tensors(self.model())
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let data = self.checkpoint_data()?;
        let best = self.progress.best.is_some_and(|(step, _)| step == self.progress.step);
        if observer.on_checkpoint(&data, self.progress.step, best) {
            self.last_checkpoint = Some(self.progress.step);
        }
        Ok(())
    }

    /// Everything needed to go on from here, as host data.
    pub fn checkpoint_data(&self) -> Result<CheckpointData> {
        let mut optimizer = Vec::new();
        let state = self.optimizer.state()?;
        for (param, moments) in self.model().params().iter().zip(&state) {
            for (part, values) in [("m", &moments.m), ("v", &moments.v)] {
                optimizer.push(HostTensor::new(format!("{}.{part}", param.name), param.value.dims(), values.clone())?);
            }
        }
        let progress = Progress {
            optimizer_steps: state.into_iter().map(|m| m.steps).collect(),
            max_abs_grad: self.lamps.max_abs_grad.clone(),
            ..self.progress.clone()
        };
        let state = serde_json::to_value(progress)
            .map_err(|err| Error::internal(format!("the state cannot be written: {err}")))?;
        Ok(CheckpointData { tensors: self.tensors()?, optimizer, state })
    }

    /// Goes on from a checkpoint. `best`: the tensors of the best one, when that is another.
    pub fn restore(&mut self, data: &CheckpointData, best: Option<Vec<HostTensor>>) -> Result<()> {
        let progress: Progress = serde_json::from_value(data.state.clone())
            .map_err(|err| Error::format(format!("the checkpoint's state cannot be read: {err}")))?;
        let find = |name: &str| data.optimizer.iter().find(|t| t.name == name).map(|t| t.data.clone());
        let mut moments = Vec::new();
        for (i, param) in self.model().params().iter().enumerate() {
            let (m, v) = (find(&format!("{}.m", param.name)), find(&format!("{}.v", param.name)));
            let steps = progress.optimizer_steps.get(i).cloned();
            match (m, v, steps) {
                (Some(m), Some(v), Some(steps)) => moments.push(MomentState { m, v, steps }),
                _ => {
                    return Err(Error::format(format!(
                        "the checkpoint holds no optimizer state of {:?}; it belongs to other settings",
                        param.name
                    )));
                }
            }
        }
        let lamps_fit = progress.max_abs_grad.iter().map(Vec::len).eq(self.lamps.max_abs_grad.iter().map(Vec::len));
        if !lamps_fit || progress.step > self.total_steps {
            return Err(Error::format(format!("the checkpoint of step {} belongs to other settings", progress.step)));
        }
        set_tensors(self.model(), &data.tensors)?;
        self.optimizer.restore(&moments)?;
        self.lamps.max_abs_grad.clone_from(&progress.max_abs_grad);
        let is_best = progress.best.is_some_and(|(step, _)| step == progress.step);
        self.best_tensors = if is_best { Some(data.tensors.clone()) } else { best };
        self.last_checkpoint = Some(progress.step);
        self.progress = progress;
        Ok(())
    }
}

/// Optimizer steps in a pass over the rows, and in all.
fn extent(config: &RunConfig, order: &Order) -> (f64, u64) {
    let (micros, epochs) = (config.train.gradient_accumulation_steps as f64, config.train.num_train_epochs);
    let total = match (config.train.max_steps, order.rule()) {
        (0, BatchRule::Examples(_)) => (epochs * order.batches_in(0) as f64 / micros).ceil() as u64,
        (0, BatchRule::Tokens(_)) => (order.batches_until(epochs) as f64 / micros).ceil() as u64,
        (steps, _) => return (order.batches_in(0) as f64 / micros, steps),
    };
    let per_epoch = match order.rule() {
        BatchRule::Tokens(_) if epochs >= 1.0 => order.batches_until(epochs.floor()) as f64 / epochs.floor(),
        _ => order.batches_in(0) as f64,
    };
    (per_epoch / micros, total.max(1))
}

/// Host copies of all trained tensors, in order.
pub fn host_tensors(model: &dyn Network) -> Result<Vec<HostTensor>> {
    let copy = |p: &crate::nn::Param| HostTensor::new(&p.name, p.value.dims(), to_f32(&p.value)?);
    model.params().iter().map(copy).collect()
}

/// Overwrites all trained tensors with host values of the same names.
pub fn set_tensors(model: &dyn Network, tensors: &[HostTensor]) -> Result<()> {
    let find = |name: &str| tensors.iter().find(|t| t.name == name).map(|t| (t.shape.as_slice(), t.data.as_slice()));
    network::overwrite(model.params(), find)
}
