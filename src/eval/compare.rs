//! Merged against unmerged on a data set: merged weights, whole random routes, each fixed expert, and the ensemble of the
//! random routes.
//!
//! A *whole random route* draws one expert for each side of each adapted module once and keeps it for the data set.

use super::metrics;
use super::rows::{Answers, RowResults, differences};
use crate::analysis::paired::{Bootstrap, RESAMPLES};
use crate::config::{Metric, MixtureConfig, RoutingPolicy, choice_name};
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{Bank, MergeWeights, Route, RouteShape, SIDES};
use crate::model::Network;
use crate::records::{Costs, EvalReport, MergedWith, PairedDifference, PairedReport, Scores, WayCost};
use crate::rng::{Purpose, SeedStream};
use std::cell::Cell;
use std::slice::from_ref;

/// Confusion matrices of more classes are no part of a report.
const MOST_CLASSES: usize = 20;

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

    /// Resamples of so many rows, for the intervals of differences.
    pub fn bootstrap(&self, rows: usize) -> Bootstrap<'_> {
        Bootstrap { rows, resamples: RESAMPLES, seed: self.seed, go_on: self.go_on }
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

    /// What each of these routes makes of these rows (without one the model must be merged), in the order given, and what the
    /// mean of their probabilities or values does.
    fn results(
        &self,
        data: &Self::Rows,
        rows: &[usize],
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<RowResults>, RowResults)>;

    /// The scores of [`Measured::results`] on all rows.
    fn measure(
        &self,
        data: &Self::Rows,
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<Scores>, Scores)> {
        let (each, mean) = self.results(data, &all_rows::<Self>(data), routes, opts)?;
        let scores = each.iter().map(|way| way.scores(opts.metric)).collect::<Result<_>>()?;
        Ok((scores, mean.scores(opts.metric)?))
    }

    /// Loss and right answers of each of these rows along a route (without one the model must be merged), in the order given.
    fn row_scores(
        &self,
        data: &Self::Rows,
        rows: &[usize],
        route: Option<&Route>,
        opts: &EvalOptions<'_>,
    ) -> Result<Vec<RowScore>> {
        let (_, found) = self.results(data, rows, &[route], opts)?;
        let right = |row: usize| match &found.answers {
            Answers::Classes { predicted, truth, .. } => Ok(Some(f64::from(u8::from(predicted[row] == truth[row])))),
            Answers::Values { .. } => Ok(None),
            Answers::Tokens { learned, .. } if learned[row] == 0 => {
                Err(Error::data("a text without a learned token has no loss"))
            }
            Answers::Tokens { learned, right } => Ok(Some(right[row] as f64 / learned[row] as f64)),
        };
        let score = |(row, &loss): (usize, &f64)| Ok(RowScore { loss, right: right(row)? });
        found.losses.iter().enumerate().map(score).collect()
    }

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

    /// The score without any training.
    fn baseline(&self, data: &Self::Rows, opts: &EvalOptions<'_>) -> Result<Baseline>;
}

/// What is reached without any training.
pub struct Baseline {
    /// In the deciding metric: of the best constant answer, or of the base model without a mixture.
    pub score: f64,
    /// What that base model makes of each row (language models).
    pub of_model: Option<RowResults>,
}

fn all_rows<M: Measured>(data: &M::Rows) -> Vec<usize> {
    (0..M::rows(data)).collect()
}

/// What the model makes of each row along one route; without one it must be merged.
pub fn along<M: Measured>(
    model: &M,
    data: &M::Rows,
    route: Option<&Route>,
    opts: &EvalOptions<'_>,
) -> Result<RowResults> {
    Ok(model.results(data, &all_rows::<M>(data), &[route], opts)?.1)
}

/// Scores of the model along one route; without one it must be merged.
pub fn evaluate<M: Measured>(
    model: &M,
    data: &M::Rows,
    route: Option<&Route>,
    opts: &EvalOptions<'_>,
) -> Result<Scores> {
    along(model, data, route, opts)?.scores(opts.metric)
}

/// Scores of a merged model, and what it scores less what the own merge of the mixture it is made of does on the same rows: absent
/// where it was merged with just those weights, and of a single row.
pub fn beside_own<M: Measured>(
    model: &M,
    (merged, weights): (&M, Option<&MergeWeights>),
    data: &M::Rows,
    opts: &EvalOptions<'_>,
) -> Result<(Scores, Option<PairedDifference>)> {
    let own = MergeWeights::own(model.mixture())?;
    if weights == Some(&own) || M::rows(data) < 2 {
        return Ok((evaluate(merged, data, None, opts)?, None));
    }
    let half = |from: f64| move |share: f64| (opts.go_on)(from + 0.45 * share);
    let measured = along(merged, data, None, &EvalOptions { go_on: &half(0.0), ..*opts })?;
    let beside = along(&model.merged(&own)?, data, None, &EvalOptions { go_on: &half(0.45), ..*opts })?;
    let bootstrap = opts.bootstrap(beside.len());
    let found = differences(
        &beside,
        &[from_ref(&measured)],
        opts.metric,
        Bootstrap { go_on: &|_| (opts.go_on)(0.95), ..bootstrap },
    )?;
    Ok((measured.scores(opts.metric)?, found.into_iter().next()))
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
    // Parts of the work by number of forwards: merged, random routes, fixed experts, the baseline; the intervals count as one.
    let all = (3 + routes + experts) as f64;
    let (done, part) = (Cell::new(0.0), Cell::new(1.0));
    let within = |share: f64| (opts.go_on)((done.get() + share * part.get()) / all);
    let opts = &EvalOptions { go_on: &within, ..*opts };
    let next = |size: usize| {
        done.set(done.get() + part.get());
        part.set(size as f64);
    };

    let own = MergeWeights::own(model.mixture())?;
    let merged = along(&model.merged(&own)?, data, None, opts)?;
    next(1);
    let mut report = EvalReport {
        metric: choice_name(opts.metric),
        higher_is_better: metrics::higher_is_better(opts.metric),
        rows: M::rows(data),
        merged: merged.scores(opts.metric)?,
        merged_with: model
            .mixture()
            .map(|_| if own.is_uniform() { MergedWith::UniformWeights } else { MergedWith::ImportedScores }),
        confusion: merged.confusion().filter(|counts| counts.len() <= MOST_CLASSES).unwrap_or_default(),
        ..EvalReport::default()
    };
    let base = model.baseline(data, opts)?;
    report.majority = base.score;
    report.base = base.of_model.as_ref().map(|way| Ok::<_, Error>(Box::new(way.scores(opts.metric)?))).transpose()?;
    let Some(mixture) = model.mixture() else {
        return Ok(EvalReport { random: vec![report.merged.clone()], ensemble: report.merged.clone(), ..report });
    };
    next(routes);
    let drawn: Vec<Route> = (0..routes).map(|index| random_route(mixture, sites, opts.seed, index)).collect();
    let drawn: Vec<Option<&Route>> = drawn.iter().map(Some).collect();
    let (random, ensemble) = model.results(data, &all_rows::<M>(data), &drawn, opts)?;
    let mut fixed = Vec::with_capacity(experts);
    for expert in 0..experts {
        next(1);
        fixed.push(along(model, data, Some(&Route::fixed(mixture, sites, expert)), opts)?);
    }
    let scores = |ways: &[RowResults]| ways.iter().map(|way| way.scores(opts.metric)).collect::<Result<Vec<_>>>();
    (report.random, report.fixed, report.ensemble) = (scores(&random)?, scores(&fixed)?, ensemble.scores(opts.metric)?);
    next(1);
    let variants = Variants { merged, random, ensemble, fixed, base: base.of_model };
    report.paired = variants.differences(opts)?.map(Box::new);
    report.costs = Some(Box::new(costs(model, routes)));
    opts.check(1.0)?;
    Ok(report)
}

/// What the variants of a model make of the same rows.
struct Variants {
    merged: RowResults,
    random: Vec<RowResults>,
    ensemble: RowResults,
    fixed: Vec<RowResults>,
    base: Option<RowResults>,
}

impl Variants {
    /// The differences of all of them from the merged model; nothing of fewer than two rows.
    fn differences(&self, opts: &EvalOptions<'_>) -> Result<Option<PairedReport>> {
        if self.merged.len() < 2 {
            return Ok(None);
        }
        let resampled = !self.random.is_empty();
        let mut groups: Vec<&[RowResults]> = Vec::new();
        if resampled {
            groups.extend([&self.random[..], from_ref(&self.ensemble)]);
        }
        groups.extend(self.fixed.iter().map(from_ref));
        groups.extend(self.base.iter().map(from_ref));
        let found = differences(&self.merged, &groups, opts.metric, opts.bootstrap(self.merged.len()))?;
        let mut found = found.into_iter();
        let mut next = |is: bool| if is { found.next() } else { None };
        Ok(Some(PairedReport {
            resamples: RESAMPLES,
            random_mean: next(resampled),
            ensemble: next(resampled),
            fixed: self.fixed.iter().filter_map(|_| next(true)).collect(),
            base: next(self.base.is_some()),
        }))
    }
}

/// What the variants of a mixture cost with an ensemble of so many routes.
pub fn costs<M: Network>(model: &M, routes: usize) -> Costs {
    let counts = model.counts();
    let layers: usize = model
        .layer_modules()
        .iter()
        .flat_map(|layer| &layer.linears)
        .map(|linear| linear.linear.weight().elem_count())
        .sum();
    let one_of = |bank: &Bank| bank.weight().elem_count() / bank.experts().max(1);
    let modules: usize = model.sites().iter().flat_map(|site| SIDES.map(|side| one_of(site.bank(side)))).sum();
    let way = |parameters: usize, forwards: usize, modules: usize| WayCost {
        parameters,
        forwards,
        multiply_adds: forwards * (layers + modules),
    };
    let all = counts.trained - counts.head;
    Costs {
        merged: way(counts.merged, 1, modules),
        route: way(all, 1, modules),
        ensemble: way(all, routes, modules),
        base: way(0, 1, 0),
    }
}
