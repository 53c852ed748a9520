//! Plain data of a training run: what the loop reports, a recorder writes and the window shows.

pub mod decimation;
mod evaluation;
mod paired;
mod quantity;
mod route;
mod steps;

pub use evaluation::{Band, EvalReport, MergedWith, Scores};
pub use paired::{Costs, Interval, PairedDifference, PairedReport, WayCost};
pub use quantity::Quantity;
pub use route::{Pick, Route, SIDES, Side};
pub use steps::{StepBucket, StepSample};

use crate::tensor::HostTensor;
use serde::{Deserialize, Deserializer, Serialize};

/// JSON has no NaN: a number that is not finite is written as `null`, and read back as NaN.
pub(crate) fn nan_of_null<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn best_of_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(u64, f64)>, D::Error> {
    let best = Option::<(u64, Option<f64>)>::deserialize(from)?;
    Ok(best.map(|(step, metric)| (step, metric.unwrap_or(f64::NAN))))
}

/// What is known when training starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Steps this run will make in all.
    pub total_steps: u64,
    /// The step it starts from: 0, or the checkpoint's when resumed.
    pub first_step: u64,
    /// Optimizer steps in an epoch.
    #[serde(deserialize_with = "nan_of_null")]
    pub steps_per_epoch: f64,
    /// Rows for training and for evaluation.
    pub train_rows: usize,
    /// Rows for evaluation.
    pub eval_rows: usize,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// Parameters that are trained (all experts and the head).
    pub trained_parameters: usize,
    /// Of these, the head's.
    pub head_parameters: usize,
    /// Adapter parameters that remain after merging (without the head).
    pub merged_parameters: usize,
    /// All parameters of the frozen model.
    pub trunk_parameters: usize,
    /// Names of the adapted modules in order, such as `layers.3.ffn`.
    pub sites: Vec<String>,
    /// Experts of the down side and of the up side.
    pub experts: [usize; 2],
    /// Name of the deciding metric.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Device in words.
    pub device: String,
    /// CPU threads of the engine.
    pub threads: usize,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps done, from 1.
    pub step: u64,
    /// Passes over the data done so far.
    #[serde(deserialize_with = "nan_of_null")]
    pub epoch: f64,
    /// What was minimised: task loss + λ x consistency, mean over the micro-batches.
    #[serde(deserialize_with = "nan_of_null")]
    pub loss: f64,
    /// Cross-entropy or squared error.
    #[serde(deserialize_with = "nan_of_null")]
    pub task_loss: f64,
    /// Symmetric KL (or squared difference), before λ; 0 without a second pass.
    #[serde(deserialize_with = "nan_of_null")]
    pub consistency_loss: f64,
    /// Learning rate used.
    #[serde(deserialize_with = "nan_of_null")]
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    #[serde(deserialize_with = "nan_of_null")]
    pub grad_norm: f64,
    /// Tokens through the model, both passes counted.
    pub tokens: usize,
    /// Wall-clock seconds of the step.
    #[serde(deserialize_with = "nan_of_null")]
    pub seconds: f64,
    /// The routes of its micro-batches, in order.
    #[serde(skip)]
    pub routes: Vec<Route>,
}

/// One evaluation of the merged model during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    #[serde(deserialize_with = "nan_of_null")]
    pub epoch: f64,
    /// The merged model on the evaluation rows.
    pub merged: Scores,
    /// Whether this is the best so far.
    pub best: bool,
    /// Wall-clock seconds.
    #[serde(deserialize_with = "nan_of_null")]
    pub seconds: f64,
}

/// Whether a value of the deciding metric is better than another; equal ones are not, so that the first of equals stays best.
pub fn is_better(new: f64, old: f64, higher_is_better: bool) -> bool {
    if higher_is_better { new > old } else { new < old }
}

impl EvalRecord {
    /// The best of a run's evaluations, the first of equals.
    pub fn best_of(evals: &[Self], higher_is_better: bool) -> Option<&Self> {
        let better = |new: &Self, old: &Self| is_better(new.merged.primary, old.merged.primary, higher_is_better);
        evals.iter().reduce(|best, eval| if better(eval, best) { eval } else { best })
    }
}

/// What a language model writes at one step for some fixed inputs of the evaluation texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    #[serde(deserialize_with = "nan_of_null")]
    pub epoch: f64,
    /// One for each input, the same inputs in the same order at every step.
    pub samples: Vec<Sample>,
    /// Wall-clock seconds.
    #[serde(deserialize_with = "nan_of_null")]
    pub seconds: f64,
}

/// One input, and the greedy answers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What the model was asked, without the layout around it; of a long text its end.
    pub prompt: String,
    /// What is right (one answer of perhaps several); of a long one its beginning.
    pub reference: String,
    /// What the merged model writes.
    pub merged: String,
    /// What the mixture writes along one random route; absent with a single expert.
    pub random: Option<String>,
}

/// Whether a trained tensor learns (checked after steps 1, 3 and 10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorHealth {
    /// Name of the tensor, such as `layers.3.ffn.down.weight`.
    pub tensor: String,
    /// Expert, where the tensor is a bank.
    pub expert: Option<usize>,
    /// Steps done when it was checked.
    pub step: u64,
    /// Largest absolute gradient seen.
    #[serde(deserialize_with = "nan_of_null")]
    pub max_abs_grad: f64,
    /// Norm of the change since the start over the norm of the tensor.
    #[serde(deserialize_with = "nan_of_null")]
    pub update_ratio: f64,
    /// The verdict.
    pub state: HealthState,
}

/// The verdict of a [`TensorHealth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// Gradient and change are where they should be.
    Learning,
    /// Never drawn so far, so nothing could change.
    NotDrawn,
    /// No gradient, or no change although there is a gradient.
    Dead,
    /// The change is out of range (more than the tensor itself in ten steps).
    Exploding,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// All steps done.
    Finished,
    /// No better metric for `early_stopping_patience` evaluations.
    EarlyStopped,
    /// Somebody asked; the reason in words.
    Stopped(String),
    /// The loss became NaN or infinite at this step.
    Diverged {
        /// The step that was not finite.
        step: u64,
        /// The last finite checkpoint, by directory name; none was written yet otherwise.
        last_checkpoint: Option<String>,
    },
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Why.
    pub reason: EndReason,
    /// Steps done.
    pub step: u64,
    /// Wall-clock seconds of training (this process).
    #[serde(deserialize_with = "nan_of_null")]
    pub seconds: f64,
    /// Tokens a second over the training steps, both passes counted.
    #[serde(deserialize_with = "nan_of_null")]
    pub tokens_per_s: f64,
    /// The full comparison at the end, of the best checkpoint's weights; absent when the run was cut short.
    pub report: Option<EvalReport>,
    /// The best checkpoint's step and metric.
    #[serde(default, deserialize_with = "best_of_null")]
    pub best: Option<(u64, f64)>,
}

impl EndRecord {
    /// The step whose weights the model in memory holds after the end, and whose the comparison is: the best one of a run
    /// that came to its end (also where the comparison was cut short), else the last.
    pub fn weights_step(&self) -> u64 {
        match (&self.reason, self.best) {
            (EndReason::Finished | EndReason::EarlyStopped, Some((best, _))) => best,
            _ => self.step,
        }
    }
}

/// The contents of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckpointData {
    /// Every trained tensor under its stable name: banks and head.
    pub tensors: Vec<HostTensor>,
    /// The optimizer's tensors.
    pub optimizer: Vec<HostTensor>,
    /// Everything else the trainer needs: numbers and words.
    pub state: serde_json::Value,
}

impl CheckpointData {
    /// The step with the best metric when it was written, as the trainer's state has it.
    pub fn best_step(&self) -> Option<u64> {
        self.state.get("best")?.get(0)?.as_u64()
    }
}
