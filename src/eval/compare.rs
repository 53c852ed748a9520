//! Merged against unmerged on a data set: merged weights, whole random routes, each fixed expert, and the ensemble of the
//! random routes.
//!
//! A *whole random route* draws one expert for each side of each adapted module once and keeps it for the data set.

use super::metrics;
use crate::config::{Metric, MixtureConfig, RoutingPolicy, choice_name};
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{MergeWeights, Route, RouteShape};
use crate::model::Network;
use crate::records::{EvalReport, MergedWith, Scores};
use crate::rng::{Purpose, SeedStream};
use std::cell::Cell;

/// How to evaluate.
pub struct EvalOptions<'a> {
    /// The deciding metric, never [`Metric::Auto`].
    pub metric: Metric,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// R: whole random routes.
    pub random_routes: usize,
    /// Seed of the random routes.
    pub seed: SeedStream,
    /// Called after each batch with the share done, 0 to 1; false cancels.
    pub go_on: &'a dyn Fn(f64) -> bool,
}

impl EvalOptions<'_> {
    /// An error of kind [`ErrorKind::Cancelled`] where `go_on` returns false.
    pub(super) fn check(&self, share: f64) -> Result<()> {
        if (self.go_on)(share) { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "evaluation cancelled")) }
    }
}

/// What a model makes of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScore {
    /// In nats, of a text the mean over its learned tokens, for regression the squared error.
    pub loss: f64,
    /// Share of right answers: 0 or 1 of a class, of a text over its learned tokens; absent for regression.
    pub right: Option<f64>,
}

/// A model that can be measured on rows of its kind.
pub trait Measured: Network + Sized {
    /// What it is measured on.
    type Rows;

    /// Number of rows.
    fn rows(data: &Self::Rows) -> usize;

    /// Scores of each of these routes (without one the model must be merged), and of the mean of their probabilities or
    /// values.
    fn measure(
        &self,
        data: &Self::Rows,
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<Scores>, Scores)>;

    /// Loss and right answers of each of these rows along a route (without one the model must be merged), in the order given.
    fn row_scores(
        &self,
        data: &Self::Rows,
        rows: &[usize],
        route: Option<&Route>,
        opts: &EvalOptions<'_>,
    ) -> Result<Vec<RowScore>>;

    /// The losses alone.
    fn row_losses(
        &self,
        data: &Self::Rows,
        rows: &[usize],
        route: Option<&Route>,
        opts: &EvalOptions<'_>,
    ) -> Result<Vec<f64>> {
        Ok(self.row_scores(data, rows, route, opts)?.into_iter().map(|row| row.loss).collect())
    }

    /// The score without any training, in the deciding metric: that of the best constant answer, or of the base model
    /// without a mixture, whose other scores come along.
    fn baseline(&self, data: &Self::Rows, opts: &EvalOptions<'_>) -> Result<(f64, Option<Box<Scores>>)>;
}

/// Scores of the model along one route; without one it must be merged.
pub fn evaluate<M: Measured>(
    model: &M,
    data: &M::Rows,
    route: Option<&Route>,
    opts: &EvalOptions<'_>,
) -> Result<Scores> {
    let (scores, _) = model.measure(data, &[route], opts)?;
    scores.into_iter().next().ok_or_else(|| Error::internal("no scores of a route"))
}

/// Route number `index` of the R random ones, determined by the seed.
pub fn random_route(mixture: &MixtureConfig, sites: usize, seed: SeedStream, index: usize) -> Route {
    let law = MixtureConfig { routing: RoutingPolicy::PerBatch, ..mixture.clone() };
    let shape = RouteShape { passes: 1, sites, sequences: 0, tokens: 0 };
    Route::draw(&law, seed, Purpose::Sampling, index as u64, shape)
}

/// The whole comparison. The experts are merged with the scores that they were imported with, else uniformly.
pub fn compare<M: Measured>(model: &M, data: &M::Rows, opts: &EvalOptions<'_>) -> Result<EvalReport> {
    let sites = model.sites().len();
    let experts = model.mixture().map_or(0, |m| m.num_experts);
    let routes = if model.mixture().is_some() { opts.random_routes } else { 0 };
    // Parts of the work by number of forwards: merged, random routes, fixed experts, the baseline.
    let all = (2 + routes + experts) as f64;
    let (done, part) = (Cell::new(0.0), Cell::new(1.0));
    let within = |share: f64| (opts.go_on)((done.get() + share * part.get()) / all);
    let opts = &EvalOptions { go_on: &within, ..*opts };
    let next = |size: usize| {
        done.set(done.get() + part.get());
        part.set(size as f64);
    };

    let own = MergeWeights::own(model.mixture())?;
    let merged = evaluate(&model.merged(&own)?, data, None, opts)?;
    next(1);
    let mut report = EvalReport {
        metric: choice_name(opts.metric),
        higher_is_better: metrics::higher_is_better(opts.metric),
        rows: M::rows(data),
        merged_with: model
            .mixture()
            .map(|_| if own.is_uniform() { MergedWith::UniformWeights } else { MergedWith::ImportedScores }),
        ..EvalReport::default()
    };
    (report.majority, report.base) = model.baseline(data, opts)?;
    let Some(mixture) = model.mixture() else {
        return Ok(EvalReport { random: vec![merged.clone()], ensemble: merged.clone(), merged, ..report });
    };
    next(routes);
    let drawn: Vec<Route> = (0..routes).map(|index| random_route(mixture, sites, opts.seed, index)).collect();
    (report.random, report.ensemble) = model.measure(data, &drawn.iter().map(Some).collect::<Vec<_>>(), opts)?;
    for expert in 0..experts {
        next(1);
        report.fixed.push(evaluate(model, data, Some(&Route::fixed(mixture, sites, expert)), opts)?);
    }
    Ok(EvalReport { merged, ..report })
}
