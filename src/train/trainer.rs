//! The loop: steps, evaluations, checkpoints, early stopping, and a clean end for every reason.
//!
//! Everything random is a function of the seed and the step, so [`Trainer::restore`] needs no generator state and a resumed
//! run makes the same bits as one that was never interrupted.

use super::checkpoint::{Progress, host_tensors, set_tensors};
use super::control::Control;
use super::model_and_data::ModelAndData;
use super::observer::{Evaluating, Observer};
use super::optimizer::AdamW;
use super::samples;
use super::step::StepIndex;
use crate::config::{LawChange, RoutingLaw, RunConfig, choice_name};
use crate::data::order::{BatchRule, Order};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{EvalReport, metrics};
use crate::mixture::MergeWeights;
use crate::model::Network;
use crate::nn::kernels::device;
use crate::nn::kernels::vocab_loss::OVERFLOW_BITS;
use crate::nn::profile::Recording;
use crate::records::{EndReason, EndRecord, EvalRecord, StartRecord, StepRecord, is_better};
use crate::tensor::{DType, HostTensor};
use crate::train::gradient_health::{self, GradientHealth};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// After how many steps gradients that left the range of f16 once are scaled up more again.
const STEPS_UP: u64 = 256;
/// Longest time a paused run waits before it tells its observer again.
const PAUSE_POLL: Duration = Duration::from_millis(50);

/// A training run in memory.
pub struct Trainer {
    /// The settings, with the law of the step that was made last.
    pub(super) config: RunConfig,
    /// The law before every change.
    pub(super) first_law: RoutingLaw,
    /// Changes of the law that the settings plan.
    pub(super) planned_laws: Vec<LawChange>,
    pub(super) subject: ModelAndData,
    pub(super) optimizer: AdamW,
    pub(super) gradient_health: GradientHealth,
    order: Order,
    pub(super) progress: Progress,
    pub(super) best_tensors: Option<Vec<HostTensor>>,
    /// Whether the model holds the best weights: from the comparison at the end on.
    holds_best: bool,
    pub(super) total_steps: u64,
    /// Optimizer steps in one pass over the rows; the mean over the passes where batches are filled by tokens.
    steps_per_epoch: f64,
    pub(super) last_checkpoint: Option<u64>,
    /// The step whose samples were written last. No part of a checkpoint, which is the same with samples and without: a run
    /// that goes on writes those of its first step again.
    sampled: Option<u64>,
    seconds: f64,
    tokens: u64,
    /// When the last step began.
    stepped: Option<Instant>,
}

impl Trainer {
    /// Ready to make the first step.
    pub fn new(config: RunConfig, subject: ModelAndData) -> Result<Self> {
        config.validate()?;
        if subject.train().rows == 0 || subject.dev().rows == 0 {
            return Err(Error::data("training needs rows to learn from and rows to evaluate on; one of them is empty"));
        }
        let (order, params) = (subject.order(&config), subject.model().params());
        let (steps_per_epoch, total_steps) = extent(&config, &order);
        Ok(Self {
            optimizer: AdamW::new(params)?,
            gradient_health: GradientHealth::new(params)?,
            order,
            progress: Progress::default(),
            best_tensors: None,
            holds_best: false,
            total_steps,
            steps_per_epoch,
            last_checkpoint: None,
            sampled: None,
            seconds: 0.0,
            tokens: 0,
            stepped: None,
            first_law: RoutingLaw::of(&config.mixture),
            planned_laws: config.mixture.law_changes()?,
            config,
            subject,
        })
    }

    /// Trains to the end, or until `control` says stop. Ends with a checkpoint unless the loss, an evaluation or the
    /// weights are not finite.
    pub fn run(&mut self, observer: &mut dyn Observer, control: &Control) -> Result<EndRecord> {
        observer.on_start(&self.start_record());
        let started = Instant::now();
        let recording = observer.profiles().then(Recording::start);
        let mut reason = self.train(observer, control, recording.as_ref())?;
        let step = self.progress.step;
        if !matches!(reason, EndReason::Diverged { .. })
            && self.last_checkpoint != Some(step)
            && let Err(err) = self.checkpoint(observer)
        {
            reason = self.end_of(err, step, control)?;
        }
        let mut report = None;
        if matches!(reason, EndReason::Finished | EndReason::EarlyStopped) {
            match self.final_report(observer, control) {
                Ok(found) => report = Some(found),
                Err(err) if err.kind() == ErrorKind::Cancelled => {}
                Err(err) => reason = self.end_of(err, step, control)?,
            }
        }
        let end = EndRecord {
            reason,
            step,
            seconds: started.elapsed().as_secs_f64(),
            tokens_per_s: if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 },
            report,
            best: self.progress.best,
        };
        observer.on_end(&end);
        Ok(end)
    }

    /// The loop: evaluation, samples and checkpoint where they are due, then the next step.
    fn train(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
        recording: Option<&Recording>,
    ) -> Result<EndReason> {
        // Whether the step before was asked for while the run was paused: its samples belong to it.
        let mut single_step = false;
        loop {
            let step = self.progress.step;
            if let Err(err) = self.between_steps(observer, control, single_step) {
                return self.end_of(err, step, control);
            }
            let patience = self.config.train.early_stopping_patience;
            let end = if step >= self.total_steps {
                Some(EndReason::Finished)
            } else if patience > 0 && self.progress.without_better >= patience {
                Some(EndReason::EarlyStopped)
            } else {
                None
            };
            single_step = self.boundary(observer, control, end.is_some());
            if let Some(reason) = end {
                return Ok(reason);
            }
            if control.stopped() {
                return Ok(EndReason::Stopped(control.reason()));
            }
            if let Some(law) = control.take_law() {
                self.ask_law(law, observer);
            }
            if let Err(err) = self.one_step(observer, recording) {
                if err.kind() == ErrorKind::Numerics {
                    observer.on_problem(&err.to_string());
                }
                return self.end_of(err, step + 1, control);
            }
        }
    }

    /// Evaluation, samples and checkpoint, where they are due and not made yet.
    fn between_steps(&mut self, observer: &mut dyn Observer, control: &Control, single_step: bool) -> Result<()> {
        let step = self.progress.step;
        if self.evaluation_due(step) && self.progress.evaluated != Some(step) {
            self.evaluate(observer, control)?;
        }
        if self.samples_due(step) && self.sampled != Some(step) {
            self.sample(observer, control, single_step)?;
        }
        // The best weights are kept on disk too: a resumed run must find them.
        let best = self.progress.best.is_some_and(|(best, _)| best == step);
        if (best || self.checkpoint_due(step)) && self.last_checkpoint != Some(step) {
            self.checkpoint(observer)?;
        }
        Ok(())
    }

    /// Between two steps: tells the observer, again and again while the run is paused or the pace says to wait. Returns
    /// whether the next step was asked for during a pause.
    fn boundary(&self, observer: &mut dyn Observer, control: &Control, last: bool) -> bool {
        loop {
            let paused = control.paused() && !control.stopped() && !last;
            let single_step = paused && control.take_step();
            observer.on_boundary(self, paused && !single_step);
            let early = if last || control.stopped() { Duration::ZERO } else { self.until_due(control.interval()) };
            if single_step || !paused && early.is_zero() {
                return single_step;
            }
            control.wait(if paused { PAUSE_POLL } else { early.min(PAUSE_POLL) });
        }
    }

    /// How long it is until the next step may begin.
    fn until_due(&self, interval: Duration) -> Duration {
        self.stepped.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()))
    }

    /// How a run ends by an error at `step`: a stop, or values that are not finite. Other errors fail it; one of the device
    /// says what to do.
    fn end_of(&self, err: Error, step: u64, control: &Control) -> Result<EndReason> {
        match err.kind() {
            ErrorKind::Cancelled => Ok(EndReason::Stopped(control.reason())),
            ErrorKind::Numerics => {
                let last_checkpoint = self.last_checkpoint.map(|step| format!("checkpoint-{step}"));
                Ok(EndReason::Diverged { step, last_checkpoint })
            }
            ErrorKind::Device => {
                let from = match self.last_checkpoint {
                    Some(step) => format!("training can go on from checkpoint-{step}"),
                    None => "training has to start again".to_owned(),
                };
                let remedy = "on device cpu if it happens again; recompute on and smaller batches take less memory";
                Err(Error::new(ErrorKind::Device, format!("{err}; {from}, {remedy}")))
            }
            _ => Err(err),
        }
    }

    /// The next step alone, without the evaluation, samples and checkpoint that [`Trainer::run`] makes between two steps:
    /// none of them changes what is trained.
    pub fn advance(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.one_step(observer, None)
    }

    fn one_step(&mut self, observer: &mut dyn Observer, recording: Option<&Recording>) -> Result<()> {
        let clock = Instant::now();
        self.stepped = Some(clock);
        self.enter_law(observer);
        // What passed since the last step belongs to none.
        recording.map(Recording::take);
        let (before, total) = (self.progress.overflows, self.total_steps);
        let at = StepIndex { step: self.progress.step, total, overflows: before };
        let result = self.subject.step(&self.config, &mut self.optimizer, at, &mut self.order)?;
        self.progress.step += 1;
        self.progress.overflows = result.overflows;
        if result.overflows > before {
            let (step, bits) = (self.progress.step, OVERFLOW_BITS * (result.overflows - before));
            observer.on_problem(&format!(
                "step {step}: the gradients left the range of f16 and were computed again, scaled up 2^{bits} times less; \
                 the steps after it begin there"
            ));
        } else if self.progress.step.is_multiple_of(STEPS_UP) {
            // Gradients grow smaller as a rule.
            self.progress.overflows = before.saturating_sub(1);
        }
        let (profile, seconds) = (recording.map(Recording::take), clock.elapsed().as_secs_f64());
        self.seconds += seconds;
        self.tokens += result.tokens as u64;
        if GradientHealth::watching(self.progress.step) {
            self.gradient_health.see(&result.grads)?;
        }
        if gradient_health::CHECKS.contains(&self.progress.step) {
            let (step, model) = (self.progress.step, self.subject.model());
            let health = self.gradient_health.read(step, model.params(), &self.optimizer, model.mixture())?;
            observer.on_gradient_health(&health);
        }
        observer.on_step(&StepRecord {
            step: self.progress.step,
            epoch: self.epoch(),
            loss: result.loss.total,
            task_loss: result.loss.task,
            consistency_loss: result.loss.consistency,
            learning_rate: result.learning_rate,
            grad_norm: result.grad_norm,
            tokens: result.tokens,
            seconds,
            routes: result.routes,
        });
        if let Some(profile) = profile {
            observer.on_profile(self.progress.step, &profile);
        }
        Ok(())
    }

    /// Whether evaluations are due after `step` steps.
    pub fn evaluation_due(&self, step: u64) -> bool {
        let epochs = |step: u64| (step as f64 / self.steps_per_epoch).floor();
        let regular = match self.config.eval.eval_steps {
            0 => epochs(step) > epochs(step.saturating_sub(1)),
            n => step.is_multiple_of(n),
        };
        step > 0 && (regular || step == self.total_steps)
    }

    /// Whether a language model answers its fixed inputs after `step` steps.
    fn samples_due(&self, step: u64) -> bool {
        let wanted = self.config.eval.samples > 0 && self.subject.language_model().is_some();
        wanted && (step == 0 || self.due(self.config.eval.sample_steps, step))
    }

    fn checkpoint_due(&self, step: u64) -> bool {
        step > 0 && self.due(self.config.eval.save_steps, step)
    }

    /// After every `every` steps (0: with the evaluations), and after the last one.
    fn due(&self, every: u64, step: u64) -> bool {
        let regular = if every == 0 { self.evaluation_due(step) } else { step.is_multiple_of(every) };
        regular || step == self.total_steps
    }

    fn epoch(&self) -> f64 {
        self.progress.step as f64 / self.steps_per_epoch
    }

    fn evaluate(&mut self, observer: &mut dyn Observer, control: &Control) -> Result<()> {
        let clock = Instant::now();
        let own = MergeWeights::own(self.model().mixture())?;
        let rows = self.subject.dev().rows;
        let watching = RefCell::new(&mut *observer);
        let go_on = |share: f64| {
            watching.borrow_mut().on_evaluating(self, Evaluating { comparison: false, rows, share });
            !control.stopped()
        };
        let merged = self.subject.evaluate(&own, &self.subject.options(&self.config, &go_on))?;
        let higher = metrics::higher_is_better(self.subject.metric());
        let best = self.progress.best.is_none_or(|(_, value)| is_better(merged.primary, value, higher));
        if best {
            self.progress.best = Some((self.progress.step, merged.primary));
            self.progress.without_better = 0;
            self.best_tensors = Some(host_tensors(self.model())?);
        } else {
            self.progress.without_better += 1;
        }
        self.progress.evaluated = Some(self.progress.step);
        let seconds = clock.elapsed().as_secs_f64();
        observer.on_eval(&EvalRecord { step: self.progress.step, epoch: self.epoch(), merged, best, seconds });
        Ok(())
    }

    /// Lets the model answer its fixed inputs. A pause holds it between two tokens, unless it belongs to a single step.
    /// Samples that cannot be written are a problem to report, but do not end the training; a stop does.
    fn sample(&mut self, observer: &mut dyn Observer, control: &Control, single_step: bool) -> Result<()> {
        let step = self.progress.step;
        let watching = RefCell::new(&mut *observer);
        let go_on = || {
            if control.stopped() {
                return false;
            }
            loop {
                // A single step that is asked for meanwhile comes after the samples.
                let paused = control.paused() && !control.stopped() && !single_step && !control.step_asked();
                watching.borrow_mut().on_writing(self, paused);
                if !paused || control.stopped() {
                    return !control.stopped();
                }
                control.wait(PAUSE_POLL);
            }
        };
        if !go_on() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped before the samples"));
        }
        match samples::write(&self.subject, &self.config, (step, self.epoch()), &go_on) {
            Ok(Some(record)) => observer.on_samples(&record),
            Ok(None) => {}
            Err(err) if err.kind() == ErrorKind::Cancelled => return Err(err),
            Err(err) => observer.on_problem(&format!("step {step}: no samples: {err}; training goes on")),
        }
        self.sampled = Some(step);
        Ok(())
    }

    /// The comparison of the best checkpoint's weights, which the model holds afterwards.
    fn final_report(&mut self, observer: &mut dyn Observer, control: &Control) -> Result<EvalReport> {
        if let Some(best) = &self.best_tensors {
            set_tensors(self.model(), best)?;
            self.holds_best = true;
        }
        observer.on_boundary(self, false);
        let experts = self.model().mixture().map_or(0, |mixture| mixture.num_experts + self.config.eval.random_routes);
        let rows = self.subject.dev().rows * (2 + experts);
        let watching = RefCell::new(observer);
        let go_on = |share: f64| {
            watching.borrow_mut().on_evaluating(self, Evaluating { comparison: true, rows, share });
            !control.stopped()
        };
        self.subject.compare(&self.subject.options(&self.config, &go_on))
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
            trunk_parameters: counts.base,
            sites: model.site_names(),
            experts: mixture.map_or([0, 0], |m| [m.down_experts(), m.up_experts()]),
            metric: choice_name(metric),
            higher_is_better: metrics::higher_is_better(metric),
            device: device::name(device) + &format,
            threads: rayon::current_num_threads(),
        }
    }

    /// The step of the best evaluation so far.
    pub fn best_step(&self) -> Option<u64> {
        self.progress.best.map(|(step, _)| step)
    }
    /// The settings, with the law of the step that was made last.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }
    /// The model as it is now, and the rows.
    pub fn subject(&self) -> &ModelAndData {
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
    /// The step whose weights the model holds: the best one's during and after the comparison at the end.
    pub fn weights_step(&self) -> u64 {
        match self.progress.best {
            Some((best, _)) if self.holds_best => best,
            _ => self.progress.step,
        }
    }
    /// How often gradients have left the range of f16, where they were computed again: they are scaled up as much less.
    pub fn overflows(&self) -> u32 {
        self.progress.overflows
    }
    /// Steps in all.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
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
