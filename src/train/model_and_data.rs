//! What is trained and what it learns from: a classifier with labelled rows, or a language model with texts.

use super::optimizer::AdamW;
use super::step::{StepIndex, StepResult, step};
use crate::config::{Metric, RunConfig};
use crate::data::order::{BatchRule, Order};
use crate::data::text::{TextData, TextDataset};
use crate::data::{Encoded, SkippedRow, TaskData};
use crate::error::Result;
use crate::eval::compare::{self, EvalOptions};
use crate::eval::{EvalReport, Scores};
use crate::mixture::MergeWeights;
use crate::model::{CausalLm, Classifier, Network};
use crate::rng::SeedStream;

/// A model and what it learns from.
#[derive(Debug)]
pub enum ModelAndData {
    /// A classifier or regressor and its task.
    Classifier(Classifier, TaskData),
    /// A language model and its texts.
    Lm(CausalLm, TextData),
}

/// Sizes of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Rows; of texts: sequences.
    pub rows: usize,
    /// Tokens of all of them.
    pub tokens: usize,
    /// Rows that were cut at the largest length.
    pub truncated: usize,
}

impl ModelAndData {
    /// The model, as both kinds have it.
    pub fn model(&self) -> &dyn Network {
        match self {
            Self::Classifier(model, _) => model,
            Self::Lm(model, _) => model,
        }
    }

    /// The language model and its texts, where it is one.
    pub fn language_model(&self) -> Option<(&CausalLm, &TextData)> {
        if let Self::Lm(model, data) = self { Some((model, data)) } else { None }
    }

    /// What is learned from.
    pub fn train(&self) -> Extent {
        match self {
            Self::Classifier(_, data) => rows(&data.train.encoded),
            Self::Lm(_, data) => texts(&data.train),
        }
    }

    /// What is measured on.
    pub fn dev(&self) -> Extent {
        match self {
            Self::Classifier(_, data) => rows(&data.dev.encoded),
            Self::Lm(_, data) => texts(&data.dev),
        }
    }

    /// Rows left out because they could not be used.
    pub fn skipped(&self) -> &[SkippedRow] {
        match self {
            Self::Classifier(_, data) => &data.skipped,
            Self::Lm(_, data) => &data.skipped,
        }
    }

    /// Class names in order; empty for regression and for language models.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Classifier(_, data) => &data.labels,
            Self::Lm(..) => &[],
        }
    }

    /// The metric that decides which checkpoint is best, never [`Metric::Auto`]; of language models the loss.
    pub fn metric(&self) -> Metric {
        match self {
            Self::Classifier(_, data) => data.metric,
            Self::Lm(..) => Metric::Loss,
        }
    }

    /// The seeded, restartable order of the micro-batches.
    pub fn order(&self, config: &RunConfig) -> Order {
        let seed = SeedStream::new(config.train.seed);
        match self {
            Self::Classifier(_, data) => Order::new(seed, data.train.len(), config.train.batch_size),
            Self::Lm(_, data) => data.train.order(seed, BatchRule::of(config)),
        }
    }

    /// One optimizer step on the micro-batches that are next.
    pub fn step(
        &self,
        config: &RunConfig,
        optimizer: &mut AdamW,
        at: StepIndex,
        order: &mut Order,
    ) -> Result<StepResult> {
        match self {
            Self::Classifier(model, data) => {
                step(config, model, optimizer, at, |index| Ok(data.train.batch(order.rows(index))))
            }
            Self::Lm(model, data) => {
                step(config, model, optimizer, at, |index| Ok(data.train.batch(order.rows(index))))
            }
        }
    }

    /// How the run is measured: as its settings say.
    pub fn options<'a>(&self, config: &RunConfig, go_on: &'a dyn Fn(f64) -> bool) -> EvalOptions<'a> {
        EvalOptions {
            metric: self.metric(),
            batch_size: config.eval.eval_batch_size,
            random_routes: config.eval.random_routes,
            seed: SeedStream::new(config.train.seed),
            go_on,
        }
    }

    /// The model merged with these weights on the evaluation rows.
    pub fn evaluate(&self, weights: &MergeWeights, opts: &EvalOptions<'_>) -> Result<Scores> {
        match self {
            Self::Classifier(model, data) => compare::evaluate(&model.merged(weights)?, &data.dev, None, opts),
            Self::Lm(model, data) => compare::evaluate(&model.merged(weights)?, &data.dev, None, opts),
        }
    }

    /// Merged against unmerged on the evaluation rows.
    pub fn compare(&self, opts: &EvalOptions<'_>) -> Result<EvalReport> {
        match self {
            Self::Classifier(model, data) => compare::compare(model, &data.dev, opts),
            Self::Lm(model, data) => compare::compare(model, &data.dev, opts),
        }
    }
}

fn rows(encoded: &[Encoded]) -> Extent {
    Extent {
        rows: encoded.len(),
        tokens: encoded.iter().map(|text| text.ids.len()).sum(),
        truncated: encoded.iter().filter(|row| row.truncated).count(),
    }
}

fn texts(data: &TextDataset) -> Extent {
    let truncated = data.encoded.iter().filter(|text| text.cut > 0).count();
    Extent { rows: data.len(), tokens: data.tokens(), truncated }
}
