//! What is recorded of a run over time, one by one.

use super::{EvalRecord, StepRecord};

/// A quantity that is recorded over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// What was minimised.
    Loss,
    /// Cross-entropy or squared error.
    TaskLoss,
    /// The consistency term before λ.
    Consistency,
    /// Learning rate.
    LearningRate,
    /// Gradient norm before clipping.
    GradNorm,
    /// Tokens a second, both passes counted.
    TokensPerSecond,
    /// Loss of the merged model on the evaluation rows.
    EvalLoss,
    /// Deciding metric of the merged model on the evaluation rows.
    EvalMetric,
}

impl Quantity {
    /// Its name in tables: those of `metrics.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::TaskLoss => "task_loss",
            Self::Consistency => "consistency_loss",
            Self::LearningRate => "learning_rate",
            Self::GradNorm => "grad_norm",
            Self::TokensPerSecond => "tokens_per_s",
            Self::EvalLoss => "eval_loss",
            Self::EvalMetric => "eval_metric",
        }
    }

    /// Smallest and largest value that it can have in a run with this deciding metric.
    pub fn limits(self, metric: &str) -> [f64; 2] {
        match self {
            Self::EvalMetric => metric_limits(metric),
            // Losses, rates, norms and speeds are never negative.
            _ => [0.0, f64::INFINITY],
        }
    }

    /// Its value at a step; absent for what evaluations measure.
    pub fn of_step(self, step: &StepRecord) -> Option<f64> {
        match self {
            Self::Loss => Some(step.loss),
            Self::TaskLoss => Some(step.task_loss),
            Self::Consistency => Some(step.consistency_loss),
            Self::LearningRate => Some(step.learning_rate),
            Self::GradNorm => Some(step.grad_norm),
            Self::TokensPerSecond => (step.seconds > 0.0).then(|| step.tokens as f64 / step.seconds),
            Self::EvalLoss | Self::EvalMetric => None,
        }
    }

    /// Its value at an evaluation; absent for what steps measure.
    pub fn of_eval(self, eval: &EvalRecord) -> Option<f64> {
        match self {
            Self::EvalLoss => Some(eval.merged.loss),
            Self::EvalMetric => Some(eval.merged.primary),
            _ => None,
        }
    }
}

/// Smallest and largest value of a metric.
fn metric_limits(metric: &str) -> [f64; 2] {
    match metric {
        "accuracy" | "f1" | "token_accuracy" => [0.0, 1.0],
        "matthews" | "pearson" | "spearman" => [-1.0, 1.0],
        "perplexity" => [1.0, f64::INFINITY],
        // Cross-entropy and squared error.
        _ => [0.0, f64::INFINITY],
    }
}
